import { runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { call, connectHost, HOST_ID, forgetHosts } from "./client.ts";
import { getSandbox, objectOf, startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  await forgetHosts();
  await connectHost();
});

/** Lets the alarm go off as if so much time had passed, the host having reported up to `reportedMs` before. */
async function look(sandboxId: string, ms: number, silentMs: number): Promise<void> {
  const then = Date.now() + ms;
  await connectHost(HOST_ID, then - silentMs);
  vi.spyOn(Date, "now").mockReturnValue(then);
  try {
    await runDurableObjectAlarm(objectOf(sandboxId));
  } finally {
    vi.restoreAllMocks();
  }
}

describe("a host that does not answer", () => {
  it("is waited for while it was heard of of late, and then its sandboxes are lost", async () => {
    const sandboxId = await startSandbox({ timeout: 86_400 });
    fakeHost.isDown = true;
    await look(sandboxId, 61_000, 60_000);
    expect((await getSandbox(sandboxId)).state).toBe("ready");
    await look(sandboxId, 370_000, 299_000);
    expect((await getSandbox(sandboxId)).state).toBe("ready");
    await look(sandboxId, 431_000, 301_000);
    expect(await getSandbox(sandboxId)).toMatchObject({
      state: "terminated",
      finish_reason: "host_lost",
      error: expect.stringContaining("301 s"),
    });
  });

  it("is not lost by an outage of all: it has to be asked in vain for as long, too", async () => {
    const sandboxId = await startSandbox({ timeout: 86_400 });
    for (const round of [0, 1]) {
      fakeHost.isDown = true;
      await look(sandboxId, 61_000 + round * 1_200_000, 3_600_000);
      await look(sandboxId, 300_000 + round * 1_200_000, 3_600_000);
      fakeHost.isDown = false;
      await look(sandboxId, 600_000 + round * 1_200_000, 3_600_000);
      expect((await getSandbox(sandboxId)).state).toBe("ready");
    }
  });

  it("does not lose them while it is silent but there", async () => {
    const sandboxId = await startSandbox({ timeout: 86_400 });
    await look(sandboxId, 61_000, 3_600_000);
    expect((await getSandbox(sandboxId)).state).toBe("ready");
  });

  it("loses them at the next look when it was removed", async () => {
    const sandboxId = await startSandbox({ timeout: 86_400 });
    fakeHost.isDown = true;
    expect((await call("DELETE", `/v1/hosts/${HOST_ID}`)).status).toBe(204);
    vi.spyOn(Date, "now").mockReturnValue(Date.now() + 61_000);
    await runDurableObjectAlarm(objectOf(sandboxId)).finally(() => vi.restoreAllMocks());
    expect(await getSandbox(sandboxId)).toMatchObject({
      finish_reason: "host_lost",
      error: expect.stringContaining("removed"),
    });
  });

  it("is told of its container's end when it has one to tell", async () => {
    const sandboxId = await startSandbox({ timeout: 86_400, entrypoint: ["sleep", "600"] });
    fakeHost.exit(sandboxId, { returncode: 5 });
    await look(sandboxId, 61_000, 0);
    expect(await getSandbox(sandboxId)).toMatchObject({ state: "finished", finish_reason: "exited", returncode: 5 });
  });
});
