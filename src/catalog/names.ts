import { and, eq } from "drizzle-orm";
import { openDatabase, type Database } from "./database.ts";
import { sandboxNames } from "./schema.ts";

/** A name: unique among the live sandboxes of one app of one environment. */
export interface SandboxName {
  environment: string;
  appId: string | undefined;
  name: string;
}

export type Claim = { kind: "claimed" } | { kind: "held"; sandboxId: string; claimedAt: number };

/** Which live sandbox holds which name. */
export class NameCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Takes the name for a sandbox, or tells who holds it. */
  async claimName(name: SandboxName, sandboxId: string, now: number): Promise<Claim> {
    for (;;) {
      const claimed = await this.#db
        .insert(sandboxNames)
        .values({ environment: name.environment, appId: name.appId ?? "", name: name.name, sandboxId, claimedAt: now })
        .onConflictDoNothing()
        .returning({ sandboxId: sandboxNames.sandboxId });
      if (claimed.length > 0) return { kind: "claimed" };
      const [holder] = await this.#db.select().from(sandboxNames).where(isName(name));
      // Its own, from an attempt before: it is claimed anew, unless another has just taken it over.
      if (holder?.sandboxId === sandboxId) {
        if (await this.takeOver(name, holder, sandboxId, now)) return { kind: "claimed" };
        continue;
      }
      // Without a holder the name was given back between the two statements: it is free now.
      if (holder) return { kind: "held", sandboxId: holder.sandboxId, claimedAt: holder.claimedAt };
    }
  }

  /** Gives back all that the sandbox holds. Idempotent. */
  async releaseAll(sandboxId: string): Promise<void> {
    await this.#db.delete(sandboxNames).where(eq(sandboxNames.sandboxId, sandboxId));
  }

  /** Gives back this name, where the sandbox holds it. Idempotent. */
  async release(name: SandboxName, sandboxId: string): Promise<void> {
    await this.#db.delete(sandboxNames).where(and(isName(name), eq(sandboxNames.sandboxId, sandboxId)));
  }

  /** Hands the name from one sandbox to another; false when `from` does not hold it any more by that claim. */
  async takeOver(
    name: SandboxName,
    from: { sandboxId: string; claimedAt: number },
    to: string,
    now: number,
  ): Promise<boolean> {
    const taken = await this.#db
      .update(sandboxNames)
      .set({ sandboxId: to, claimedAt: now })
      .where(and(isName(name), eq(sandboxNames.sandboxId, from.sandboxId), eq(sandboxNames.claimedAt, from.claimedAt)))
      .returning({ sandboxId: sandboxNames.sandboxId });
    return taken.length > 0;
  }
}

function isName(name: SandboxName) {
  return and(
    eq(sandboxNames.environment, name.environment),
    eq(sandboxNames.appId, name.appId ?? ""),
    eq(sandboxNames.name, name.name),
  );
}
