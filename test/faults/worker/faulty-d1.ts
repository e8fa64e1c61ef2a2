import type { D1Mode } from "../d1-mode.ts";

/** What D1 says when its database cannot be reached. */
const MESSAGE = "D1_ERROR: Network connection lost.";

/** The calls that ask the database something; `bind` and `prepare` do not. */
const CALLS = new Set<PropertyKey>(["run", "all", "first", "raw", "exec", "batch", "dump"]);

type Call = (...args: unknown[]) => unknown;

/** A database that fails as it is told, for the Worker and for all of its objects. */
export class FaultyD1 {
  mode: D1Mode = { kind: "ok" };
  hits = 0;
  /** Of the switch that it was told by. */
  turn = 0;
  readonly #originals = new WeakMap<object, D1PreparedStatement>();

  /** The database as drizzle and everybody else sees it. */
  wrap(db: D1Database): D1Database {
    return this.#wrapped(db, (name, value) => {
      if (name === "prepare") return (sql: string) => this.#statement(db.prepare(sql));
      if (name === "batch")
        return (statements: D1PreparedStatement[]) =>
          this.#call(() => db.batch(statements.map((one) => this.#originals.get(one) ?? one)));
      return value;
    });
  }

  #statement(statement: D1PreparedStatement): D1PreparedStatement {
    const wrapped = this.#wrapped(statement, (name, value) =>
      name === "bind" ? (...values: unknown[]) => this.#statement(statement.bind(...values)) : value,
    );
    this.#originals.set(wrapped, statement);
    return wrapped;
  }

  #wrapped<Target extends object>(target: Target, instead: (name: PropertyKey, value: unknown) => unknown): Target {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name);
        const own = instead(name, value);
        if (own !== value) return own;
        if (typeof value !== "function") return value;
        const call = (...args: unknown[]) => (value as Call).apply(target, args);
        return CALLS.has(name) ? (...args: unknown[]) => this.#call(() => call(...args)) : call;
      },
    });
  }

  async #call<T>(run: () => T): Promise<Awaited<T>> {
    const fate = this.#fate();
    if (fate === "fail") throw new Error(MESSAGE);
    const answer = await run();
    if (fate === "lose") throw new Error(MESSAGE);
    return answer;
  }

  #fate(): "answer" | "fail" | "lose" {
    const { mode } = this;
    const isHit = mode.kind === "random" ? Math.random() < mode.fraction : mode.kind !== "ok";
    if (!isHit) return "answer";
    this.hits += 1;
    if (mode.kind === "random") return Math.random() < 0.5 ? "fail" : "lose";
    return mode.kind === "fail" ? "fail" : "lose";
  }
}
