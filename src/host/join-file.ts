import { readFileSync } from "node:fs";
import { z } from "zod";
import { OPTIONS, type GivenOptions } from "./options.ts";
import { UsageError } from "./usage.ts";
import { writeWhole } from "./whole-file.ts";

const NAMES = Object.keys(OPTIONS) as (keyof typeof OPTIONS)[];
const JoinSchema = z.strictObject(
  Object.fromEntries(NAMES.map((name) => [name, z.string().optional()])) as Record<
    keyof typeof OPTIONS,
    z.ZodOptional<z.ZodString>
  >,
);

const pathIn = (dataDir: string) => `${dataDir}/join.json`;

/** Keeps what a host was joined with, complete or not at all: its key is in there, for nobody else to read. */
export function writeJoinFile(dataDir: string, options: GivenOptions): void {
  writeWhole(pathIn(dataDir), `${JSON.stringify(options, undefined, 2)}\n`);
}

/** Empty where no host was joined. Throws {@link UsageError} of what cannot be read. */
export function readJoinFile(dataDir: string): GivenOptions {
  const path = pathIn(dataDir);
  try {
    return JoinSchema.parse(JSON.parse(readFileSync(path, "utf8"))) as GivenOptions;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new UsageError(`${path} cannot be used (${reason}): join this host anew`);
  }
}
