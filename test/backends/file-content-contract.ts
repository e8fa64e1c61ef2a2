import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { endMarkerBytes } from "../../src/contract/end-marker.ts";
import { codeOf, emptyStream, stream } from "./under-test.ts";

/** What is in files, read and written. */
export function describeFileContent(backend: Backend): void {
  describe("content", () => {
    it("writes and reads files, whole and in part", async () => {
      const content = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7) % 256);
      await backend.writeFile("/tmp/new dir/it's.bin", stream(content), { size: content.length });
      const read = async (range?: Parameters<Backend["readFile"]>[1]) => {
        const file = await backend.readFile("/tmp/new dir/it's.bin", range);
        return { ...file, body: new Uint8Array(await new Response(file.body).arrayBuffer()) };
      };
      expect(await read()).toEqual({ body: content, size: content.length, range: undefined });
      expect((await read({ first: 5, last: 9 })).body).toEqual(content.slice(5, 10));
      expect((await read({ first: 299_990 })).body).toEqual(content.slice(299_990));
      expect(await read({ suffix: 10 })).toMatchObject({ range: { first: 299_990, last: 299_999 } });
      expect(await codeOf(backend.readFile("/tmp/new dir/it's.bin", { first: 300_000 }))).toBe("range_not_satisfiable");
    });

    it("writes an empty file and a shorter one over a longer one", async () => {
      await backend.writeFile("/tmp/short", stream("much longer"), {});
      await backend.writeFile("/tmp/short", stream("x"), {});
      expect(await new Response((await backend.readFile("/tmp/short")).body).text()).toBe("x");
      await backend.writeFile("/tmp/short", emptyStream(), { size: 0 });
      expect((await backend.readFile("/tmp/short")).size).toBe(0);
    });

    it("leaves the old file when the body breaks off", async () => {
      await backend.writeFile("/tmp/kept", stream("the old one"), {});
      expect(await codeOf(backend.writeFile("/tmp/kept", stream("the ne"), { size: 1000 }))).not.toBe("no error");
      expect(await new Response((await backend.readFile("/tmp/kept")).body).text()).toBe("the old one");
    });

    it("takes a body of unknown size only with the marker of its end", async () => {
      const endMarker = "0123456789abcdef".repeat(4);
      const marker = endMarkerBytes(endMarker);
      const content = Uint8Array.from({ length: 100_000 }, (_, index) => index % 251);
      const whole = new Uint8Array([...content, ...marker]);
      await backend.writeFile("/tmp/marked", stream(whole), { endMarker });
      const read = async () =>
        new Uint8Array(await new Response((await backend.readFile("/tmp/marked")).body).arrayBuffer());
      expect(await read()).toEqual(content);
      expect(await codeOf(backend.writeFile("/tmp/marked", stream("cut"), { endMarker }))).toBe("invalid_request");
      expect(await codeOf(backend.writeFile("/tmp/marked", stream(whole.slice(0, -1)), { endMarker }))).toBe(
        "invalid_request",
      );
      expect(await read()).toEqual(content);
    });

    it.each([
      ["/tmp", "is_a_directory"],
      ["/tmp/not-there", "file_not_found"],
      ["/etc/os-release/below", "not_a_directory"],
    ])("refuses to read %s: %s", async (path, code) => {
      expect(await codeOf(backend.readFile(path))).toBe(code);
    });

    it.each([
      ["/tmp", "is_a_directory"],
      ["/etc/os-release/below", "not_a_directory"],
    ])("refuses to write %s: %s", async (path, code) => {
      expect(await codeOf(backend.writeFile(path, stream("x"), {}))).toBe(code);
    });
  });
}
