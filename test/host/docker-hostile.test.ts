import { execSync } from "node:child_process";
import { createHash } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { DockerHost, IMAGE, makeImage, noEngine, removeImages } from "./docker-host.ts";
import { launcherHoldsOut, othersFareWell } from "./hostile-contract.ts";
import { SignedHost, text, until } from "./signed-host.ts";

describe.skipIf(noEngine !== undefined)("a hostile sandbox on docker", { timeout: 60_000 }, () => {
  let docker: DockerHost;
  let host: SignedHost;
  let victim: string;
  let hostile: string;

  beforeAll(async () => {
    docker = await DockerHost.open();
    host = await SignedHost.start(docker.runtime, { dataDir: docker.dataDir });
    victim = await host.sandbox({ image: IMAGE });
  });
  afterAll(async () => {
    await host.daemon.close({ stopContainers: true });
    expect(docker.left()).toBe("");
    await docker.close();
  });
  beforeEach(async () => {
    hostile = await host.sandbox({ image: IMAGE, memory: 256 });
    return () => host.call("DELETE", hostile);
  });

  /** The fingerprint of all that sandboxes see of this machine, FIFOs by their names. */
  const outside = () => {
    const tools = execSync("find tools -type f -exec sha256sum {} +; find tools -printf '%p %m %U\\n'", {
      cwd: docker.dataDir,
    });
    return createHash("sha256").update(tools).digest("hex");
  };

  const now = () => ({ host, hostile, victim });

  /** The same, and nothing outside has changed. */
  async function allFaresWell(script: string): Promise<void> {
    const before = outside();
    await othersFareWell(now(), script);
    expect(outside()).toBe(before);
  }

  launcherHoldsOut(now, "/.sandbar/run");

  it("can make, replace and remove nothing in the launcher's folders", async () => {
    const script = `
      cd /.sandbar
      for name in * run/*; do
        rm -rf "$name"; ln -sf /etc/passwd "$name"; mv "$name" x; [ -p "$name" ] || true >>"$name"; chmod 777 "$name"
      done 2>/tmp/errors
      mkfifo run/mine 2>>/tmp/errors; head -c 1000000 /dev/zero 2>>/tmp/errors >run/fill
      mount -o remount,rw /.sandbar/run 2>>/tmp/errors; umount /.sandbar/run 2>>/tmp/errors
      ls run; grep -c 'Read-only' /tmp/errors`;
    const before = outside();
    const { output } = await host.exec(hostile, ["sh", "-c", script]);
    const lines = text(output!.stdout).trim().split("\n");
    expect(lines).toContain("cmd");
    expect(lines).not.toContain("mine");
    expect(lines).not.toContain("fill");
    expect(Number(lines.at(-1))).toBeGreaterThan(5);
    expect(outside()).toBe(before);
    expect(text((await host.exec(hostile, ["echo", "fine"])).output!.stdout)).toBe("fine\n");
  });

  it.each(["cmd", "alive"])("that floods `%s` harms only itself", async (fifo) => {
    await allFaresWell(`yes >/.sandbar/run/${fifo} & yes zz >/.sandbar/run/${fifo} & wait`);
    expect((await host.call("DELETE", hostile)).status).toBe(204);
  });

  it("that says it is gone is taken at its word", async () => {
    await host.exec(hostile, ["sh", "-c", "yes >/.sandbar/run/alive"], {}, 0).catch(() => undefined);
    await until(async () => (await host.call("GET", hostile)).json.kind === "exited");
    const command = ["echo", "x"];
    await expect(host.exec(hostile, command)).rejects.toThrow("sandbox_ended");
  });

  it("that floods the status or the answers of its processes loses those processes", async () => {
    const running = await host.exec(hostile, ["sleep", "60"], {}, 0);
    await allFaresWell(
      "for st in /.sandbar/run/*.st; do yes >$st & done; for ack in /.sandbar/run/*.ack; do yes >$ack & done; wait",
    );
    const status = await host.call("GET", `${hostile}/processes/${running.process_id}?wait_ms=5000`);
    expect(status.json.returncode).toBe(137);
  });

  it("that kills its entrypoint's launcher has ended", async () => {
    const other = await host.sandbox({ image: IMAGE, entrypoint: ["sleep", "100"] });
    await host.exec(other, ["sh", "-c", "kill -9 -1"]).catch(() => undefined);
    await until(async () => (await host.call("GET", other)).json.kind === "exited");
    expect((await host.call("GET", other)).json.exit).toMatchObject({ returncode: 137 });
  });

  it("whose image has the host's own labels is told nothing by them", async () => {
    const labels = [
      "end-image=im-aaaaaaaaaaaaaaaaaaaaaa",
      "entrypoint=true",
      "gpus=GPU-1",
      "host=ho-x",
      "sandbox=sb-x",
    ];
    const image = makeImage("sandbar-hostile:labels", ...labels.map((label) => `LABEL dev.sandbar.${label}`));
    try {
      const container = await docker.start({ image });
      expect([container.endImage, container.main, container.gpus]).toEqual([undefined, undefined, []]);
      expect(container.sandboxId).not.toBe("sb-x");
      const again = (await docker.runtime.recover()).find(({ sandboxId }) => sandboxId === container.sandboxId)!;
      expect([again.endImage, again.main, again.gpus]).toEqual([undefined, undefined, []]);
      await container.stop();
    } finally {
      removeImages(image);
    }
  });

  it("that forks as much as it can harms only itself", async () => {
    await allFaresWell("bomb() { bomb | bomb & }; bomb; sleep 3");
    expect((await host.call("DELETE", hostile)).status).toBe(204);
  });
});
