import { stringsOf, numberAt, nonsense } from "./frames.ts";

/** What the agent says first of a process that a client has started or attaches to. */
export interface Joined {
  /** Bytes of stdin that it has, in all. */
  received: number;
  isInputOpen: boolean;
  /** Why the program did not start. */
  failure: string | undefined;
  /** What the object wanted to be told again: see `noteOf`. */
  note: string;
}

const FLAGS_AT = 12;
const MAX_FAILURE_CHARACTERS = 500;

export function readJoined(payload: Uint8Array): Joined {
  if (payload.length <= FLAGS_AT) throw nonsense();
  const [failure = "", note = ""] = stringsOf(payload.subarray(FLAGS_AT + 1));
  return {
    received: numberAt(payload, 4),
    isInputOpen: payload[FLAGS_AT] === 1,
    failure: failure === "" ? undefined : failure.slice(0, MAX_FAILURE_CHARACTERS),
    note,
  };
}
