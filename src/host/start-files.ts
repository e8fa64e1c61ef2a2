import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import type { z } from "zod";
import { writeWhole } from "./whole-file.ts";

/** One start of a sandbox. */
export interface Start {
  sandboxId: string;
  generation: number;
}

/** Something that this daemon knows of starts of sandboxes and its next run must know, too: a small file for each. */
export class StartFiles<Content> {
  readonly #folder: string;
  readonly #schema: z.ZodType<Content>;

  /** `folder` is made when it is needed. */
  constructor(folder: string, schema: z.ZodType<Content>) {
    this.#folder = folder;
    this.#schema = schema;
  }

  /** Undefined where there is none, or one that makes no sense. */
  read(start: Start): Content | undefined {
    return this.#parse(nameOf(start));
  }

  /** Whether there is one, also one that makes no sense. */
  has(start: Start): boolean {
    return existsSync(`${this.#folder}/${nameOf(start)}`);
  }

  /** The whole of it or, when the disk is full, an error. */
  write(start: Start, content: Content): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    writeWhole(`${this.#folder}/${nameOf(start)}`, JSON.stringify(content));
  }

  remove(start: Start): void {
    rmSync(`${this.#folder}/${nameOf(start)}`, { force: true });
  }

  /** All that make sense. */
  all(): (Start & { content: Content })[] {
    return namesIn(this.#folder).flatMap((name) => {
      const [, sandboxId, generation] = NAME.exec(name) ?? [];
      const content = sandboxId === undefined ? undefined : this.#parse(name);
      return content === undefined ? [] : [{ sandboxId: sandboxId!, generation: Number(generation), content }];
    });
  }

  /** Removes all but those of these starts. */
  sweep(live: readonly Start[]): void {
    const names = new Set(live.map(nameOf));
    for (const name of namesIn(this.#folder)) {
      if (!names.has(name)) rmSync(`${this.#folder}/${name}`, { force: true });
    }
  }

  #parse(name: string): Content | undefined {
    try {
      return this.#schema.parse(JSON.parse(readFileSync(`${this.#folder}/${name}`, "utf8")));
    } catch {
      return undefined;
    }
  }
}

const NAME = /^(sb-[a-z0-9]+)\.(\d+)$/;
const nameOf = ({ sandboxId, generation }: Start) => `${sandboxId}.${generation}`;

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
