import { RegistryError } from "./errors.ts";

/** Each holds two parts of an upload at most, and all that run in one isolate share its memory. */
const MAX_WRITERS = 8;

/** How many bodies this isolate takes in now. */
let writing = 0;

/** Takes in a body, unless as many as fit are being taken in: TOOMANYREQUESTS, which clients try again. */
export async function asWriter<T>(work: () => Promise<T>): Promise<T> {
  if (writing >= MAX_WRITERS) throw new RegistryError("TOOMANYREQUESTS");
  writing += 1;
  try {
    return await work();
  } finally {
    writing -= 1;
  }
}
