/**
 * What the object knows of a socket, kept by the platform while the object sleeps. A client's socket and the host's are a
 * pair by their attachment. `request`: the client is to say what to run, until `answerBy`. `starting`: it has, and the
 * process is not yet connected.
 */
export type SocketState =
  | { role: "host" }
  | { role: "client"; phase: "request"; answerBy: number; acks: boolean }
  | { role: "client"; phase: "starting" }
  | { role: "client"; phase: "attached"; processId: string };

type Role = SocketState["role"];
export type ClientState = Extract<SocketState, { role: "client" }>;

const attachmentTag = (attachmentId: string) => `at:${attachmentId}`;

/** The sockets of the object. They are the platform's: nothing of them is in memory, so the object may sleep. */
export class Sockets {
  readonly #ctx: DurableObjectState;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
  }

  /** Takes the socket on; answers the end for who asked for it. */
  accept(attachmentId: string, state: SocketState): WebSocket {
    const { 0: theirs, 1: ours } = new WebSocketPair();
    this.#ctx.acceptWebSocket(ours, [state.role, attachmentTag(attachmentId)]);
    ours.serializeAttachment(state);
    return theirs;
  }

  attachmentOf(socket: WebSocket): string {
    const tag = this.#ctx.getTags(socket).find((one) => one.startsWith(attachmentTag("")));
    return tag!.slice(attachmentTag("").length);
  }

  stateOf(socket: WebSocket): SocketState {
    return socket.deserializeAttachment() as SocketState;
  }

  setState(socket: WebSocket, state: SocketState): void {
    socket.serializeAttachment(state);
  }

  /** The open socket of an attachment on one side of it. */
  find(attachmentId: string, role: Role): WebSocket | undefined {
    return this.#ctx
      .getWebSockets(attachmentTag(attachmentId))
      .find((one) => isOpen(one) && this.stateOf(one).role === role);
  }

  /** The open sockets of clients. */
  clients(): { socket: WebSocket; state: ClientState }[] {
    return this.#ctx
      .getWebSockets("client" satisfies Role)
      .filter(isOpen)
      .map((socket) => ({ socket, state: this.stateOf(socket) as ClientState }));
  }

  get hasClients(): boolean {
    return this.#ctx.getWebSockets("client" satisfies Role).some(isOpen);
  }
}

function isOpen(socket: WebSocket): boolean {
  return socket.readyState === WebSocket.OPEN;
}

/** Sends unless the socket has just gone. */
export function sendTo(socket: WebSocket | undefined, message: string | ArrayBuffer | Uint8Array): void {
  if (socket && isOpen(socket)) socket.send(message);
}

/** Closes unless the socket has gone already. */
export function close(socket: WebSocket | undefined, code: number, reason: string): void {
  if (socket && isOpen(socket)) socket.close(code, reason);
}

/** The other half of a close that came from the other side: without it, it would wait for us. */
export function answerClose(socket: WebSocket, code: number, reason: string): void {
  try {
    socket.close(isSayable(code) ? code : NO_CODE, reason);
  } catch {
    // It was this side's close that was answered.
  }
}

const NO_CODE = 1000;

/** Whether an endpoint may send the code, and not only find it. */
export function isSayable(code: number): boolean {
  return (
    code === NO_CODE ||
    (code >= 1001 && code <= 1014 && ![1004, 1005, 1006].includes(code)) ||
    (code >= 3000 && code < 5000)
  );
}
