import { z } from "zod";
import { CommandSchema, EnvSchema, PathSchema, TimeoutSchema } from "./fields.ts";
import { idSchema, ProcessIdSchema } from "./ids.ts";

/** Longest `stdin` of an exec request, after base64 is taken away. */
export const MAX_INLINE_STDIN_BYTES = 1_048_576;
/** How much of each stream an exec with `?wait` answers inline; the rest is read from the stream itself. */
export const MAX_INLINE_OUTPUT_BYTES = 1_048_576;

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

export const ExecRequestSchema = z
  .strictObject({
    command: CommandSchema,
    workdir: PathSchema.optional(),
    stdin: z
      .string()
      .max(Math.ceil(MAX_INLINE_STDIN_BYTES / 3) * 4, "must not be longer than 1 MiB")
      .regex(BASE64, "must be base64")
      .optional()
      .meta({ format: "byte" }),
    env: EnvSchema.optional(),
    timeout: TimeoutSchema.optional().meta({ description: "Seconds; then the process group gets SIGKILL." }),
  })
  .meta({ id: "ExecRequest" });
export type ExecRequest = z.infer<typeof ExecRequestSchema>;

/** A process of a sandbox. `returncode` is null while it runs. */
export const ContainerProcessSchema = z
  .object({
    process_id: ProcessIdSchema,
    sandbox_id: idSchema("sandbox"),
    returncode: z.int().nullable(),
    timed_out: z.boolean(),
    signal: z.string().optional(),
    command: z.array(z.string()),
    created_at: z.iso.datetime(),
    exited_at: z.iso.datetime().optional(),
    stdout_bytes: z.int(),
    stderr_bytes: z.int(),
    stdout: z.string().optional(),
    stderr: z.string().optional(),
    stdout_truncated: z.boolean().optional(),
    stderr_truncated: z.boolean().optional(),
  })
  .meta({ id: "ContainerProcess" });
export type ContainerProcess = z.infer<typeof ContainerProcessSchema>;

export const OUTPUT_STREAMS = ["stdout", "stderr"] as const;
export type OutputStream = (typeof OUTPUT_STREAMS)[number];

export const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGWINCH: 28,
} as const;
export type SignalName = keyof typeof SIGNALS;
export const SignalNameSchema = z.enum(Object.keys(SIGNALS) as [SignalName, ...SignalName[]]);

/** The name of the signal that a return code of 128+n stands for. */
export function signalOfReturncode(returncode: number): SignalName | undefined {
  return (Object.keys(SIGNALS) as SignalName[]).find((name) => SIGNALS[name] === returncode - 128);
}
