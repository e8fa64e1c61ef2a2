/** What the first bytes of a connection are. */
export type Hello =
  /** More of them may be a hello. */
  | "partial"
  /** Not the hello of TLS, or one that names no host in a way that can be relied on. */
  | "none"
  | { name: string };

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEAD = 5;
const MESSAGE_HEAD = 4;
const MAX_RECORD = 16_384;
const MAX_RECORDS = 32;
const SERVER_NAME = 0;
const HOST_NAME = 0;

/** Finds the name of the host in a TLS ClientHello (RFC 8446, 4.1.2 and RFC 6066, 3), which may be in several records. */
export function readHello(bytes: Buffer): Hello {
  const message = handshakeBytes(bytes);
  if (message === "none") return "none";
  if (message.length >= 1 && message[0] !== CLIENT_HELLO) return "none";
  if (message.length < MESSAGE_HEAD) return "partial";
  const length = message.readUIntBE(1, 3);
  if (message.length < MESSAGE_HEAD + length) return "partial";
  try {
    const name = nameIn(new Cursor(message.subarray(MESSAGE_HEAD, MESSAGE_HEAD + length)));
    return name === undefined ? "none" : { name };
  } catch (error) {
    if (error instanceof RangeError) return "none";
    throw error;
  }
}

/** What of the handshake is there. The records of a hello hold nothing but it. */
function handshakeBytes(bytes: Buffer): Buffer | "none" {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== HANDSHAKE || (at + 1 < bytes.length && bytes[at + 1] !== 3)) return "none";
    if (bytes.length < at + RECORD_HEAD) break;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > MAX_RECORD || parts.length === MAX_RECORDS) return "none";
    parts.push(bytes.subarray(at + RECORD_HEAD, at + RECORD_HEAD + length));
    at += RECORD_HEAD + length;
    if (isWhole(parts)) break;
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** Whether the first message is there: what comes after it is not looked at. */
function isWhole(parts: Buffer[]): boolean {
  const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  return all.length >= MESSAGE_HEAD && all.length >= MESSAGE_HEAD + all.readUIntBE(1, 3);
}

/** Two names, or two lists of them, mean one thing to one reader and another to the next: then there is none. */
function nameIn(hello: Cursor): string | undefined {
  hello.skip(2 + 32);
  hello.take(1);
  hello.take(2);
  hello.take(1);
  const extensions = new Cursor(hello.take(2));
  const lists: Buffer[] = [];
  while (!extensions.isAtEnd) {
    const type = extensions.number(2);
    const content = extensions.take(2);
    if (type === SERVER_NAME) lists.push(content);
  }
  if (!hello.isAtEnd || lists.length !== 1) return undefined;
  const list = new Cursor(lists[0]!);
  const entries = new Cursor(list.take(2));
  const type = entries.number(1);
  const name = entries.take(2);
  if (!list.isAtEnd || !entries.isAtEnd || type !== HOST_NAME) return undefined;
  return name.toString("latin1");
}

/** Reads on; a `RangeError` where there is not as much. */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  skip(length: number): void {
    if (this.#at + length > this.#bytes.length) throw new RangeError("there is no more");
    this.#at += length;
  }

  number(bytes: number): number {
    const at = this.#at;
    this.skip(bytes);
    return this.#bytes.readUIntBE(at, bytes);
  }

  /** What follows its length in so many bytes. */
  take(lengthBytes: number): Buffer {
    const length = this.number(lengthBytes);
    const at = this.#at;
    this.skip(length);
    return this.#bytes.subarray(at, at + length);
  }
}
