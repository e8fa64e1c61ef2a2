import { afterAll, beforeAll, expect, test } from "vitest";
import { embeddedHost } from "./embedded-host.ts";
import { until, type SignedHost } from "./signed-host.ts";

let host: SignedHost;
let close: () => Promise<void>;
let box: string;

beforeAll(async () => {
  ({ host, close } = await embeddedHost());
  box = await host.sandbox();
}, 30_000);
afterAll(() => close());

const SIZE = { rows: 40, cols: 100 };
const path = (processId: string) => `${box}/processes/${processId}`;
const start = async (command: string[], more: object = {}) =>
  (await host.exec(box, command, { pty: SIZE, ...more }, 0)).process_id;
const screen = async (processId: string) => (await host.call("GET", `${path(processId)}/stdout`)).body.toString();
const type = (processId: string, keys: string) => host.call("POST", `${path(processId)}/stdin`, { body: keys });
const ended = async (processId: string) => (await host.call("GET", `${path(processId)}?wait_ms=5000`)).json;

test("a process on a terminal knows it, its size and its name; outputs are one", async () => {
  const id = await start([
    "sh",
    "-c",
    "tty; stty size; echo err >&2; test -t 0 && test -t 1 && test -t 2; echo $?; echo $TERM",
  ]);
  expect(await ended(id)).toMatchObject({ returncode: 0, stderr_bytes: 0 });
  expect(await screen(id)).toMatch(/^\/dev\/pts\/\d+\r\n40 100\r\nerr\r\n0\r\nxterm-256color\r\n$/);
});

test("Ctrl-C reaches what runs in the foreground, and the shell goes on", async () => {
  const id = await start(["sh", "-i"]);
  await type(id, "sleep 1000\n");
  await until(async () => (await host.exec(box, ["pgrep", "-f", "^sleep 1000"])).returncode === 0);
  await type(id, "\x03");
  await type(id, "echo back $((6 * 7))\n");
  await until(async () => (await screen(id)).includes("back 42"));
  await type(id, "exit 5\n");
  expect(await ended(id)).toMatchObject({ returncode: 5 });
});

test("its size changes, and the program is told", async () => {
  const script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
  const id = await start(["sh", "-c", script], { timeout_ms: 20_000 });
  await until(async () => (await screen(id)).includes("ready"));
  expect((await host.send("POST", `${path(id)}/resize`, { rows: 12, cols: 34 })).status).toBe(204);
  await until(async () => (await screen(id)).includes("12 34"));
  await host.send("POST", `${path(id)}/signal`, { signal: "SIGKILL" });
  expect(await ended(id)).toMatchObject({ returncode: 137 });
  expect((await host.send("POST", `${path(id)}/resize`, SIZE)).json.code).toBe("process_ended");
});

test("the end of its input is an end of transmission", async () => {
  const id = await start(["cat"]);
  await type(id, "line\n");
  await host.call("POST", `${path(id)}/stdin?eof=true`);
  expect(await ended(id)).toMatchObject({ returncode: 0 });
  expect(await screen(id)).toBe("line\r\nline\r\n");
});

test("a program that does not read what is typed holds up nobody else", async () => {
  const id = await start(["sh", "-c", "stty raw -echo; echo ready; sleep 600"]);
  await until(async () => (await screen(id)).includes("ready"));
  const typing = host.call("POST", `${path(id)}/stdin`, { body: Buffer.alloc(300_000, "x") });
  for (let round = 0; round < 5; round++) {
    const begin = Date.now();
    expect((await host.exec(box, ["true"])).returncode).toBe(0);
    expect(Date.now() - begin).toBeLessThan(1_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await host.send("POST", `${path(id)}/signal`, { signal: "SIGKILL" });
  expect((await typing).json.code).toBe("process_ended");
});

test("what is left on a terminal whose process has ended is hung up on", async () => {
  const id = await start(["sh", "-c", "sleep 1001 & exit 0"]);
  expect(await ended(id)).toMatchObject({ returncode: 0 });
  await until(async () => (await host.exec(box, ["pgrep", "-f", "^sleep 1001"])).returncode === 1);
});

test("a process without a terminal has no size", async () => {
  const { process_id } = await host.exec(box, ["sleep", "5"], {}, 0);
  expect((await host.send("POST", `${path(process_id)}/resize`, SIZE)).json.code).toBe("not_a_terminal");
});

test("an entrypoint can have one, too", async () => {
  const main = await host.sandbox({ entrypoint: ["sh", "-c", "stty size; read line; echo got $line"], pty: SIZE });
  await until(async () => (await host.call("GET", `${main}/processes/main/stdout`)).body.toString() === "40 100\r\n");
  await host.call("POST", `${main}/processes/main/stdin`, { body: "it\n" });
  await until(async () => (await host.call("GET", main)).json.kind === "exited");
  expect((await host.call("GET", `${main}/processes/main/stdout`)).body.toString()).toContain("got it");
});

test.runIf(process.getuid?.() === 0)("who runs it can be chosen", async () => {
  const who = async (user: string) => {
    const { returncode, output } = await host.exec(box, ["sh", "-c", "id -u; id -g; echo $HOME"], { user });
    return [returncode, atob(output!.stdout), atob(output!.stderr)];
  };
  expect(await who("nobody")).toEqual([0, "65534\n65534\n/nonexistent\n", ""]);
  expect(await who("1234:55")).toEqual([0, "1234\n55\n/\n", ""]);
  expect(await who("0:nogroup")).toEqual([0, "0\n65534\n/root\n", ""]);
  expect(await who("whoever")).toEqual([126, "", "sandbar: there is no user whoever\n"]);
  const id = await start(["sh", "-c", "id -u; echo x >$(tty)"], { user: "nobody" });
  await ended(id);
  expect(await screen(id)).toBe("65534\r\nx\r\n");
});
