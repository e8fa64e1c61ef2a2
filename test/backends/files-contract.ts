import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { describeArchives } from "./archive-contract.ts";
import { describeFileContent } from "./file-content-contract.ts";
import { describeFileInfo } from "./file-info-contract.ts";
import { codeOf, startSpec, stream, type BackendUnderTest } from "./under-test.ts";
import { describeWatch } from "./watch-contract.ts";

/** Files of a sandbox, whichever the backend. */
export function describeFiles(under: BackendUnderTest): void {
  describe(`files of backend ${under.name}`, () => {
    const sandboxId = newId("sandbox");
    const backend = under.open(sandboxId);
    const hasShell = !under.hasNoShell;
    const write = (path: string, content = "content") => backend.writeFile(path, stream(content), {});
    const read = async (path: string) => new Response((await backend.readFile(path)).body).text();
    const namesIn = async (path: string) =>
      (await backend.list(path, { depth: 100, limit: 1000 })).data.map((info) => info.path.slice(path.length + 1));

    beforeAll(async () => {
      expect(await backend.start(startSpec(under.image, sandboxId))).toMatchObject({ kind: "launched" });
    });
    afterAll(() => backend.stop());

    describeFileContent(backend);
    describeFileInfo(backend, hasShell);
    describeWatch(backend, hasShell);
    describeArchives(backend, hasShell);

    describe("the making of a directory", () => {
      it("answers what was made", async () => {
        await backend.makeDirectory("/tmp/made", true);
        const made = await backend.makeDirectory("/tmp/made/it's one", false);
        expect(made).toMatchObject({ name: "it's one", path: "/tmp/made/it's one", type: "directory", mode: "755" });
        expect(made).toEqual(await backend.stat("/tmp/made/it's one"));
        expect(await namesIn("/tmp/made/it's one")).toEqual([]);
      });

      it("makes no parents unless it is to", async () => {
        expect(await codeOf(backend.makeDirectory("/tmp/parents/a/b", false))).toBe("file_not_found");
        expect(await codeOf(backend.stat("/tmp/parents"))).toBe("file_not_found");
        expect(await backend.makeDirectory("/tmp/parents/a/b", true)).toMatchObject({ path: "/tmp/parents/a/b" });
        expect(await namesIn("/tmp/parents")).toEqual(["a", "a/b"]);
      });

      it("takes one that is there only with parents, and leaves what is in it", async () => {
        await write("/tmp/there/file");
        expect(await codeOf(backend.makeDirectory("/tmp/there", false))).toBe("file_exists");
        expect(await backend.makeDirectory("/tmp/there", true)).toMatchObject({ type: "directory" });
        expect(await namesIn("/tmp/there")).toEqual(["file"]);
      });

      it("takes no file for a directory", async () => {
        await write("/tmp/no-directory");
        for (const parents of [false, true]) {
          expect(await codeOf(backend.makeDirectory("/tmp/no-directory", parents))).toBe("file_exists");
          expect(await codeOf(backend.makeDirectory("/tmp/no-directory/below", parents))).toBe("not_a_directory");
        }
        expect(await read("/tmp/no-directory")).toBe("content");
      });
    });

    describe("a move", () => {
      it("takes a file where it is to be, and makes the parents", async () => {
        await write("/tmp/move/from", "moved");
        await backend.move("/tmp/move/from", "/tmp/move/new/deep/it's to");
        expect(await read("/tmp/move/new/deep/it's to")).toBe("moved");
        expect(await codeOf(backend.stat("/tmp/move/from"))).toBe("file_not_found");
      });

      it("takes a directory along with all that is in it", async () => {
        await write("/tmp/move-tree/a/b/file", "deep");
        await backend.move("/tmp/move-tree/a", "/tmp/move-tree/z/a");
        expect(await namesIn("/tmp/move-tree")).toEqual(["z", "z/a", "z/a/b", "z/a/b/file"]);
        expect(await read("/tmp/move-tree/z/a/b/file")).toBe("deep");
      });

      it("puts a file in the place of a file, never of a directory", async () => {
        await write("/tmp/over/one", "one");
        await write("/tmp/over/two", "two");
        await backend.makeDirectory("/tmp/over/directory", true);
        await backend.move("/tmp/over/one", "/tmp/over/two");
        expect(await read("/tmp/over/two")).toBe("one");
        expect(await codeOf(backend.move("/tmp/over/two", "/tmp/over/directory"))).toBe("is_a_directory");
        expect(await namesIn("/tmp/over")).toEqual(["directory", "two"]);
      });

      it("puts a directory in the place of an empty one, and of nothing else", async () => {
        await write("/tmp/onto/from/file", "kept");
        await write("/tmp/onto/full/file", "full");
        await write("/tmp/onto/file", "file");
        await backend.makeDirectory("/tmp/onto/empty", false);
        expect(await codeOf(backend.move("/tmp/onto/from", "/tmp/onto/full"))).toBe("directory_not_empty");
        expect(await codeOf(backend.move("/tmp/onto/from", "/tmp/onto/file"))).toBe("not_a_directory");
        expect(await read("/tmp/onto/from/file")).toBe("kept");
        await backend.move("/tmp/onto/from", "/tmp/onto/empty");
        expect(await namesIn("/tmp/onto")).toEqual(["empty", "empty/file", "file", "full", "full/file"]);
      });

      it("goes nowhere from nothing, into itself, or below a file", async () => {
        await write("/tmp/stays/in/file");
        expect(await codeOf(backend.move("/tmp/stays/none", "/tmp/stays/new/to"))).toBe("file_not_found");
        expect(await codeOf(backend.move("/tmp/stays/in", "/tmp/stays/in/below"))).toBe("invalid_request");
        expect(await codeOf(backend.move("/tmp/stays/in", "/tmp/stays/in/file/below"))).not.toBe("no error");
        expect(await codeOf(backend.move("/tmp/stays/in/file/x", "/tmp/stays/to"))).toBe("not_a_directory");
        await write("/tmp/stays/other");
        expect(await codeOf(backend.move("/tmp/stays/other", "/tmp/stays/in/file/to"))).toBe("not_a_directory");
        expect(await namesIn("/tmp/stays")).toEqual(["in", "in/file", "other"]);
      });
    });

    describe("a removal", () => {
      it("takes a file, or an empty directory", async () => {
        await write("/tmp/remove/it's");
        await backend.makeDirectory("/tmp/remove/empty", false);
        await backend.remove("/tmp/remove/it's", false);
        await backend.remove("/tmp/remove/empty", false);
        expect(await namesIn("/tmp/remove")).toEqual([]);
      });

      it("takes a directory that holds something only if it is to", async () => {
        await write("/tmp/remove-full/in/deep/file");
        expect(await codeOf(backend.remove("/tmp/remove-full/in", false))).toBe("directory_not_empty");
        expect(await read("/tmp/remove-full/in/deep/file")).toBe("content");
        await backend.remove("/tmp/remove-full/in", true);
        expect(await namesIn("/tmp/remove-full")).toEqual([]);
      });

      it("finds nothing where nothing is", async () => {
        await write("/tmp/remove-file");
        for (const recursive of [false, true]) {
          expect(await codeOf(backend.remove("/tmp/remove-none", recursive))).toBe("file_not_found");
          expect(await codeOf(backend.remove("/tmp/remove-file/below", recursive))).toBe("not_a_directory");
        }
      });
    });
  });
}
