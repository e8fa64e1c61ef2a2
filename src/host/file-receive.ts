import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { EndMarkerCheck } from "../contract/end-marker.ts";
import { ApiError } from "../contract/errors.ts";
import { readLine, runScript, runToEnd, type RunningScript } from "./file-script-run.ts";
import { DISCARD_SCRIPT, RECEIVE_SCRIPT } from "./file-scripts.ts";
import type { Container } from "./runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";

const KEEP_TIMEOUT_MS = 120_000;
/** How long a script may pass on nothing. A snapshot may stop it meanwhile. */
const STALL_MS = 60_000;
/** How long the removal of what a failed write left is waited for. */
const DISCARD_PATIENCE_MS = 5_000;

/** How a body that is whole is told from one that broke off. */
export interface Measure {
  /** What it must measure. */
  size?: number | undefined;
  endMarker?: string | undefined;
}

/** The content of a body as it comes. Throws `invalid_request` at its end where that is not the whole of it. */
export async function* contentOf(
  body: IncomingMessage,
  { size, endMarker }: Measure,
): AsyncGenerator<Uint8Array, void, undefined> {
  const check = endMarker === undefined ? undefined : new EndMarkerCheck(endMarker);
  let received = 0;
  // The request must survive, to be answered.
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    for (const part of check ? check.push(chunk) : [chunk]) {
      received += part.length;
      yield part;
    }
  }
  if (!body.complete || check?.isWhole === false) {
    throw new ApiError("invalid_request", { detail: "The body broke off." });
  }
  if (size !== undefined && received !== size) {
    throw new ApiError("invalid_request", { detail: `The body has ${received} bytes, not ${size}.` });
  }
}

/**
 * Takes all of the content into a temporary file beside the path (or in /tmp, where nothing can stand there), and has it put in
 * place: under the name, of the size. However it fails, nothing of the temporary file is left. The signal ends the reading.
 */
export async function receiveFile(
  container: Container,
  path: string,
  content: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
  place: (name: string, size: number) => Promise<void>,
): Promise<void> {
  const name = `.sandbar-${randomBytes(12).toString("hex")}`;
  const script = await runScript(container, RECEIVE_SCRIPT, [path, name], { signal, isBulk: true });
  try {
    await place(name, await pour(content, script));
  } catch (error) {
    script.kill();
    await settlesWithin(script.spawned.exited, DISCARD_PATIENCE_MS);
    await settlesWithin(runToEnd(container, DISCARD_SCRIPT, [path, name]), DISCARD_PATIENCE_MS);
    throw error;
  }
}

/** Hands the content to the script's stdin; done when the script has kept all of it. The answer is its length. */
async function pour(content: AsyncIterable<Uint8Array>, script: RunningScript): Promise<number> {
  const { stdin } = script.spawned;
  const kept = readLine(script.bytes);
  kept.catch(() => {});
  let received = 0;
  let isWhole = true;
  // A script that speaks early has failed: whoever waits for its stdin need not.
  const stop = () => stdin.destroy();
  kept.then(stop, stop);
  for await (const part of content) {
    isWhole = !stdin.destroyed;
    if (!isWhole) break;
    received += part.length;
    if (!stdin.write(part) && !stdin.destroyed)
      await withTimeLimit(drained(stdin), STALL_MS, tooSlow("Writing the file"));
  }
  stdin.end();
  const line = (await withTimeLimit(kept, KEEP_TIMEOUT_MS, tooSlow("Writing the file")))?.line;
  if (line === "disk_full" || line === "permission_denied") throw new ApiError(line);
  if (line !== "kept" || !isWhole) throw new Error("the file was not written");
  return received;
}

function drained(stdin: NodeJS.WritableStream): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      for (const event of ["drain", "close", "error"]) stdin.removeListener(event, done);
      resolve();
    };
    for (const event of ["drain", "close", "error"]) stdin.once(event, done);
  });
}
