import { z } from "zod";
import type { Client, Outcome } from "./client.ts";
import type { Findings } from "./findings.ts";
import { OPERATION_TAG, type CreateBody, type CreateRequest, type KnownSandbox, type Ledger } from "./ledger.ts";
import type { Random } from "./random.ts";

/** Longer than a run. */
const LONG_S = 3600;
const MAX_SENT = 4;
const RETRY_MS = 300;

const CreatedSchema = z.object({ sandbox_id: z.string() });

export interface CreateContext {
  client: Client;
  ledger: Ledger;
  findings: Findings;
  random: Random;
  /** Names that sandboxes may take. */
  names: readonly string[];
}

/** A create of any kind that there is, never sent before. */
export function newRequest({ ledger, random, names }: CreateContext): CreateRequest {
  const operation = `op-${ledger.requests.size}`;
  const body: CreateBody = { tags: { [OPERATION_TAG]: operation }, timeout: LONG_S };
  let exit: CreateRequest["exit"];
  const kind = random.weighted({ plain: 35, sleeps: 15, exits: 25, timeout: 15, idle: 10 });
  if (kind === "sleeps") body.entrypoint = ["sleep", String(LONG_S)];
  if (kind === "exits") {
    exit = { returncode: random.int(0, 9), afterS: random.int(0, 6) };
    body.entrypoint = ["sh", "-c", `sleep ${exit.afterS}; exit ${exit.returncode}`];
  }
  if (kind === "timeout") body.timeout = random.int(2, 8);
  if (kind === "idle") body.idle_timeout = random.int(2, 6);
  if (random.chance(0.4)) body.tags["color"] = random.pick(["red", "green", "blue"]);
  if (random.chance(0.2)) body.name = random.pick(names);
  const key = random.chance(0.4) ? `key-${operation}` : undefined;
  const request = { operation, body, exit, key, isRefused: false, answers: [] };
  ledger.requests.set(operation, request);
  return request;
}

/** Sends a create; one with a key again until it is answered, and sometimes twice at once. */
export async function create(context: CreateContext, request: CreateRequest): Promise<KnownSandbox | undefined> {
  const { random } = context;
  let isAnyUnknown = false;
  for (let sent = 1; ; sent += 1) {
    const isTwice = request.key !== undefined && random.chance(0.4);
    const outcomes = await Promise.all(Array.from({ length: isTwice ? 2 : 1 }, () => sendCreate(context, request)));
    const [known] = outcomes.flatMap((outcome) => knownBy(context, request, outcome));
    if (known) return known;
    isAnyUnknown ||= outcomes.some(({ kind }) => kind === "unknown");
    if (!isAnyUnknown) request.isRefused = true;
    if (request.key === undefined || request.isRefused || sent === MAX_SENT) return undefined;
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
}

/** Sends it once; with its key, so that a client may do so at any time. */
export async function sendCreate({ client, findings }: CreateContext, request: CreateRequest): Promise<Outcome> {
  const headers = request.key === undefined ? {} : { "idempotency-key": request.key };
  const outcome = await client.send("POST", "/sandboxes", { body: request.body, headers });
  request.answers.push(outcome.kind === "refused" ? outcome.code : outcome.kind === "unknown" ? outcome.why : "ok");
  if (outcome.kind === "refused") {
    const isName = outcome.code === "name_taken" && request.body.name !== undefined;
    if (!isName) findings.add("a create is refused for a reason", `${request.operation}: ${outcome.code}`);
  }
  return outcome;
}

/** The sandbox that was acknowledged; another than before for the same request is a violation. */
export function knownBy({ ledger, findings }: CreateContext, request: CreateRequest, outcome: Outcome): KnownSandbox[] {
  if (outcome.kind !== "ok") return [];
  const { sandbox_id: sandboxId } = CreatedSchema.parse(outcome.body);
  const known = ledger.know(sandboxId, request);
  request.isRefused = false;
  const others = [...ledger.sandboxes.values()].filter((one) => one.request === request && one !== known);
  for (const other of others)
    findings.add("a key makes one sandbox", `${request.operation} made ${sandboxId} and ${other.sandboxId}`);
  return [known];
}
