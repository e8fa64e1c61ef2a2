import { afterEach, expect, test, vi } from "vitest";
import { newId } from "../../../src/contract/ids.ts";
import { SyncError } from "../../../src/host/volumes/client.ts";
import { storeLast } from "../../../src/host/volumes/last-commit.ts";
import type { Mount } from "../../../src/host/volumes/mount.ts";
import { NotStored } from "../../../src/host/volumes/not-stored.ts";

const spec = { path: "/v", volume_id: newId("volume"), read_only: false, token: "none" };
const never = new AbortController().signal;

afterEach(() => void vi.restoreAllMocks());

/** A mount whose commits fail with these errors, one after the other, and then go well. */
function mountWith(...failures: Error[]) {
  const done: string[] = [];
  const commit = async () => {
    done.push("commit");
    const failure = failures.shift();
    if (failure) throw failure;
  };
  const mount = { spec, folder: "/none", commit, remove: async () => void done.push("remove") };
  return { done, mount: mount as unknown as Mount };
}

const unreadable = () => new NotStored(spec, { files: 1, bytes: 5, why: "a file cannot be read" });

test("what cannot be read is tried again before it is given up", async () => {
  vi.spyOn(console, "error").mockReturnValue();
  const { done, mount } = mountWith(unreadable(), unreadable());
  await storeLast(mount, never, 1);
  expect(done).toEqual(["commit", "commit", "commit", "remove"]);
});

test("what cannot be read for an hour is lost, and it is said so", async () => {
  const said = vi.spyOn(console, "error").mockReturnValue();
  const { done, mount } = mountWith(unreadable(), unreadable(), unreadable());
  const begin = Date.now();
  vi.spyOn(Date, "now").mockImplementation(() => begin + done.length * 2_000_000);
  await storeLast(mount, never, 1);
  expect(done).toEqual(["commit", "commit", "remove"]);
  expect(said.mock.calls.at(-1)?.join(" ")).toMatch(/LOST.*1 file \(5 bytes\)/);
});

test("what is of a volume that is no more is lost at once", async () => {
  const said = vi.spyOn(console, "error").mockReturnValue();
  const gone = new SyncError("gone", 404, { code: "volume_not_found" });
  const { done, mount } = mountWith(new NotStored(spec, { why: "gone" }, gone));
  await storeLast(mount, never, 1);
  expect(done).toEqual(["commit", "remove"]);
  expect(said).toHaveBeenCalledOnce();
});
