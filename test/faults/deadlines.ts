import type { Client } from "./client.ts";
import type { Findings } from "./findings.ts";
import { isEnded, type SandboxDocument } from "./ledger.ts";
import type { Site } from "./site.ts";

/** The host ends a container by itself this long after the object should have. */
const HOST_SLACK_MS = 15_000;
/** What a machine with two cores may take longer. */
const PATIENCE_MS = 4_000;
const TRUE_AGAIN_MS = 15_000;
const LOOK_AGAIN_MS = 200;
const TIMEOUTS_S = [2, 3, 3];

const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

/** Deadlines that come while somebody is away. Each check starts sandboxes of its own, and leaves the site up. */
export class Deadlines {
  readonly #site: Site;
  readonly #client: Client;
  readonly #findings: Findings;

  constructor(site: Site, client: Client, findings: Findings) {
    this.#site = site;
    this.#client = client;
    this.#findings = findings;
  }

  /** The Worker is gone at the deadline: the host alone ends the containers. */
  async withoutControlPlane(): Promise<void> {
    const sandboxes = await this.#start();
    await this.#site.controlPlane.kill();
    await this.#untilGone(
      sandboxes,
      "with the control plane down",
      deadlineOf(sandboxes) + HOST_SLACK_MS + PATIENCE_MS,
    );
    this.#site.controlPlane.start();
    await this.#site.untilUp();
    await this.#expectTimedOut(sandboxes);
  }

  /** The daemon is gone at the deadline: the sandboxes end in time, and their containers once it is back. */
  async withoutHost(): Promise<void> {
    const sandboxes = await this.#start();
    await this.#site.host.kill();
    await sleep(deadlineOf(sandboxes) - Date.now());
    await this.#expectTimedOut(sandboxes);
    this.#site.host.start();
    await this.#site.untilUp();
    await this.#untilGone(sandboxes, "once the host is back", Date.now() + TRUE_AGAIN_MS);
  }

  /** Both are gone past the deadline and all slack: the daemon ends the containers as soon as it is back, alone. */
  async withoutBoth(): Promise<void> {
    const sandboxes = await this.#start();
    await Promise.all([this.#site.controlPlane.kill(), this.#site.host.kill()]);
    await sleep(deadlineOf(sandboxes) + HOST_SLACK_MS - Date.now());
    this.#site.host.start();
    await this.#untilGone(sandboxes, "of a host that was away, alone", Date.now() + TRUE_AGAIN_MS);
    this.#site.controlPlane.start();
    await this.#site.untilUp();
    await this.#expectTimedOut(sandboxes);
  }

  async #start(): Promise<SandboxDocument[]> {
    const created = TIMEOUTS_S.map(async (timeout, index) => {
      const body = { timeout, ...(index === 0 && { entrypoint: ["sleep", "600"] }) };
      const answer = await this.#client.send("POST", "/sandboxes", { body });
      const { sandbox_id: id } = (answer.kind === "ok" ? answer.body : {}) as SandboxDocument;
      for (;;) {
        const sandbox = await this.#get(id);
        if (sandbox?.state === "ready") return sandbox;
        if (!sandbox || isEnded(sandbox))
          throw new Error(`A sandbox for a deadline did not start: ${JSON.stringify(sandbox)}`);
        await sleep(20);
      }
    });
    return Promise.all(created);
  }

  async #untilGone(sandboxes: SandboxDocument[], when: string, untilMs: number): Promise<void> {
    for (;;) {
      const { remains } = await this.#site.containers.census();
      const left = sandboxes.filter(({ sandbox_id: id }) => remains.has(id));
      if (left.length === 0) return;
      if (Date.now() > untilMs) {
        const ids = left.map(({ sandbox_id: id }) => `${id} (${remains.get(id)})`);
        return this.#findings.add("deadlines hold", `${when}, past their deadline: ${ids.join(", ")}`);
      }
      await sleep(LOOK_AGAIN_MS);
    }
  }

  async #expectTimedOut(sandboxes: SandboxDocument[]): Promise<void> {
    const untilMs = Date.now() + TRUE_AGAIN_MS;
    for (const { sandbox_id: id } of sandboxes) {
      let sandbox = await this.#get(id);
      while ((!sandbox || !isEnded(sandbox)) && Date.now() < untilMs) {
        await sleep(LOOK_AGAIN_MS);
        sandbox = await this.#get(id);
      }
      if (sandbox?.finish_reason !== "timeout" || sandbox.returncode !== 124)
        this.#findings.add("deadlines hold", `${id} does not end by timeout: ${JSON.stringify(sandbox)}`);
    }
  }

  async #get(id: string): Promise<SandboxDocument | undefined> {
    const answer = await this.#client.send("GET", `/sandboxes/${id}`);
    return answer.kind === "ok" ? (answer.body as SandboxDocument) : undefined;
  }
}

/** When the last of them is to be over, in milliseconds since 1970. */
const deadlineOf = (sandboxes: SandboxDocument[]) =>
  Math.max(...sandboxes.map((sandbox) => Date.parse(sandbox.started_at!) + sandbox.timeout * 1000));
