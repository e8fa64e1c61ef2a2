import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { MIB } from "./embedded-host.ts";
import { text, type SignedHost } from "./signed-host.ts";

/** Two sandboxes of a host, by their paths: what happens in the hostile one is no business of the other. */
export interface Neighbours {
  host: SignedHost;
  hostile: string;
  victim: string;
}

/** Runs something in the hostile sandbox for a while, and sees how the other one and the daemon fare. */
export async function othersFareWell({ host, hostile, victim }: Neighbours, script: string): Promise<void> {
  const before = process.memoryUsage().rss;
  await host.exec(hostile, ["sh", "-c", script], {}, 0).catch(() => undefined);
  for (let round = 0; round < 10; round++) {
    const begin = Date.now();
    expect(text((await host.exec(victim, ["echo", "well"])).output!.stdout)).toBe("well\n");
    expect(Date.now() - begin).toBeLessThan(1_500);
    await sleep(100);
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * MIB);
}

/** What a sandbox may do to its launcher on any runtime. `dir`: where it sees the control directory. */
export function launcherHoldsOut(now: () => Neighbours, dir: string): void {
  it("reads its commands away, and makes no call hang", async () => {
    const { host, hostile } = now();
    await host.exec(hostile, ["sh", "-c", `cat ${dir}/cmd >/dev/null & cat ${dir}/cmd >/dev/null & wait`], {}, 0);
    const begin = Date.now();
    await Promise.all(
      Array.from({ length: 10 }, () =>
        host.exec(hostile, ["true"]).then(
          ({ returncode }) => expect(returncode).toBe(0),
          (error: Error) => expect(error.message).toContain("exec_failed"),
        ),
      ),
    );
    expect(Date.now() - begin).toBeLessThan(15_000);
  }, 30_000);

  it("kills all it can see, stays usable, and others live", async () => {
    const { host, hostile, victim } = now();
    const other = await host.exec(victim, ["sleep", "60"], {}, 0);
    await host.exec(hostile, ["sh", "-c", "kill -9 -1"]).catch(() => undefined);
    await host.exec(hostile, ["sh", "-c", "kill -9 1; kill -STOP 1; echo $?"]);
    expect(text((await host.exec(hostile, ["echo", "alive"])).output!.stdout)).toBe("alive\n");
    expect((await host.call("GET", `${victim}/processes/${other.process_id}`)).json.returncode).toBeNull();
  });

  it("lies about its processes, and reaches none outside", async () => {
    const { host, hostile, victim } = now();
    const other = await host.exec(victim, ["sleep", "60"], {}, 0);
    const lies = `pid ${process.pid}\\npid 1\\npid 2\\n`;
    const script = `for st in ${dir}/*.st; do printf '${lies}' >$st; done; sleep 5`;
    const { process_id } = await host.exec(hostile, ["sh", "-c", script], {}, 0);
    await sleep(200);
    const late = await host.exec(hostile, ["sleep", "60"], { timeout_ms: 500 });
    expect(late.returncode).toBe(137);
    await host.send("POST", `${hostile}/processes/${process_id}/signal`, { signal: "SIGKILL" });
    expect(readFileSync(`/proc/${process.pid}/stat`, "utf8")).toContain(String(process.pid));
    expect((await host.call("GET", `${victim}/processes/${other.process_id}`)).json.returncode).toBeNull();
  });
}
