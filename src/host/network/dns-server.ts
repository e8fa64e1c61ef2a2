import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { reset } from "../splice.ts";
import { MAX_QUESTION_BYTES } from "./dns-message.ts";
import type { DnsAnswers } from "./dns-answers.ts";

const MAX_STREAMS = 32;
const IDLE_MS = 10_000;
const MAX_UNREAD_BYTES = 65_536;
const LENGTH_BYTES = 2;

/** Takes questions on sockets that stand open already. */
export class DnsServer {
  readonly #answers: DnsAnswers;
  readonly #udp: UdpSocket[];
  readonly #tcp: Server[];
  readonly #streams = new Set<Socket>();

  constructor(answers: DnsAnswers, { udp, tcp }: { udp: readonly Listening[]; tcp: readonly Listening[] }) {
    this.#answers = answers;
    this.#udp = udp.map(({ fd, isIpv6 }) => this.#takeUdp(createSocket(isIpv6 ? "udp6" : "udp4"), fd));
    this.#tcp = tcp.map(({ fd }) =>
      createServer({ noDelay: true }, (socket) => this.#takeStream(socket)).listen({ fd }),
    );
    for (const server of this.#tcp) server.on("error", report);
  }

  close(): void {
    for (const socket of this.#udp) socket.close();
    for (const server of this.#tcp) server.close();
    for (const stream of this.#streams) stream.destroy();
  }

  #takeUdp(socket: UdpSocket, fd: number): UdpSocket {
    socket.on("error", report);
    socket.on("message", (question, { address, port }) => {
      void this.#answers.answer(question, "udp").then((answer) => {
        if (!answer) return;
        try {
          // Whoever has gone does not need it any more.
          socket.send(answer, port, address, () => {});
        } catch {
          // Closed meanwhile.
        }
      });
    });
    socket.bind({ fd });
    return socket;
  }

  #takeStream(socket: Socket): void {
    if (this.#streams.size >= MAX_STREAMS) return reset(socket);
    this.#streams.add(socket);
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on("error", () => {});
    socket.once("close", () => this.#streams.delete(socket));
    let unread: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      unread = Buffer.concat([unread, chunk]);
      while (unread.length >= LENGTH_BYTES) {
        const length = unread.readUInt16BE(0);
        if (length > MAX_QUESTION_BYTES || socket.writableLength > MAX_UNREAD_BYTES) return void socket.destroy();
        if (unread.length < LENGTH_BYTES + length) return;
        this.#answerStream(socket, unread.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
        unread = unread.subarray(LENGTH_BYTES + length);
      }
    });
  }

  #answerStream(socket: Socket, question: Buffer): void {
    void this.#answers.answer(question, "tcp").then((answer) => {
      if (!answer) return socket.destroy();
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt16BE(answer.length);
      return socket.write(Buffer.concat([length, answer]));
    });
  }
}

/** A socket of this process by its descriptor. */
export interface Listening {
  fd: number;
  isIpv6: boolean;
}

const report = (error: Error) => console.error("sandbar host: a sandbox's DNS:", error);
