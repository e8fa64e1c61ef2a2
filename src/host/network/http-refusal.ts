import { STATUS_CODES, type ServerResponse } from "node:http";

/** What a sandbox gets in place of an answer from where its request went. */
export class Refusal {
  readonly #status: number;
  readonly #message: string;

  constructor(status: number, message: string) {
    this.#status = status;
    this.#message = `sandbar: ${message}\n`;
  }

  answer(response: ServerResponse): void {
    response.writeHead(this.#status, this.#headers());
    response.end(this.#message);
  }

  /** As it stands on a connection, which ends after it. */
  text(): string {
    const headers = Object.entries({ ...this.#headers(), Connection: "close" });
    const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    return `HTTP/1.1 ${this.#status} ${STATUS_CODES[this.#status]}\r\n${lines}\r\n${this.#message}`;
  }

  #headers() {
    return { "Content-Type": "text/plain; charset=utf-8", "Content-Length": Buffer.byteLength(this.#message) };
  }
}

/** Of an error of dialling, or of a connection that ended without an answer. */
export function refusalOf(error: unknown): Refusal {
  switch ((error as NodeJS.ErrnoException).code) {
    case "EACCES":
      return new Refusal(403, "This sandbox may not connect there.");
    case "ENOTFOUND":
    case "ENODATA":
      return new Refusal(502, "The host has no address.");
    case "EUNVERIFIED":
      return new Refusal(502, "The host has no certificate that this machine trusts.");
    case "ETIMEDOUT":
    case "ETIMEOUT":
      return new Refusal(504, "The host did not answer in time.");
    default:
      return new Refusal(502, "The host is not reached, or ended the connection without an answer.");
  }
}
