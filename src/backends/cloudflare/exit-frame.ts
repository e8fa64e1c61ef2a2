import { signalOfReturncode, type ProcessFinishReason } from "../../contract/process.ts";
import { nonsense, viewOf } from "./agent/frames.ts";

/** The wait status, and whether the kernel killed for want of memory. */
const PAYLOAD_BYTES = 5;

/** How a process ended, as the agent tells it. */
export function exitOf(payload: Uint8Array): { returncode: number; reason: ProcessFinishReason } {
  if (payload.length < PAYLOAD_BYTES) throw nonsense();
  const status = viewOf(payload).getUint32(0);
  const signal = status & 0x7f;
  const returncode = signal === 0 ? (status >> 8) & 0xff : 128 + signal;
  const wasOutOfMemory = payload[4] === 1;
  return { returncode, reason: wasOutOfMemory ? "oom" : signalOfReturncode(returncode) ? "signaled" : "exited" };
}
