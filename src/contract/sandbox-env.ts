import { EnvSchema } from "./fields.ts";
import { GPU_VARIABLE } from "./gpu.ts";

/** The variables of a sandbox, as a user sets them. */
export const SandboxEnvSchema = EnvSchema.refine((env) => !(GPU_VARIABLE in env), {
  path: [GPU_VARIABLE],
  message: "is set by the devices that the sandbox gets: ask for them with `gpu`",
});
