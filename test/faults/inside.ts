import type { Client } from "./client.ts";
import type { KnownSandbox } from "./ledger.ts";

const PROCESSES = 1000;

interface ListedProcess {
  process_id: string;
  returncode: number | null;
  finish_reason?: string;
}

/** What a live sandbox has lost of that which clients were told is in it. */
export async function wrongInside(client: Client, known: KnownSandbox): Promise<string[]> {
  const base = `/sandboxes/${known.sandboxId}`;
  const wrong: string[] = [];
  for (const [path, file] of known.files) {
    const read = await client.send("GET", `${base}/files?path=${path}`);
    if (read.kind === "refused" && read.code === "sandbox_ended") return [];
    if (read.kind !== "ok") wrong.push(`the file ${path} of ${known.sandboxId}: ${JSON.stringify(read)}`);
    else if (!file.canBe(read.text)) wrong.push(`the file ${path} of ${known.sandboxId} has ${read.text.slice(0, 60)}`);
  }
  for (const name of known.once) {
    const read = await client.send("GET", `${base}/files?path=/tmp/${name}`);
    if (read.kind === "ok" && read.text !== `${name}\n`)
      wrong.push(`an exec with a key ran ${read.text.split("\n").length - 1} times in ${known.sandboxId}`);
  }
  if (known.processes.length === 0) return wrong;
  const list = await client.send("GET", `${base}/processes?limit=${PROCESSES}`);
  if (list.kind !== "ok") return list.kind === "unknown" ? [`the processes of ${known.sandboxId}: ${list.why}`] : wrong;
  const listed = new Map((list.body as { data: ListedProcess[] }).data.map((one) => [one.process_id, one]));
  for (const { processId, returncode, stdout } of known.processes) {
    const process = listed.get(processId);
    const what = `the process ${processId} of ${known.sandboxId}`;
    if (!process) wrong.push(`${what} is missing`);
    else if (process.returncode !== returncode || process.finish_reason !== "exited")
      wrong.push(`${what} is ${process.returncode} ${process.finish_reason}, not ${returncode}`);
    else {
      const output = await client.send("GET", `${base}/processes/${processId}/stdout`);
      if (output.kind === "ok" && output.text !== stdout) wrong.push(`${what} has said ${output.text}, not ${stdout}`);
      if (output.kind === "unknown") wrong.push(`${what}: its output cannot be read, ${output.why}`);
    }
  }
  return wrong;
}
