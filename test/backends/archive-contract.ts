import { describe, expect, it } from "vitest";
import type { Backend, BodyLength } from "../../src/backends/backend.ts";
import { endMarkerBytes } from "../../src/contract/end-marker.ts";
import { entriesOf, tarOf, type TarEntry } from "./tar.ts";
import { bytes, codeOf, exec, open, stream, text } from "./under-test.ts";

/** Directories that come and go as one tar. */
export function describeArchives(backend: Backend, hasShell: boolean): void {
  // A backend that runs no programs is asked what does not take any.
  const inShell = hasShell ? it : undefined;
  const write = (path: string, content: string) => backend.writeFile(path, stream(content), {});
  const read = async (path: string) => new Response((await backend.readFile(path)).body).text();
  const readArchive = async (path: string) =>
    new Uint8Array(await new Response(await open(await backend.readArchive(path))).arrayBuffer());
  const writeArchive = (path: string, tar: Uint8Array<ArrayBuffer>, length: BodyLength = { size: tar.length }) =>
    backend.writeArchive(path, stream(tar), length);
  const namesIn = async (path: string) =>
    (await backend.list(path, { depth: 100, limit: 1000 })).data.map((info) => info.path.slice(path.length + 1));

  const ENTRIES: TarEntry[] = [
    { name: "empty", type: "directory", mode: "700" },
    { name: "run it's", type: "file", mode: "755", content: "#!/bin/sh\n" },
    { name: "sub", type: "directory", mode: "755" },
    { name: "sub/long", type: "file", mode: "644", content: "0123456789".repeat(10_000) },
    { name: "sub/nothing", type: "file", mode: "600", content: "" },
    { name: "ü", type: "file", mode: "644", content: "ä" },
  ];

  describe("an archive", () => {
    it("is unpacked where it is to be, and comes back as it was", async () => {
      await writeArchive("/tmp/unpacked/it's here", tarOf(ENTRIES));
      expect(await namesIn("/tmp/unpacked/it's here")).toEqual(ENTRIES.map(({ name }) => name));
      for (const { name, mode, type } of ENTRIES) {
        expect(await backend.stat(`/tmp/unpacked/it's here/${name}`), name).toMatchObject({ mode, type });
      }
      expect(await read("/tmp/unpacked/it's here/sub/long")).toBe(ENTRIES[3]!.content);
      const tar = await readArchive("/tmp/unpacked/it's here");
      expect(entriesOf(tar)).toEqual(ENTRIES);
      await writeArchive("/tmp/unpacked/again", tar);
      expect(entriesOf(await readArchive("/tmp/unpacked/again"))).toEqual(ENTRIES);
    });

    it("leaves what else is there, and takes the place of what has its names", async () => {
      await write("/tmp/unpack-over/other", "other");
      await write("/tmp/unpack-over/name", "old");
      await writeArchive("/tmp/unpack-over", tarOf([{ name: "name", content: "new" }]));
      expect([await read("/tmp/unpack-over/other"), await read("/tmp/unpack-over/name")]).toEqual(["other", "new"]);
    });

    it("of one file holds that file, of an empty directory nothing", async () => {
      await write("/tmp/pack-one/file", "one");
      await backend.makeDirectory("/tmp/pack-one/empty", false);
      expect(entriesOf(await readArchive("/tmp/pack-one/file"))).toMatchObject([{ name: "file", content: "one" }]);
      expect(entriesOf(await readArchive("/tmp/pack-one/empty"))).toEqual([]);
    });

    it("of unknown length is taken with the marker of its end", async () => {
      const endMarker = "fedcba9876543210".repeat(4);
      const tar = tarOf([{ name: "file", content: "marked" }]);
      const whole = new Uint8Array([...tar, ...endMarkerBytes(endMarker)]);
      expect(await codeOf(writeArchive("/tmp/unpack-marked", tar, { endMarker }))).toBe("invalid_request");
      expect(await codeOf(backend.stat("/tmp/unpack-marked"))).toBe("file_not_found");
      await writeArchive("/tmp/unpack-marked", whole, { endMarker });
      expect(await read("/tmp/unpack-marked/file")).toBe("marked");
    });

    const tar = tarOf([{ name: "kept", content: "changed" }, ...ENTRIES]);
    it.each<[string, Uint8Array<ArrayBuffer>, { size?: number }]>([
      ["breaks off", tar.slice(0, 60_000), { size: tar.length }],
      ["ends within a file", tar.slice(0, 60_000), { size: 60_000 }],
      ["ends within a header", tar.slice(0, 700), { size: 700 }],
      ["is no tar", bytes(btoa("this is no tar. ".repeat(1000))), {}],
      ["is no tar further on", Uint8Array.from([...tar.slice(0, 1024), ...new Uint8Array(4096).fill(7)]), {}],
    ])("that %s changes nothing", async (_, body, length) => {
      await write("/tmp/unpack-kept/kept", "as it was");
      const size = length.size ?? body.length;
      expect(await codeOf(writeArchive("/tmp/unpack-kept", body, { size }))).toBe("invalid_request");
      expect(await codeOf(writeArchive("/tmp/unpack-none", body, { size }))).toBe("invalid_request");
      expect(await namesIn("/tmp/unpack-kept")).toEqual(["kept"]);
      expect(await read("/tmp/unpack-kept/kept")).toBe("as it was");
      expect(await codeOf(backend.stat("/tmp/unpack-none"))).toBe("file_not_found");
    });

    it("lays nothing outside of its directory", async () => {
      const names = ["../outside-up", "a/../../outside-below", "/tmp/outside-root", "inside"];
      await writeArchive("/tmp/outside/in", tarOf(names.map((name) => ({ name, content: "x" })))).catch(
        () => undefined,
      );
      for (const path of ["/tmp/outside/outside-up", "/tmp/outside/outside-below", "/tmp/outside-root"]) {
        expect(await codeOf(backend.stat(path)), path).toBe("file_not_found");
      }
    });

    it("is not to be had of nothing, and not unpacked into a file", async () => {
      await write("/tmp/pack-file", "x");
      const packed = (path: string) => codeOf(backend.readArchive(path).then(open));
      expect(await packed("/tmp/pack-none")).toBe("file_not_found");
      expect(await packed("/tmp/pack-file/below")).toBe("not_a_directory");
      for (const path of ["/tmp/pack-file", "/tmp/pack-file/below"]) {
        expect(await codeOf(writeArchive(path, tarOf(ENTRIES))), path).toBe("not_a_directory");
      }
    });

    inShell?.("keeps links, long names and what a process made", async () => {
      const long = `${"long-".repeat(30)}name`;
      const script = `mkdir -p /tmp/pack && cd /tmp/pack && mkdir -m 711 in && ln -s in link && printf x > in/${long}
        ln -s ../nowhere dangling && printf shared > one && ln one two`;
      const { output } = await exec(backend, ["sh", "-c", script]);
      expect(text(output?.stderr)).toBe("");
      await writeArchive("/tmp/pack-again", await readArchive("/tmp/pack"));
      expect(await namesIn("/tmp/pack-again")).toEqual(["dangling", "in", `in/${long}`, "link", "one", "two"]);
      expect(await backend.stat("/tmp/pack-again/link")).toMatchObject({ type: "symlink", symlink_target: "in" });
      expect(await backend.stat("/tmp/pack-again/in")).toMatchObject({ mode: "711" });
      expect(await read("/tmp/pack-again/two")).toBe("shared");
    });
  });
}
