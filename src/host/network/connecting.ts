import type { Socket } from "node:net";

/** Why a connection is not there, by the code that says it. */
export const failure = (code: string, message: string) => Object.assign(new Error(message), { code });

/** The socket, once the connection that it has begun stands. Destroys it when that takes too long, or nobody wants it any more. */
export function connected(socket: Socket, to: string, limitMs: number, signal?: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const give = () => socket.destroy(failure(signal?.aborted ? "ECONNABORTED" : "ETIMEDOUT", `${to} is not reached`));
    const timer = setTimeout(give, limitMs);
    signal?.addEventListener("abort", give, { once: true });
    if (signal?.aborted) give();
    const settled = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", give);
    };
    socket.once("error", reject).once("close", settled);
    socket.once("connect", () => {
      settled();
      socket.off("error", reject).off("close", settled);
      resolve(socket);
    });
  });
}
