import { FILE_CODES } from "../../../contract/errors.ts";
import { fileInfo, isLink } from "../../../contract/file-info.ts";
import type { FileInfo, FileList, FileListRequest } from "../../../contract/file.ts";
import { AgentConnection, type AgentAddress } from "./connection.ts";
import { list, nonsense, stringsOf, type Frame } from "./frames.ts";

const TREE_CODES = [...FILE_CODES, "invalid_request", "payload_too_large"] as const;
/** How long a move to another filesystem, or the removal of a tree, may take. */
const CHANGE_MS = 600_000;
/** Of all that is said in one list; twice what the agent says at most. */
const MAX_LIST_BYTES = 16 * 1024 * 1024;
const MAX_NANOSECONDS = 999_999_999;
const ONE = "1".charCodeAt(0);

export async function stat(agent: AgentAddress, path: string): Promise<FileInfo> {
  return infoOf(await ask(agent, "Q", list(path), "l"));
}

export async function makeDirectory(agent: AgentAddress, path: string, parents: boolean): Promise<FileInfo> {
  return infoOf(await ask(agent, "N", list(path, flag(parents)), "l"));
}

export async function move(agent: AgentAddress, from: string, to: string): Promise<void> {
  await ask(agent, "M", list(from, to), "z", CHANGE_MS);
}

export async function remove(agent: AgentAddress, path: string, recursive: boolean): Promise<void> {
  await ask(agent, "V", list(path, flag(recursive)), "z", CHANGE_MS);
}

export async function listFiles(
  agent: AgentAddress,
  path: string,
  { depth, limit, after = "" }: FileListRequest,
): Promise<FileList> {
  const connection = await AgentConnection.open(agent, "L", list(path, String(depth), String(limit), after));
  try {
    const data: FileInfo[] = [];
    for (let bytes = 0; bytes <= MAX_LIST_BYTES;) {
      const said = await connection.answer("lz", TREE_CODES);
      if (said.type === "z") return { data, more: said.payload[0] === ONE };
      if (data.length >= limit) break;
      bytes += said.payload.length;
      data.push(infoOf(said));
    }
    throw nonsense();
  } finally {
    connection.close();
  }
}

/** One question with one answer. */
async function ask(
  agent: AgentAddress,
  type: string,
  payload: Uint8Array,
  answer: string,
  timeoutMs?: number,
): Promise<Frame> {
  const connection = await AgentConnection.open(agent, type, payload);
  try {
    return await connection.answer(answer, TREE_CODES, timeoutMs);
  } finally {
    connection.close();
  }
}

const flag = (isSet: boolean) => (isSet ? "1" : "");

function infoOf({ payload }: Frame): FileInfo {
  const [path, mode, size, owner, group, seconds, nanoseconds, target] = stringsOf(payload);
  if (target === undefined || !path!.startsWith("/") || owner === "" || group === "") throw nonsense();
  const bits = Number(wholeOf(mode!));
  if (bits > 0o177777) throw nonsense();
  const fraction = Number(wholeOf(nanoseconds!));
  if (fraction > MAX_NANOSECONDS) throw nonsense();
  return fileInfo(path!, {
    mode: bits,
    size: wholeOf(size!),
    seconds: seconds!.startsWith("-") ? -wholeOf(seconds!.slice(1)) : wholeOf(seconds!),
    nanoseconds: fraction,
    owner: owner!,
    group: group!,
    target: isLink(bits) ? target : undefined,
  });
}

function wholeOf(digits: string): bigint {
  if (!/^\d{1,20}$/.test(digits)) throw nonsense();
  return BigInt(digits);
}
