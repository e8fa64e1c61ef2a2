import { z } from "zod";
import { CommandSchema, EnvSchema, PathSchema, TimeoutSchema } from "./fields.ts";
import { idSchema, ProcessIdSchema } from "./ids.ts";

/** Longest `stdin` of an exec request, after base64 is taken away. */
export const MAX_INLINE_STDIN_BYTES = 1_048_576;
/** How much of each stream an exec with `?wait` answers inline; the rest is read from the stream itself. */
export const MAX_INLINE_OUTPUT_BYTES = 1_048_576;

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const decodedLength = (base64: string) => (base64.length / 4) * 3 - (/=*$/.exec(base64)?.[0].length ?? 0);

/** The size of a terminal, in characters. */
export const TerminalSizeSchema = z
  .strictObject({ rows: z.int().min(1).max(4096).default(24), cols: z.int().min(1).max(4096).default(80) })
  .meta({ id: "TerminalSize" });
export type TerminalSize = z.infer<typeof TerminalSizeSchema>;

/** A new size says both: a missing one is no wish to change it back. */
export const ResizeRequestSchema = z
  .strictObject({ rows: z.int().min(1).max(4096), cols: z.int().min(1).max(4096) })
  .meta({ id: "ResizeRequest" });

const OutputModeSchema = z.enum(["pipe", "ignore"]);

/** A user of the sandbox by name or number, with a group behind a colon or without: `nobody`, `1000:1000`. */
export const UserSchema = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$/, "must be user or user:group");

export const ExecRequestSchema = z
  .strictObject({
    command: CommandSchema.meta({ description: "The argv, run as it is, without a shell." }),
    workdir: PathSchema.optional().meta({ description: "Absolute; the sandbox's own if left out." }),
    stdin: z
      .string()
      .max(Math.ceil(MAX_INLINE_STDIN_BYTES / 3) * 4, "must not be longer than 1 MiB")
      .regex(BASE64, "must be base64")
      .refine((text) => decodedLength(text) <= MAX_INLINE_STDIN_BYTES, "must not be longer than 1 MiB")
      .optional()
      .meta({ format: "byte", description: "Given to the process at its start: base64, 1 MiB of bytes at most." }),
    env: EnvSchema.optional().meta({ description: "Over the sandbox's own variables." }),
    timeout: TimeoutSchema.optional().meta({ description: "Seconds; then the process group gets SIGKILL." }),
    user: UserSchema.optional().meta({ description: "Who runs it: `user` or `user:group`, by name or number." }),
    pty: TerminalSizeSchema.optional().meta({
      description: "Runs it on a terminal of this size. Its output is all stdout, and stdin stays open.",
    }),
    open_stdin: z
      .boolean()
      .optional()
      .meta({ description: "Keeps stdin open, behind `stdin`, for `…/stdin` and attach; else it ends at once." }),
    stdout: OutputModeSchema.optional().meta({ description: "`ignore` discards it; `pipe` if left out." }),
    stderr: OutputModeSchema.optional().meta({ description: "`ignore` discards it; `pipe` if left out." }),
  })
  .refine((request) => !request.pty || request.stdout === undefined, {
    path: ["stdout"],
    message: "must be left out with `pty`",
  })
  .refine((request) => !request.pty || request.stderr === undefined, {
    path: ["stderr"],
    message: "must be left out with `pty`",
  })
  .meta({ id: "ExecRequest" });
export type ExecRequest = z.infer<typeof ExecRequestSchema>;

/**
 * Why a process ended. `timeout`: its own. `oom`: the kernel killed it for want of memory. `sandbox_ended`: it went down
 * with its sandbox, whose own `finish_reason` says why. `host_lost`: nobody knows how it ended.
 */
export const PROCESS_FINISH_REASONS = ["exited", "signaled", "timeout", "oom", "sandbox_ended", "host_lost"] as const;
export type ProcessFinishReason = (typeof PROCESS_FINISH_REASONS)[number];

/** A process of a sandbox. `returncode` is null while it runs. */
export const ContainerProcessSchema = z
  .object({
    process_id: ProcessIdSchema,
    sandbox_id: idSchema("sandbox"),
    returncode: z.int().nullable(),
    timed_out: z.boolean(),
    signal: z.string().optional(),
    finish_reason: z
      .enum(PROCESS_FINISH_REASONS)
      .optional()
      .meta({
        description:
          "`timeout`: its own. `oom`: killed for want of memory. `sandbox_ended`: it went down with its sandbox, whose own " +
          "`finish_reason` says why. `host_lost`: nobody knows how it ended.",
      }),
    command: z.array(z.string()),
    created_at: z.iso.datetime(),
    exited_at: z.iso.datetime().optional(),
    stdout_bytes: z.int().meta({ description: "Written in all so far." }),
    stderr_bytes: z.int(),
    stdout: z.string().optional().meta({ description: "With `wait` only: the first MiB." }),
    stderr: z.string().optional(),
    stdout_truncated: z.boolean().optional(),
    stderr_truncated: z.boolean().optional(),
  })
  .meta({ id: "ContainerProcess" });
export type ContainerProcess = z.infer<typeof ContainerProcessSchema>;

export const ProcessPageSchema = z.object({
  data: z.array(ContainerProcessSchema),
  next_cursor: z.string().optional(),
});

/** How much of its stdin a process has been given in all, and whether more can come. */
export const StdinStateSchema = z.object({ offset: z.int(), closed: z.boolean() }).meta({ id: "StdinState" });
export type StdinState = z.infer<typeof StdinStateSchema>;

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

/** The return code of what was killed, by whatever is outside of it. */
export const KILLED_RETURNCODE = 128 + SIGNALS.SIGKILL;

/** The name of the signal that a return code of 128+n stands for. */
export function signalOfReturncode(returncode: number): SignalName | undefined {
  return (Object.keys(SIGNALS) as SignalName[]).find((name) => SIGNALS[name] === returncode - 128);
}
