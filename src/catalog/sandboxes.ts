import { and, eq, exists, inArray, sql, type SQL } from "drizzle-orm";
import type { Page } from "../contract/list.ts";
import { isLive, SANDBOX_STATES, type Sandbox, type SandboxState } from "../contract/sandbox.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { sandboxes, sandboxNames, sandboxTags } from "./schema.ts";

/** One version of a sandbox, as its object publishes it. */
export interface SandboxRow {
  environment: string;
  hostId: string | undefined;
  generation: number;
  /** Counts the changes; an older version never replaces a newer one. */
  version: number;
  sandbox: Sandbox;
}

/** Which sandboxes a list shows; conditions left out do not matter, all others must hold. */
export interface SandboxFilter {
  environment: string;
  appId?: string | undefined;
  name?: string | undefined;
  /** Any of them. */
  states?: readonly SandboxState[] | undefined;
  /** All of them; without a value the key alone must be there. */
  tags?: readonly { key: string; value?: string | undefined }[] | undefined;
}

const keyset = new Keyset(sandboxes.createdAt, sandboxes.sandboxId);

/** The index of the sandboxes. The truth about each is in its own object. */
export class SandboxCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Writes the row unless a newer version is there already. Safe to repeat and to reorder. */
  async apply(row: SandboxRow): Promise<void> {
    const { sandbox } = row;
    const values = {
      sandboxId: sandbox.sandbox_id,
      environment: row.environment,
      appId: sandbox.app_id ?? null,
      name: sandbox.name ?? null,
      state: sandbox.state,
      live: isLive(sandbox.state),
      backend: sandbox.backend,
      hostId: row.hostId ?? null,
      generation: row.generation,
      version: row.version,
      doc: sandbox,
      createdAt: Date.parse(sandbox.created_at),
      finishedAt: sandbox.finished_at === undefined ? null : Date.parse(sandbox.finished_at),
    };
    const tags = JSON.stringify(sandbox.tags);
    const isThisVersion = sql`(SELECT version FROM sandboxes WHERE sandbox_id = ${sandbox.sandbox_id}) = ${row.version}`;
    // D1 runs a batch as one transaction. Tags that stay the same are not written again.
    await this.#db.batch([
      this.#db
        .insert(sandboxes)
        .values(values)
        .onConflictDoUpdate({
          target: sandboxes.sandboxId,
          set: values,
          setWhere: sql`excluded.version > sandboxes.version`,
        }),
      this.#db
        .delete(sandboxTags)
        .where(
          and(
            eq(sandboxTags.sandboxId, sandbox.sandbox_id),
            isThisVersion,
            sql`(key, value) NOT IN (SELECT key, value FROM json_each(${tags}))`,
          ),
        ),
      this.#db
        .insert(sandboxTags)
        .select(sql`SELECT ${sandbox.sandbox_id}, key, value FROM json_each(${tags}) WHERE ${isThisVersion}`)
        .onConflictDoNothing(),
    ]);
  }

  /** Removes the row, its tags, and a name that it may still hold. Idempotent. */
  async remove(sandboxId: string): Promise<void> {
    await this.#db.batch([
      this.#db.delete(sandboxTags).where(eq(sandboxTags.sandboxId, sandboxId)),
      this.#db.delete(sandboxNames).where(eq(sandboxNames.sandboxId, sandboxId)),
      this.#db.delete(sandboxes).where(eq(sandboxes.sandboxId, sandboxId)),
    ]);
  }

  /** Sandboxes, newest first. */
  async list(filter: SandboxFilter, page: PageRequest): Promise<Page<Sandbox>> {
    const rows = await this.#db
      .select({ createdAt: sandboxes.createdAt, id: sandboxes.sandboxId, doc: sandboxes.doc })
      .from(sandboxes)
      .where(keyset.after(page.cursor, ...this.#conditions(filter)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(
      rows,
      page.limit,
      (row) => row,
      (row) => row.doc,
    );
  }

  /** The sandboxes that should be running on a host. */
  async liveOnHost(hostId: string): Promise<{ sandbox_id: string; environment: string; generation: number }[]> {
    return this.#db
      .select({
        sandbox_id: sandboxes.sandboxId,
        environment: sandboxes.environment,
        generation: sandboxes.generation,
      })
      .from(sandboxes)
      .where(and(eq(sandboxes.hostId, hostId), eq(sandboxes.live, true)));
  }

  #conditions(filter: SandboxFilter): (SQL | undefined)[] {
    return [
      eq(sandboxes.environment, filter.environment),
      filter.appId === undefined ? undefined : eq(sandboxes.appId, filter.appId),
      filter.name === undefined ? undefined : eq(sandboxes.name, filter.name),
      filter.states === undefined ? undefined : isInStates(filter.states),
      ...(filter.tags ?? []).map(({ key, value }) => this.#hasTag(key, value)),
    ];
  }

  #hasTag(key: string, value: string | undefined): SQL {
    return exists(
      this.#db
        .select({ one: sql`1` })
        .from(sandboxTags)
        .where(
          and(
            eq(sandboxTags.sandboxId, sandboxes.sandboxId),
            eq(sandboxTags.key, key),
            value === undefined ? undefined : eq(sandboxTags.value, value),
          ),
        ),
    );
  }
}

/** All live ones, and all ended ones, are found by an index. */
function isInStates(states: readonly SandboxState[]): SQL | undefined {
  const [live, ended] = [SANDBOX_STATES.filter(isLive), SANDBOX_STATES.filter((state) => !isLive(state))];
  const areAll = (of: SandboxState[]) => of.length === new Set(states).size && of.every((one) => states.includes(one));
  if (areAll(live)) return eq(sandboxes.live, true);
  if (areAll(ended)) return eq(sandboxes.live, false);
  return inArray(sandboxes.state, [...states]);
}
