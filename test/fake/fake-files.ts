import type { ByteRange } from "../../src/contract/byte-range.ts";
import type { FileContent, WriteOptions } from "../../src/backends/backend.ts";
import { EndMarkerCheck } from "../../src/contract/end-marker.ts";
import { ApiError } from "../../src/contract/errors.ts";

export interface FakeFile {
  bytes: Uint8Array;
  mode: string;
}

export type FakeFiles = Map<string, FakeFile>;

export const newFiles = (): FakeFiles =>
  new Map([["/etc/os-release", { bytes: new TextEncoder().encode("ID=fake\n"), mode: "644" }]]);

export function readFile(files: FakeFiles, path: string, range?: ByteRange): FileContent {
  if (isDirectory(files, path)) throw new ApiError("is_a_directory");
  const file = files.get(path);
  if (!file) throw new ApiError(hasFileAbove(files, path) ? "not_a_directory" : "file_not_found");
  const size = file.bytes.length;
  if (!range) return { body: streamOf(file.bytes), size, range: undefined };
  const first = "suffix" in range ? Math.max(0, size - range.suffix) : range.first;
  const last = "suffix" in range ? size - 1 : Math.min(range.last ?? size - 1, size - 1);
  if (first >= size || last < first) throw new ApiError("range_not_satisfiable");
  return { body: streamOf(file.bytes.slice(first, last + 1)), size, range: { first, last } };
}

export async function writeFile(
  files: FakeFiles,
  path: string,
  body: ReadableStream<Uint8Array>,
  options: WriteOptions,
): Promise<void> {
  if (isDirectory(files, path) || path.endsWith("/")) throw new ApiError("is_a_directory");
  if (hasFileAbove(files, path)) throw new ApiError("not_a_directory");
  const received = new Uint8Array(await new Response(body).arrayBuffer());
  const bytes = options.endMarker === undefined ? received : withoutMarker(received, options.endMarker);
  if (options.size !== undefined && options.size !== bytes.length) {
    throw new ApiError("invalid_request", { detail: "The body broke off." });
  }
  files.set(path, { bytes, mode: options.mode ?? files.get(path)?.mode ?? "644" });
}

function withoutMarker(received: Uint8Array, endMarker: string): Uint8Array {
  const check = new EndMarkerCheck(endMarker);
  const [bytes] = check.push(received);
  if (!check.isWhole) throw new ApiError("invalid_request", { detail: "The body broke off." });
  return bytes ?? new Uint8Array(0);
}

function isDirectory(files: FakeFiles, path: string): boolean {
  const prefix = path.endsWith("/") ? path : `${path}/`;
  return ["/", "/tmp", "/etc"].includes(path) || [...files.keys()].some((name) => name.startsWith(prefix));
}

function hasFileAbove(files: FakeFiles, path: string): boolean {
  const parts = path.split("/");
  return parts.some((_, index) => index > 0 && index < parts.length && files.has(parts.slice(0, index).join("/")));
}

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new Response(bytes as Uint8Array<ArrayBuffer>).body ?? new ReadableStream({ start: (c) => c.close() });
}
