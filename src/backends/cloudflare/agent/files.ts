import type { ByteRange } from "../../../contract/byte-range.ts";
import { FILE_CODES } from "../../../contract/errors.ts";
import type { FileContent, WriteOptions } from "../../backend.ts";
import { contentOf, sendBody } from "./body.ts";
import { AgentConnection, type AgentAddress } from "./connection.ts";
import { list, nonsense, numberAt } from "./frames.ts";

const READ_CODES = [...FILE_CODES, "range_not_satisfiable"] as const;
/** How long putting a file in place may take: where it cannot be renamed there, it is copied. */
const PLACE_MS = 120_000;

/** `done` is called once, when the last byte has gone or nobody wants it any more. */
export async function readFile(
  agent: AgentAddress,
  path: string,
  range: ByteRange | undefined,
  done: () => void,
): Promise<FileContent> {
  const connection = await AgentConnection.open(agent, "R", list(path, ...rangeOf(range)));
  try {
    const { payload } = await connection.answer("m", READ_CODES);
    const { size, range: part } = measuresOf(payload, range !== undefined);
    const length = part ? part.last - part.first + 1 : size;
    return { body: contentOf(connection, length, done), size, range: part };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Writes the whole file or, when the body breaks off or is not what it was said to be, leaves it as it was. */
export async function writeFile(
  agent: AgentAddress,
  path: string,
  body: ReadableStream<Uint8Array>,
  { mode, ...length }: WriteOptions,
): Promise<void> {
  const connection = await AgentConnection.open(agent, "W", list(path, mode ?? ""));
  try {
    await sendBody(connection, body, { ...length, codes: FILE_CODES, doneMs: PLACE_MS });
  } finally {
    connection.close();
  }
}

/** What the agent says of a file: its size unless it does not tell, and the part of it that comes where one was asked for. */
function measuresOf(payload: Uint8Array, isPart: boolean): Pick<FileContent, "size" | "range"> {
  const kind = payload[0];
  if (kind === 0) return { size: undefined, range: undefined };
  const [size, first, last] = [numberAt(payload, 1), numberAt(payload, 9), numberAt(payload, 17)];
  if (kind === 1 && !isPart) return { size, range: undefined };
  if (kind !== 2 || !isPart || first > last || last >= size) throw nonsense();
  return { size, range: { first, last } };
}

function rangeOf(range: ByteRange | undefined): [string, string, string] {
  if (!range) return ["", "", ""];
  if ("suffix" in range) return ["", "", String(range.suffix)];
  return [String(range.first), range.last === undefined ? "" : String(range.last), ""];
}
