import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { embeddedHost, MIB } from "./embedded-host.ts";
import { text, type SignedHost } from "./signed-host.ts";

let host: SignedHost;
let close: () => Promise<void>;
let victim: string;
let hostile: string;

beforeAll(async () => {
  ({ host, close } = await embeddedHost());
  victim = await host.sandbox();
}, 30_000);
afterAll(() => close());
beforeEach(async () => {
  hostile = await host.sandbox();
});
afterEach(() => host.call("DELETE", hostile));

/** Runs something in the hostile sandbox for a while, and sees how the other one and the daemon fare. */
async function othersFareWell(script: string): Promise<void> {
  const before = process.memoryUsage().rss;
  await host.exec(hostile, ["sh", "-c", script], {}, 0).catch(() => undefined);
  for (let round = 0; round < 10; round++) {
    const begin = Date.now();
    expect(text((await host.exec(victim, ["echo", "well"])).output!.stdout)).toBe("well\n");
    expect(Date.now() - begin).toBeLessThan(1_500);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * MIB);
}

test("nothing in the control directory can be made, replaced or removed", async () => {
  const script = `
    cd /.sandbar
    for name in *; do rm -f "$name"; ln -sf /etc/passwd "$name"; mv "$name" x; true >>launcher.sh; done 2>/tmp/errors
    mkfifo mine 2>>/tmp/errors; head -c 1000000 /dev/zero >fill 2>>/tmp/errors; mount -o remount,rw /.sandbar 2>>/tmp/errors
    ls; grep -c 'Read-only' /tmp/errors`;
  const { output } = await host.exec(hostile, ["sh", "-c", script]);
  const lines = text(output!.stdout).trim().split("\n");
  expect(lines).not.toContain("mine");
  expect(lines).not.toContain("fill");
  expect(lines).toContain("cmd");
  expect(Number(lines.at(-1))).toBeGreaterThan(5);
  expect(text((await host.exec(hostile, ["echo", "fine"])).output!.stdout)).toBe("fine\n");
});

test("a flood of the status of its own processes costs it those processes", async () => {
  const running = await host.exec(hostile, ["sleep", "60"], {}, 0);
  await othersFareWell("for st in /.sandbar/*.st; do yes >$st & done; wait");
  const status = await host.call("GET", `${hostile}/processes/${running.process_id}?wait_ms=5000`);
  expect(status.json.returncode).toBe(137);
});

test.each(["cmd", "alive"])("a flood of `%s` harms itself only", async (fifo) => {
  await othersFareWell(`yes >/.sandbar/${fifo} & yes zz >/.sandbar/${fifo} & wait`);
  expect((await host.call("DELETE", hostile)).status).toBe(204);
});

test("who reads the commands away cannot make a call hang", async () => {
  await host.exec(hostile, ["sh", "-c", "cat /.sandbar/cmd >/dev/null & cat /.sandbar/cmd >/dev/null & wait"], {}, 0);
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

test("kills of all it can see leave it usable, and others alone", async () => {
  const other = await host.exec(victim, ["sleep", "60"], {}, 0);
  await host.exec(hostile, ["sh", "-c", "kill -9 -1"]).catch(() => undefined);
  await host.exec(hostile, ["sh", "-c", "kill -9 1; kill -STOP 1; echo $?"]);
  expect(text((await host.exec(hostile, ["echo", "alive"])).output!.stdout)).toBe("alive\n");
  expect((await host.call("GET", `${victim}/processes/${other.process_id}`)).json.returncode).toBeNull();
});

test("lies about its processes reach no process outside", async () => {
  const ownPid = process.pid;
  const script = `for st in /.sandbar/*.st; do printf 'pid ${ownPid}\\npid 1\\n' >$st; done; sleep 5`;
  const { process_id } = await host.exec(hostile, ["sh", "-c", script], {}, 0);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const late = await host.exec(hostile, ["sleep", "60"], { timeout_ms: 500 });
  expect(late.returncode).toBe(137);
  await host.send("POST", `${hostile}/processes/${process_id}/signal`, { signal: "SIGKILL" });
  expect(readFileSync(`/proc/${ownPid}/stat`, "utf8")).toContain(String(ownPid));
});

test("a launcher held still ends with its sandbox, and takes nobody along", async () => {
  const stop = "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || kill -STOP $p; done";
  await host.exec(hostile, ["sh", "-c", stop], {}, 1_000).catch(() => undefined);
  const stuck = host.exec(hostile, ["true"]).catch((error: Error) => error.message);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect((await host.call("DELETE", hostile)).status).toBe(204);
  expect(String(await stuck)).toMatch(/sandbox_ended|exec_failed/);
  expect(text((await host.exec(victim, ["echo", "well"])).output!.stdout)).toBe("well\n");
});
