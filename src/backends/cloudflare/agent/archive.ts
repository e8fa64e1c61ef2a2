import { FILE_CODES } from "../../../contract/errors.ts";
import type { BodyLength } from "../../backend.ts";
import { contentOf, sendBody } from "./body.ts";
import { AgentConnection, type AgentAddress } from "./connection.ts";
import { list } from "./frames.ts";

const ARCHIVE_CODES = [...FILE_CODES, "invalid_request", "unsupported_by_backend"] as const;
/** How long an archive may take to be looked through and unpacked, once it is there. */
const UNPACK_MS = 600_000;

/** A tar of what is at the path; `done` is called once, when the last byte has gone or nobody wants it any more. */
export async function readArchive(
  agent: AgentAddress,
  path: string,
  done: () => void,
): Promise<ReadableStream<Uint8Array>> {
  const connection = await AgentConnection.open(agent, "G", list(path));
  try {
    await connection.answer("k", ARCHIVE_CODES);
    return contentOf(connection, undefined, done);
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Unpacks it into the directory or, when it does not come whole or is no tar, changes nothing. */
export async function writeArchive(
  agent: AgentAddress,
  path: string,
  body: ReadableStream<Uint8Array>,
  length: BodyLength,
): Promise<void> {
  const connection = await AgentConnection.open(agent, "P", list(path));
  try {
    await sendBody(connection, body, { ...length, codes: ARCHIVE_CODES, doneMs: UNPACK_MS });
  } finally {
    connection.close();
  }
}
