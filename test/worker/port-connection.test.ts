import { expect, it } from "vitest";
import { untilPassed, whilePassing } from "../../src/backends/cloudflare/port-connection.ts";

const encoder = new TextEncoder();

/** What moves and what is done, as it happens. */
function watch() {
  const seen: string[] = [];
  return { seen, moved: () => void seen.push("moved"), done: () => void seen.push("done") };
}

it("tells of an answer each time that something of it passes, and once when it is over", async () => {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const { seen, moved, done } = watch();
  const headers = new Headers({ "content-encoding": "gzip", "x-mine": "1", "x-sandbar-problem": "unauthenticated" });
  for (const cookie of ["a=1", "b=2"]) headers.append("set-cookie", cookie);
  const answer = untilPassed(new Response(readable, { status: 203, headers, encodeBody: "manual" }), done, moved);
  expect([answer.status, answer.headers.get("x-mine")]).toEqual([203, "1"]);
  expect(answer.headers.has("x-sandbar-problem")).toBe(false);
  expect(answer.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
  const reader = answer.body!.getReader();
  for (const word of ["one", "two"]) {
    void writer.write(encoder.encode(word));
    expect(new TextDecoder().decode((await reader.read()).value)).toBe(word);
  }
  expect(seen).toEqual(["moved", "moved"]);
  await writer.close();
  expect((await reader.read()).done).toBe(true);
  await expect.poll(() => seen).toEqual(["moved", "moved", "done"]);
});

it("is done with an answer that its client no longer wants, or that breaks off", async () => {
  for (const end of [
    (reader: ReadableStreamDefaultReader) => reader.cancel(),
    (_: ReadableStreamDefaultReader, writer: WritableStreamDefaultWriter) => writer.abort(new Error("cut")),
  ]) {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const { seen, moved, done } = watch();
    const reader = untilPassed(new Response(readable), done, moved).body!.getReader();
    void writer.write(encoder.encode("begun"));
    await reader.read();
    await end(reader, writer).catch(() => undefined);
    void writer.write(encoder.encode("more")).catch(() => undefined);
    await expect.poll(() => seen.at(-1)).toBe("done");
    expect(seen.filter((what) => what === "done").length).toBe(1);
  }
});

it("tells of what an upload sends, which keeps its length", async () => {
  const { seen, moved } = watch();
  const request = new Request("http://x.test/a?b", {
    method: "POST",
    headers: { "content-length": "5", "x-mine": "1" },
    body: new Response("hello").body,
  });
  const passing = whilePassing(request, moved);
  expect([passing.url, passing.method, passing.headers.get("x-mine")]).toEqual(["http://x.test/a?b", "POST", "1"]);
  expect(await passing.text()).toBe("hello");
  expect(seen).toEqual(["moved"]);
  const bare = new Request("http://x.test/");
  expect(whilePassing(bare, moved)).toBe(bare);
});
