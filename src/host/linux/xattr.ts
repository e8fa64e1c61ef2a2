import { call, check, looked, result } from "./libc.ts";

/**
 * Extended attributes, which Node has no calls for. None of these follows a link. Names are latin1 strings, byte for
 * byte: an attribute's name has no encoding of its own.
 */
const calls = {
  list: call("int64 llistxattr(const void *path, _Out_ void *list, size_t size)"),
  get: call("int64 lgetxattr(const void *path, const void *name, _Out_ void *value, size_t size)"),
  set: call("int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)"),
};

const ENODATA = 61;
const EOPNOTSUPP = 95;
/** The kernel's own limit, both for a value and for the names of one file together. */
const MAX_BYTES = 65_536;
const scratch = Buffer.alloc(MAX_BYTES);

/** As C takes a string. */
export function cString(text: Buffer): Buffer {
  return Buffer.concat([text, Buffer.alloc(1)]);
}

/** The names, sorted; none where the filesystem keeps no attributes. */
export function listXattrs(path: Buffer): string[] {
  const file = cString(path);
  const listed = looked(() => calls.list(file, scratch, MAX_BYTES));
  if (listed.errno === EOPNOTSUPP) return [];
  const length = check("llistxattr", listed);
  return length === 0
    ? []
    : scratch
        .toString("latin1", 0, length - 1)
        .split("\0")
        .sort();
}

/** The value; undefined where there is no such attribute. */
export function getXattr(path: Buffer, name: string): Buffer | undefined {
  const [file, attribute] = [cString(path), cString(Buffer.from(name, "latin1"))];
  const got = looked(() => calls.get(file, attribute, scratch, MAX_BYTES));
  if (got.errno === ENODATA || got.errno === EOPNOTSUPP) return undefined;
  return Buffer.from(scratch.subarray(0, check(`lgetxattr ${name}`, got)));
}

export function setXattr(path: Buffer, name: string, value: Buffer): void {
  const set = calls.set(cString(path), cString(Buffer.from(name, "latin1")), value, value.length, 0);
  check(`lsetxattr ${name}`, result(set));
}
