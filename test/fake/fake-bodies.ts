import type { BodyLength, FileContent, WriteOptions } from "../../src/backends/backend.ts";
import type { ByteRange } from "../../src/contract/byte-range.ts";
import { EndMarkerCheck } from "../../src/contract/end-marker.ts";
import { ApiError } from "../../src/contract/errors.ts";
import { join, type FakeFiles, type FakeNode } from "./fake-files.ts";
import { packTar, unpackTar } from "./fake-tar.ts";

export function readFile(files: FakeFiles, path: string, range?: ByteRange): FileContent {
  const { bytes } = files.file(path);
  const size = bytes.length;
  if (!range) return { body: streamOf(bytes), size, range: undefined };
  const first = "suffix" in range ? Math.max(0, size - range.suffix) : range.first;
  const last = "suffix" in range ? size - 1 : Math.min(range.last ?? size - 1, size - 1);
  if (first >= size || last < first) throw new ApiError("range_not_satisfiable");
  return { body: streamOf(bytes.slice(first, last + 1)), size, range: { first, last } };
}

export async function writeFile(
  files: FakeFiles,
  path: string,
  body: ReadableStream<Uint8Array>,
  options: WriteOptions,
): Promise<void> {
  files.target(path);
  const bytes = await wholeOf(body, options);
  const real = files.target(path);
  files.put(real, { type: "file", bytes, mode: modeOf(files, real, options.mode), modifiedAt: Date.now() });
}

/** What is below the directory, by name; or the one file. */
export function readArchive(files: FakeFiles, path: string): Uint8Array {
  const { path: real, node } = files.at(path, true);
  const isDirectory = node.type === "directory";
  return packTar(isDirectory ? files.below(real) : [[real.slice(real.lastIndexOf("/") + 1), node]]);
}

export async function writeArchive(
  files: FakeFiles,
  path: string,
  body: ReadableStream<Uint8Array>,
  options: BodyLength,
): Promise<void> {
  const entries = unpackTar(await wholeOf(body, options));
  const directory = files.ensureDirectory(path);
  for (const [name, entry] of entries) place(files, join(directory, name), entry);
}

function place(files: FakeFiles, path: string, node: FakeNode): void {
  const info = existing(files, path);
  if (node.type === "directory" && info === "directory") return;
  if (node.type !== "directory" && info === "directory") throw new ApiError("is_a_directory");
  if (node.type === "directory" && info !== undefined) throw new ApiError("not_a_directory");
  files.put(path, node);
}

function existing(files: FakeFiles, path: string): FakeNode["type"] | undefined {
  try {
    return files.at(path, false).node.type;
  } catch {
    return undefined;
  }
}

function modeOf(files: FakeFiles, real: string, asked: string | undefined): number {
  if (asked !== undefined) return Number.parseInt(asked, 8);
  return existing(files, real) === "file" ? files.file(real).mode : 0o644;
}

async function wholeOf(body: ReadableStream<Uint8Array>, { size, endMarker }: BodyLength): Promise<Uint8Array> {
  const received = new Uint8Array(await new Response(body).arrayBuffer());
  const bytes = endMarker === undefined ? received : withoutMarker(received, endMarker);
  if (size !== undefined && size !== bytes.length) throw brokeOff();
  return bytes;
}

function withoutMarker(received: Uint8Array, endMarker: string): Uint8Array {
  const check = new EndMarkerCheck(endMarker);
  const [bytes] = check.push(received);
  if (!check.isWhole) throw brokeOff();
  return bytes ?? new Uint8Array(0);
}

const brokeOff = () => new ApiError("invalid_request", { detail: "The body broke off." });

export function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new Response(bytes as Uint8Array<ArrayBuffer>).body ?? new ReadableStream({ start: (c) => c.close() });
}
