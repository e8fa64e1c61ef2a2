import type { Client } from "./client.ts";
import { create, knownBy, sendCreate, type CreateContext } from "./creates.ts";
import { wrongEvents } from "./events.ts";
import { dueAt, unexplained } from "./explanations.ts";
import { Findings, type Violation } from "./findings.ts";
import { wrongImages } from "./images.ts";
import { wrongInside } from "./inside.ts";
import { isEnded, type KnownSandbox, type Ledger, type SandboxDocument } from "./ledger.ts";
import { endOf, sawDocument } from "./observations.ts";
import { listAll, operationOf } from "./operations.ts";
import type { Site } from "./site.ts";

/** How long anything may stay untrue once the faults are over. */
const TRUE_AGAIN_MS = 15_000;
const LOOK_AGAIN_MS = 500;
const CONCURRENT = 8;
const PAGE = 40;

export interface InvariantsOptions {
  site: Site;
  client: Client;
  ledger: Ledger;
}

/** What must hold of the whole site once faults have been over for a while. */
export class Invariants {
  readonly #options: InvariantsOptions;
  readonly #findings: Findings;

  constructor(options: InvariantsOptions, findings: Findings) {
    this.#options = options;
    this.#findings = findings;
  }

  /** Looks again and again until all is true, and reports what is not in time. Answers how long it took, in milliseconds. */
  async hold(): Promise<number> {
    const from = Date.now();
    for (;;) {
      const wrong = await this.#look();
      const isLate = Date.now() > from + TRUE_AGAIN_MS;
      if (wrong.length === 0 || isLate) {
        for (const { rule, what } of wrong) this.#findings.add(rule, what);
        this.#settle();
        return Date.now() - from;
      }
      await new Promise((wake) => setTimeout(wake, LOOK_AGAIN_MS));
    }
  }

  /** Looks at everything once more, also at ends that have been looked at before. */
  unsettle(): void {
    for (const known of this.#options.ledger.sandboxes.values()) known.isSettled = false;
  }

  /** Ends that were seen and found right need no second look: that they are the same in the list is enough. */
  #settle(): void {
    for (const known of this.#options.ledger.sandboxes.values()) known.isSettled = known.end !== undefined;
  }

  async #look(): Promise<Violation[]> {
    const { client, ledger, site } = this.#options;
    const wrong = new Findings();
    const listed = await listAll(client, PAGE);
    if (!listed) return [{ rule: "the API answers once faults are over", what: "the list does not" }];
    this.#judgeList(listed, wrong);
    const documents = new Map<string, SandboxDocument>();
    const rest = listed.filter(({ sandbox_id }) => !ledger.sandboxes.get(sandbox_id)?.isSettled);
    await eachOf(rest, async (row) => {
      const document = await this.#judge(row, wrong);
      if (document) documents.set(row.sandbox_id, document);
    });
    for (const { rule, what } of await wrongImages(client, ledger, documents)) wrong.add(rule, what);
    const census = await site.containers.census();
    const live = new Set([...documents.values()].filter((one) => !isEnded(one)).map((one) => one.sandbox_id));
    for (const [id, where] of census.remains)
      if (!live.has(id)) wrong.add("no live container without a live sandbox", `${id} (${where.slice(0, 120)})`);
    for (const id of live)
      if (!census.running.has(id))
        wrong.add("no live sandbox without its container", `${id} ${documents.get(id)?.state}`);
    return wrong.all;
  }

  #judgeList(listed: SandboxDocument[], wrong: Findings): void {
    const { ledger } = this.#options;
    const ids = new Set(listed.map(({ sandbox_id }) => sandbox_id));
    if (ids.size !== listed.length) wrong.add("the list shows each once", `${listed.length} rows of ${ids.size}`);
    for (const known of ledger.sandboxes.values())
      if (!ids.has(known.sandboxId)) wrong.add("the list shows all", `${known.sandboxId} is missing`);
    const names = new Map<string, string>();
    const operations = new Map<string, string>();
    for (const sandbox of listed) {
      const operation = operationOf(sandbox);
      const request = ledger.requests.get(operation);
      if (!request)
        wrong.add("sandboxes are those that were asked for", `${sandbox.sandbox_id} has the tag ${operation}`);
      else if (request.isRefused)
        wrong.add(
          "what was refused has not happened",
          `${operation} made ${sandbox.sandbox_id} (${JSON.stringify(request)})`,
        );
      else ledger.know(sandbox.sandbox_id, request);
      const other = operations.get(operation);
      if (other)
        wrong.add(
          "a create makes one sandbox",
          `${operation} made ${other} and ${sandbox.sandbox_id} (${JSON.stringify(request)})`,
        );
      operations.set(operation, sandbox.sandbox_id);
      if (isEnded(sandbox) || sandbox.name === undefined) continue;
      const holder = names.get(sandbox.name);
      if (holder) wrong.add("a name has one live sandbox", `${sandbox.name}: ${holder} and ${sandbox.sandbox_id}`);
      names.set(sandbox.name, sandbox.sandbox_id);
    }
    for (const known of ledger.sandboxes.values()) {
      const row = known.isSettled ? listed.find(({ sandbox_id }) => sandbox_id === known.sandboxId) : undefined;
      if (row) sawDocument(this.#findings, known, row);
    }
  }

  /** Everything about one sandbox. */
  async #judge(row: SandboxDocument, wrong: Findings): Promise<SandboxDocument | undefined> {
    const { client, ledger } = this.#options;
    const id = row.sandbox_id;
    const known = ledger.sandboxes.get(id);
    const answer = await client.send("GET", `/sandboxes/${id}`);
    if (answer.kind !== "ok" || !known) {
      wrong.add("an acknowledged sandbox is there", `${id}: ${JSON.stringify(answer).slice(0, 120)}`);
      return undefined;
    }
    const sandbox = answer.body as SandboxDocument;
    sawDocument(this.#findings, known, sandbox);
    const differs = LISTED.filter((field) => JSON.stringify(row[field]) !== JSON.stringify(sandbox[field]));
    if (differs.length > 0)
      wrong.add(
        "list and object agree",
        `${id}: ${differs.map((field) => `${field} ${JSON.stringify(row[field])} / ${JSON.stringify(sandbox[field])}`).join(", ")}`,
      );
    const why = unexplained(ledger, known, sandbox);
    if (why !== undefined)
      wrong.add(
        "an end has a reason",
        `${id} ${endOf(sandbox)}: ${why} (${described(known, ledger)}; ${ledger.faultsAround(sandbox)})`,
      );
    this.#judgeSettings(known, sandbox, wrong);
    if (!isEnded(sandbox)) {
      if (sandbox.started_at === undefined) wrong.add("a sandbox starts", `${id} is ${sandbox.state}`);
      if (Date.now() > dueAt(known, sandbox) + 1000) wrong.add("an end comes in time", `${id} should have ended`);
      for (const what of await wrongInside(client, known)) wrong.add("nothing acknowledged is lost", what);
    }
    const events = await client.send("GET", `/sandboxes/${id}/events?follow=false`);
    const found = events.kind === "ok" ? wrongEvents(events.text, sandbox) : [JSON.stringify(events)];
    for (const what of found) wrong.add("events tell one story", `${id}: ${what}`);
    return sandbox;
  }

  #judgeSettings(known: KnownSandbox, sandbox: SandboxDocument, wrong: Findings): void {
    const lost = (field: string, is: unknown, canBe: { toString(): string }) =>
      wrong.add(
        "nothing acknowledged is lost",
        `${field} of ${known.sandboxId} is ${JSON.stringify(is)}, not ${String(canBe)}`,
      );
    if (!known.tags.canBe(sandbox.tags)) lost("tags", sandbox.tags, known.tags);
    if (!known.timeout.canBe(sandbox.timeout)) lost("timeout", sandbox.timeout, known.timeout);
    const idle = sandbox.idle_timeout ?? null;
    if (!known.idleTimeout.canBe(idle)) lost("idle_timeout", idle, known.idleTimeout);
    if (!known.name.canBe(sandbox.name ?? null)) lost("name", sandbox.name, known.name);
  }

  /** A create with a key, sent again when all is over, answers as it did: with its one sandbox, or anew where there is none. */
  async repeatCreates(context: CreateContext): Promise<void> {
    const { ledger } = this.#options;
    const keyed = [...ledger.requests.values()].filter((request) => request.key !== undefined && !request.isRepeated);
    await eachOf(keyed, async (request) => {
      request.isRepeated = true;
      const known = [...ledger.sandboxes.values()].some((one) => one.request === request);
      if (!known) return void (await create(context, request));
      const outcome = await sendCreate(context, request);
      if (outcome.kind === "ok") knownBy(context, request, outcome);
      else this.#findings.add("a key answers again", `${request.operation}: ${JSON.stringify(outcome)}`);
    });
  }
}

const LISTED = [
  "state",
  "name",
  "tags",
  "timeout",
  "idle_timeout",
  "finish_reason",
  "returncode",
  "error",
  "started_at",
  "finished_at",
] as const;

function described(known: KnownSandbox, ledger: Ledger): string {
  const { entrypoint, timeout, idle_timeout } = known.request.body;
  return JSON.stringify({
    entrypoint,
    timeout,
    idle_timeout,
    deletion: known.deletion,
    isKilled: ledger.killed.has(known.sandboxId),
  });
}

async function eachOf<Item>(items: Item[], work: (item: Item) => Promise<unknown>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: CONCURRENT }, async () => {
      for (const item of left) await work(item);
    }),
  );
}
