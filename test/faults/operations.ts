import { z } from "zod";
import type { Client, Outcome } from "./client.ts";
import type { Findings } from "./findings.ts";
import { snapshot } from "./images.ts";
import { OPERATION_TAG, Settable, type KnownSandbox, type Ledger, type SandboxDocument } from "./ledger.ts";
import { sawDocument } from "./observations.ts";
import type { Random } from "./random.ts";

const EXEC_WAIT_S = 5;
const MAX_SENT = 5;
const RETRY_MS = 300;
const LONG_S = 3600;

const ProcessSchema = z.object({
  process_id: z.string(),
  returncode: z.int().nullable(),
  finish_reason: z.string().optional(),
  stdout: z.string().optional(),
});

export interface OperationContext {
  client: Client;
  ledger: Ledger;
  findings: Findings;
  random: Random;
  names: readonly string[];
}

type Operation = (context: OperationContext, sandbox: KnownSandbox) => Promise<void>;

/** What clients do to a sandbox. Each is done to one sandbox by one client at a time. */
export const OPERATIONS = { exec, execOnce, writeFile, readFile, get, wait, patch, snapshot, remove } satisfies Record<
  string,
  Operation
>;

async function exec(context: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const expected = { stdout: `out-${context.random.int(0, 1e9)}\n`, returncode: context.random.int(0, 5) };
  const command = ["sh", "-c", `echo ${expected.stdout.trim()}; exit ${expected.returncode}`];
  const outcome = await sendExec(context, sandbox, command);
  if (outcome.kind === "ok") checkExec(context, sandbox, outcome, expected);
}

/** The same exec again and again until it is answered: it must run once. */
async function execOnce(context: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const name = `once-${context.random.int(0, 1e9)}`;
  const expected = { stdout: `${name}\n`, returncode: 0 };
  const command = ["sh", "-c", `echo ${name} >>/tmp/${name}; echo ${name}`];
  for (let sent = 1; sent <= MAX_SENT; sent += 1) {
    const outcome = await sendExec(context, sandbox, command, { "idempotency-key": name });
    if (outcome.kind === "ok" && checkExec(context, sandbox, outcome, expected)) sandbox.once.push(name);
    if (outcome.kind !== "unknown") return;
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
}

async function sendExec(context: OperationContext, sandbox: KnownSandbox, command: string[], headers = {}) {
  const path = `/sandboxes/${sandbox.sandboxId}/exec?wait=${EXEC_WAIT_S}`;
  const outcome = await context.client.send("POST", path, { body: { command }, headers, waitS: EXEC_WAIT_S });
  expectEnded(context, sandbox, "exec", outcome);
  return outcome;
}

/** True when it has run to its end. */
function checkExec(
  { findings, ledger }: OperationContext,
  sandbox: KnownSandbox,
  outcome: Outcome & { kind: "ok" },
  expected: { stdout: string; returncode: number },
): boolean {
  const process = ProcessSchema.parse(outcome.body);
  // An honest answer: its host went down under it, and nobody knows whether it has run.
  if (process.finish_reason === "host_lost") return false;
  sandbox.processes.push({ processId: process.process_id, ...expected });
  if (process.finish_reason !== "exited") return false;
  const isRight = process.returncode === expected.returncode && (process.stdout ?? expected.stdout) === expected.stdout;
  if (!isRight)
    findings.add(
      "an exec answers what it did",
      `${sandbox.sandboxId}: ${outcome.text} (${ledger.faultsBefore(Date.now())})`,
    );
  return true;
}

async function writeFile(context: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const { client, random } = context;
  const path = `/tmp/file-${random.int(0, 9)}`;
  const content = `content-${random.int(0, 1e9)}`.repeat(random.int(1, 200));
  const outcome = await client.send("PUT", `/sandboxes/${sandbox.sandboxId}/files?path=${path}`, { body: content });
  expectEnded(context, sandbox, "write", outcome);
  const file = sandbox.files.get(path);
  if (outcome.kind === "unknown") file?.asked(content);
  if (outcome.kind !== "ok") return;
  if (file) file.acknowledged(content);
  else sandbox.files.set(path, new Settable(content));
}

async function readFile(context: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const [path, file] = context.random.pick([...sandbox.files, ["/etc/passwd", undefined] as const]);
  const outcome = await context.client.send("GET", `/sandboxes/${sandbox.sandboxId}/files?path=${path}`);
  expectEnded(context, sandbox, "read", outcome);
  if (outcome.kind === "ok" && file && !file.canBe(outcome.text))
    context.findings.add("an acknowledged write is kept", `${sandbox.sandboxId} ${path}: ${outcome.text.slice(0, 60)}`);
}

async function get({ client, findings }: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const outcome = await client.send("GET", `/sandboxes/${sandbox.sandboxId}`);
  if (outcome.kind === "ok") sawDocument(findings, sandbox, outcome.body as SandboxDocument);
  if (outcome.kind === "refused")
    findings.add("an acknowledged sandbox is there", `${sandbox.sandboxId}: ${outcome.code}`);
}

async function wait({ client, findings, random }: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const waitS = random.int(0, 3);
  const path = `/sandboxes/${sandbox.sandboxId}/wait?until=${random.pick(["ready", "ended"])}&timeout=${waitS}`;
  const outcome = await client.send("GET", path, { waitS });
  if (outcome.kind === "ok") sawDocument(findings, sandbox, outcome.body as SandboxDocument);
  if (outcome.kind === "refused")
    findings.add("an acknowledged sandbox is there", `${sandbox.sandboxId}: ${outcome.code}`);
}

async function patch(context: OperationContext, sandbox: KnownSandbox): Promise<void> {
  const { client, findings, random, names } = context;
  const [field, value, settable] = random.pick([
    ["tags", { ...sandbox.request.body.tags, patched: String(random.int(0, 99)) }, sandbox.tags],
    ["timeout", random.chance(0.2) ? random.int(2, 10) : LONG_S + random.int(1, 99), sandbox.timeout],
    ["idle_timeout", random.pick([null, null, LONG_S, random.int(3, 9)]), sandbox.idleTimeout],
    ...(sandbox.name.canBe(null) ? [["name", random.pick(names), sandbox.name]] : []),
  ] as [string, unknown, Settable<unknown>][]);
  const outcome = await client.send("PATCH", `/sandboxes/${sandbox.sandboxId}`, { body: { [field]: value } });
  // Of one that has ended the tags change still.
  sandbox.isSettled = false;
  if (outcome.kind === "unknown") settable.asked(value);
  if (outcome.kind === "ok") {
    settable.acknowledged(value);
    sawDocument(findings, sandbox, outcome.body as SandboxDocument);
  }
  if (outcome.kind === "refused" && field === "name" && ["name_taken", "conflict"].includes(outcome.code)) return;
  expectEnded(context, sandbox, "patch", outcome);
}

async function remove({ client, findings }: OperationContext, sandbox: KnownSandbox): Promise<void> {
  if (sandbox.deletion === "none") sandbox.deletion = "asked";
  const outcome = await client.send("DELETE", `/sandboxes/${sandbox.sandboxId}`);
  if (outcome.kind === "ok") sandbox.deletion = "acknowledged";
  if (outcome.kind === "refused")
    findings.add("an acknowledged sandbox is there", `${sandbox.sandboxId}: ${outcome.code}`);
}

/** The one reason to refuse what is asked of a sandbox is that it has ended. */
function expectEnded({ findings }: OperationContext, sandbox: KnownSandbox, what: string, outcome: Outcome): void {
  if (outcome.kind === "refused" && outcome.code !== "sandbox_ended")
    findings.add("an operation is refused for a reason", `${what} in ${sandbox.sandboxId}: ${outcome.code}`);
}

/** Pages through all sandboxes; undefined when a page was not answered. */
export async function listAll(client: Client, limit: number): Promise<SandboxDocument[] | undefined> {
  const all: SandboxDocument[] = [];
  for (let cursor = ""; ;) {
    const outcome = await client.send("GET", `/sandboxes?limit=${limit}${cursor && `&cursor=${cursor}`}`);
    if (outcome.kind !== "ok") return undefined;
    const page = outcome.body as { data: SandboxDocument[]; next_cursor?: string };
    all.push(...page.data);
    if (page.next_cursor === undefined) return all;
    cursor = encodeURIComponent(page.next_cursor);
  }
}

export const operationOf = (sandbox: SandboxDocument) => sandbox.tags[OPERATION_TAG] ?? "";
