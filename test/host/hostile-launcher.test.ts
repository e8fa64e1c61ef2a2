import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { embeddedHost } from "./embedded-host.ts";
import { launcherHoldsOut, othersFareWell } from "./hostile-contract.ts";
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

const now = () => ({ host, hostile, victim });

describe("a hostile sandbox", () => launcherHoldsOut(now, "/.sandbar"));

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
  await othersFareWell(now(), "for st in /.sandbar/*.st; do yes >$st & done; wait");
  const status = await host.call("GET", `${hostile}/processes/${running.process_id}?wait_ms=5000`);
  expect(status.json.returncode).toBe(137);
});

test.each(["cmd", "alive"])("a flood of `%s` harms itself only", async (fifo) => {
  await othersFareWell(now(), `yes >/.sandbar/${fifo} & yes zz >/.sandbar/${fifo} & wait`);
  expect((await host.call("DELETE", hostile)).status).toBe(204);
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
