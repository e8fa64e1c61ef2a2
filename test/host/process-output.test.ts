import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { embeddedHost, MIB } from "./embedded-host.ts";
import { text, type SignedHost } from "./signed-host.ts";

const WINDOW_BYTES = 4 * MIB;
let host: SignedHost;
let close: () => Promise<void>;
let box: string;

beforeAll(async () => {
  ({ host, close } = await embeddedHost({ windowBytes: WINDOW_BYTES }));
  box = await host.sandbox();
}, 30_000);
afterAll(() => close());

const path = (processId: string) => `${box}/processes/${processId}`;
const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

describe("output by offset", () => {
  test("is exact, binary, and stderr is never folded into stdout", async () => {
    const script = "head -c 300000 /dev/urandom | tee /tmp/random; printf 'to stderr\\377' >&2";
    const { process_id } = await host.exec(box, ["sh", "-c", script]);
    const stdout = (await host.call("GET", `${path(process_id)}/stdout`)).body;
    const kept = (await host.call("GET", `${box}/files?path=/tmp/random`)).body;
    expect(digest(stdout)).toBe(digest(kept));
    expect((await host.call("GET", `${path(process_id)}/stderr`)).body.toString("latin1")).toBe("to stderr\xff");
    const middle = (await host.call("GET", `${path(process_id)}/stdout?offset=299990`)).body;
    expect(middle).toEqual(stdout.subarray(299_990));
    expect((await host.call("GET", `${path(process_id)}/stdout?offset=300000&follow=true`)).body.length).toBe(0);
  });

  test("follows to the end, and does not follow unasked", async () => {
    const { process_id } = await host.exec(box, ["sh", "-c", "echo one; sleep 0.5; echo two"], {}, 0);
    const followed = host.call("GET", `${path(process_id)}/stdout?follow=true`);
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect((await host.call("GET", `${path(process_id)}/stdout`)).body.toString()).toBe("one\n");
    expect((await followed).body.toString()).toBe("one\ntwo\n");
  });

  test("beyond the window is gone, and it is said from where it is kept", async () => {
    const size = 20 * MIB;
    const { process_id, stdout_bytes, output } = await host.exec(box, ["head", "-c", String(size), "/dev/zero"]);
    expect(stdout_bytes).toBe(size);
    expect(output).toMatchObject({ stdout_truncated: true });
    expect(Buffer.from(output!.stdout, "base64").length).toBe(MIB);
    const gone = await host.call("GET", `${path(process_id)}/stdout?offset=0`);
    expect([gone.status, gone.json.code]).toEqual([410, "output_expired"]);
    const oldest = gone.json.oldest_offset as number;
    expect(size - oldest).toBeGreaterThanOrEqual(WINDOW_BYTES);
    expect(size - oldest).toBeLessThanOrEqual(WINDOW_BYTES + MIB);
    expect((await host.call("GET", `${path(process_id)}/stdout?offset=${oldest}`)).body.length).toBe(size - oldest);
  });

  test("a process that nobody reads is not held up", async () => {
    const begin = Date.now();
    const status = await host.exec(box, ["head", "-c", String(200 * MIB), "/dev/zero"], {}, 20_000);
    expect(status).toMatchObject({ returncode: 0, stdout_bytes: 200 * MIB });
    expect(Date.now() - begin).toBeLessThan(5_000);
  });

  test("a reader that stops reading holds the process for a moment only, and costs no memory", async () => {
    const { process_id } = await host.exec(
      box,
      ["head", "-c", String(200 * MIB), "/dev/zero"],
      { is_followed: true },
      0,
    );
    const stalled = await host.open("GET", `${path(process_id)}/stdout?follow=true`);
    stalled.pause();
    const before = process.memoryUsage().rss;
    const ended = (await host.call("GET", `${path(process_id)}?wait_ms=30000`)).json;
    expect(ended).toMatchObject({ returncode: 0, stdout_bytes: 200 * MIB });
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * MIB);
    stalled.on("error", () => {}).destroy();
  }, 40_000);

  test("a reader cut fifty times comes back at its offset and misses nothing", async () => {
    await host.exec(box, ["sh", "-c", "head -c 104857600 /dev/urandom >/tmp/big"], {}, 60_000);
    const sum = text((await host.exec(box, ["sha256sum", "/tmp/big"])).output!.stdout).slice(0, 64);
    const { process_id } = await host.exec(box, ["cat", "/tmp/big"], { is_followed: true }, 0);
    const hash = createHash("sha256");
    let offset = 0;
    let cuts = 0;
    while (offset < 100 * MIB) {
      const answer = await host.open("GET", `${path(process_id)}/stdout?offset=${offset}&follow=true`);
      expect(answer.statusCode).toBe(200);
      const cutAt = cuts < 50 ? offset + Math.ceil(Math.random() * 3 * MIB) : Infinity;
      answer.on("error", () => {});
      for await (const chunk of answer) {
        const bytes = (chunk as Buffer).subarray(0, cutAt - offset);
        hash.update(bytes);
        offset += bytes.length;
        if (offset >= cutAt) break;
      }
      answer.destroy();
      cuts++;
      if (cuts === 10) await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    expect(cuts).toBeGreaterThanOrEqual(50);
    expect(hash.digest("hex")).toBe(sum);
  }, 60_000);

  test("two hundred processes, each with a reader: no byte is missing", async () => {
    const script = "i=0; while [ $i -lt 20 ]; do head -c 1000 /dev/zero; sleep 0.02; i=$((i+1)); done";
    const lengths = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const { process_id } = await host.exec(box, ["sh", "-c", script], {}, 0);
        return (await host.call("GET", `${path(process_id)}/stdout?follow=true`)).body.length;
      }),
    );
    expect(new Set(lengths)).toEqual(new Set([20_000]));
  }, 60_000);

  test("what is ignored goes nowhere and blocks nobody", async () => {
    const status = await host.exec(box, ["sh", "-c", "head -c 3000000 /dev/zero; echo err >&2"], { stdout: "ignore" });
    expect(status).toMatchObject({ returncode: 0, stdout_bytes: 0, stderr_bytes: 4 });
  });

  test("something in the background holds no output open, and is not killed for writing", async () => {
    const script = "echo here; (sleep 0.6; echo late; touch /tmp/survived) & exit 3";
    const begin = Date.now();
    const status = await host.exec(box, ["sh", "-c", script]);
    expect([status.returncode, text(status.output!.stdout)]).toEqual([3, "here\n"]);
    expect(Date.now() - begin).toBeLessThan(600);
    await expect.poll(async () => (await host.exec(box, ["test", "-e", "/tmp/survived"])).returncode).toBe(0);
  });

  test("stays readable for a while after the sandbox has ended", async () => {
    const other = await host.sandbox({ entrypoint: ["sh", "-c", "echo last words; exit 4"] });
    await expect.poll(async () => (await host.call("GET", other)).json.kind).toBe("exited");
    expect((await host.call("GET", `${other}/processes/main`)).json).toMatchObject({
      returncode: 4,
      finish_reason: "exited",
    });
    await host.call("DELETE", other);
    expect((await host.call("GET", `${other}/processes/main/stdout`)).body.toString()).toBe("last words\n");
  });
});

interface Event {
  id: string | undefined;
  event: string;
  data: Record<string, unknown>;
}

const parseEvents = (body: string): Event[] =>
  body
    .split("\n\n")
    .filter(Boolean)
    .map((block) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
      return { id: field("id"), event: field("event")!, data: JSON.parse(field("data")!) as Event["data"] };
    });

describe("events", () => {
  test("carry both outputs and the end, and resume at any of their cursors", async () => {
    const script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three; exit 5";
    const { process_id } = await host.exec(box, ["sh", "-c", script], {}, 0);
    const all = parseEvents((await host.call("GET", `${path(process_id)}/events`)).body.toString());
    expect(all.map(({ event, id }) => [event, id])).toEqual([
      ["stdout", "4.0"],
      ["stderr", "4.4"],
      ["stdout", "10.4"],
      ["exit", "10.4"],
    ]);
    expect(text(all[2]!.data.data as string)).toBe("three\n");
    expect(all[3]!.data).toMatchObject({ returncode: 5, finish_reason: "exited", timed_out: false, stdout_bytes: 10 });
    const rest = await host.call("GET", `${path(process_id)}/events?stdout=4&stderr=2`);
    expect(parseEvents(rest.body.toString()).map(({ event, id }) => [event, id])).toEqual([
      ["stdout", "10.2"],
      ["stderr", "10.4"],
      ["exit", "10.4"],
    ]);
  });

  test("of a reader that was too slow end with an error that says from where there is more", async () => {
    const { process_id } = await host.exec(box, ["head", "-c", String(20 * MIB), "/dev/zero"]);
    expect((await host.call("GET", `${path(process_id)}/events`)).json.code).toBe("output_expired");
  });
});

describe("input", () => {
  const stdin = (processId: string, query: string, body?: string) =>
    host.call("POST", `${path(processId)}/stdin${query}`, body === undefined ? {} : { body });

  test("goes in by offset, and what is sent again is not written again", async () => {
    const { process_id } = await host.exec(box, ["cat"], { open_stdin: true, stdin: btoa("first ") }, 0);
    expect((await stdin(process_id, "?offset=6", "second ")).json).toEqual({ offset: 13, closed: false });
    expect((await stdin(process_id, "?offset=6", "second third ")).json).toEqual({ offset: 19, closed: false });
    expect((await stdin(process_id, "?offset=0", "first ")).json).toEqual({ offset: 19, closed: false });
    const gap = await stdin(process_id, "?offset=30", "x");
    expect([gap.status, gap.json.code, gap.json.offset]).toEqual([409, "stdin_gap", 19]);
    expect((await stdin(process_id, "", "fourth")).json).toEqual({ offset: 25, closed: false });
    expect((await stdin(process_id, "?eof=true")).json).toEqual({ offset: 25, closed: true });
    expect((await host.call("GET", `${path(process_id)}/stdout?follow=true`)).body.toString()).toBe(
      "first second third fourth",
    );
    expect((await stdin(process_id, "?offset=25", "x")).json.code).toMatch(/process_ended|stdin_closed/);
  });

  test("of any size goes through, at the pace of the process", async () => {
    const { process_id } = await host.exec(box, ["sh", "-c", "sleep 0.5; sha256sum"], { open_stdin: true }, 0);
    const bytes = Buffer.alloc(30 * MIB, "abc");
    const answer = await host.call("POST", `${path(process_id)}/stdin?eof=true`, { body: bytes });
    expect(answer.json).toEqual({ offset: bytes.length, closed: true });
    const { body } = await host.call("GET", `${path(process_id)}/stdout?follow=true`);
    expect(body.toString().slice(0, 64)).toBe(digest(bytes));
  });

  test("to a process that takes none is refused, and one that ends meanwhile ends the call", async () => {
    const closed = await host.exec(box, ["sleep", "5"], {}, 0);
    expect((await stdin(closed.process_id, "", "x")).json.code).toBe("stdin_closed");
    const short = await host.exec(box, ["sleep", "0.5"], { open_stdin: true }, 0);
    const answer = await host.call("POST", `${path(short.process_id)}/stdin`, { body: Buffer.alloc(MIB) });
    expect(answer.json.code).toBe("process_ended");
  });
});

describe("ends are told apart", () => {
  test.runIf(process.getuid?.() === 0)("out of memory, where memory can be limited", async () => {
    const small = await host.sandbox({ memory: 64 });
    const hungry = ["perl", "-e", "$x = 'a' x 200_000_000; sleep 5"];
    expect(await host.exec(small, hungry)).toMatchObject({ returncode: 137, finish_reason: "oom" });
    expect(await host.exec(small, ["sh", "-c", "kill -KILL $$"])).toMatchObject({ finish_reason: "signaled" });
    await host.call("DELETE", small);
  });

  test("exit, signal, timeout, and the end of the sandbox", async () => {
    expect(await host.exec(box, ["sh", "-c", "exit 7"])).toMatchObject({ returncode: 7, finish_reason: "exited" });
    expect(await host.exec(box, ["sh", "-c", "kill -TERM $$"])).toMatchObject({
      returncode: 143,
      finish_reason: "signaled",
    });
    expect(await host.exec(box, ["sleep", "60"], { timeout_ms: 100 })).toMatchObject({
      returncode: 137,
      timed_out: true,
      finish_reason: "timeout",
    });
    const small = await host.sandbox();
    const running = await host.exec(small, ["sleep", "60"], {}, 0);
    const waiting = host.call("GET", `${small}/processes/${running.process_id}/events`);
    await host.call("DELETE", small);
    expect(parseEvents((await waiting).body.toString()).at(-1)).toMatchObject({
      event: "exit",
      data: { returncode: 137, finish_reason: "sandbox_ended" },
    });
  });
});
