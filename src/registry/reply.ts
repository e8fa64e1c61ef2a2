import * as rpc from "../rpc/replies.ts";
import { RegistryError, type Refusal, type RefusalOptions } from "./errors.ts";

interface Failure {
  refusal: Refusal;
  options: RefusalOptions;
}

/** What the object of a registry answers over RPC: see `rpc/replies.ts`. */
export type Reply<T> = rpc.Reply<T, Failure>;
export type Replies<Methods> = rpc.Replies<Methods, Failure>;

/** Runs and replies; what is not a `RegistryError` is thrown on. */
export const replyWith = <T>(run: () => T | Promise<T>): Promise<Reply<T>> => rpc.replyWith(run, failureOf);

export const unwrapReplies = <Methods extends object>(stub: Replies<Methods>): Methods =>
  rpc.unwrapReplies(stub, ({ refusal, options }) => new RegistryError(refusal, options));

function failureOf(error: unknown): Failure | undefined {
  if (!(error instanceof RegistryError)) return undefined;
  const { refusal, message, detail, headers } = error;
  return { refusal, options: { message, headers, ...(detail && { detail }) } };
}
