import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { GpuDeviceSchema, type GpuDevice } from "../../contract/gpu.ts";
import { gpuTypeOf } from "./gpu-type.ts";

const ARGUMENTS = ["--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"];
/** Without persistence mode the driver wakes up each device first, which takes seconds. */
export const TIMEOUT_MS = 30_000;
/** A driver that answers `[N/A]`, as where the machine's memory is the device's, says no number. */
const LINE = /^\s*\d+\s*,\s*([^\s,]+)\s*,\s*(.+?)\s*,\s*(\d+|\[N\/A\]|\[Not Supported\])\s*$/;
const MAX_DEVICES = 64;
const MAX_TROUBLE_CHARACTERS = 300;

/** The devices that the driver lists, and what it said that is none. */
export interface SeenGpus {
  devices: GpuDevice[];
  /** On one line, for the log; undefined where all is well, also without any driver. */
  trouble: string | undefined;
}

/**
 * Asks `nvidia-smi` from the PATH. Never rejects: a machine without it has no GPUs. Over a driver that hangs, which nothing can end, it
 * may take for ever.
 */
export async function askNvidiaSmi(timeoutMs = TIMEOUT_MS): Promise<SeenGpus> {
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", ARGUMENTS, {
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    return parseNvidiaSmi(stdout);
  } catch (error) {
    const {
      code,
      killed,
      stdout = "",
      message,
    } = error as Error & { code?: unknown; killed?: boolean; stdout?: string };
    if (code === "ENOENT") return { devices: [], trouble: undefined };
    // It lists what still works before it fails over a device that does not.
    const { devices, trouble } = parseNvidiaSmi(stdout);
    const how = killed ? `it did not answer within ${timeoutMs / 1000} s` : `it ended with ${String(code)}`;
    return { devices, trouble: shortened(`${how}: ${trouble ?? message}`) };
  }
}

/** Reads a list by `--format=csv,noheader,nounits`. */
export function parseNvidiaSmi(text: string): SeenGpus {
  const devices = new Map<string, GpuDevice>();
  const garbage: string[] = [];
  for (const line of text.split("\n").filter((one) => one.trim())) {
    const [, uuid, name = "", total] = LINE.exec(line) ?? [];
    const memory = Number(total) || 0;
    const device = GpuDeviceSchema.safeParse({ uuid, type: gpuTypeOf(name, memory), name, memory });
    if (device.success) devices.set(device.data.uuid, device.data);
    else garbage.push(line.trim());
  }
  const trouble = garbage.length > 0 ? shortened(`it says ${JSON.stringify(garbage.join(" / "))}`) : undefined;
  return { devices: [...devices.values()].slice(0, MAX_DEVICES), trouble };
}

function shortened(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > MAX_TROUBLE_CHARACTERS ? `${line.slice(0, MAX_TROUBLE_CHARACTERS)}…` : line;
}
