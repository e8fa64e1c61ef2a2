import ipaddr from "ipaddr.js";
import { closeSync } from "node:fs";
import { call, check, looked, result } from "../linux/libc.ts";
import { AF_INET, AF_INET6, makeSocket } from "../linux/sockets.ts";
import { inNamespace } from "./namespace.ts";

/** The TCP connections of a network namespace, as the kernel's `sock_diag` tells of them and ends them. For Linux, as root. */
const calls = {
  send: call("int64 send(int fd, void *message, size_t length, int flags)"),
  recv: call("int64 recv(int fd, _Out_ void *message, size_t length, int flags)"),
};

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const NLM_F_REQUEST = 0x1;
const NLM_F_DUMP = 0x300;
const IPPROTO_TCP = 6;
const TCP_TIME_WAIT = 6;
const TCP_CLOSE = 7;
const TCP_LISTEN = 10;
const STATES = 0xfff & ~(1 << TCP_TIME_WAIT) & ~(1 << TCP_CLOSE);
/** Of `struct nlmsghdr`, and of the `inet_diag_sockid` in what follows it: 8 bytes on in a request, 4 in an answer. */
const HEADER_BYTES = 16;
const ID_BYTES = 48;
const REQUEST_ID_AT = HEADER_BYTES + 8;
const ANSWER_ID_AT = HEADER_BYTES + 4;
const REQUEST_BYTES = REQUEST_ID_AT + ID_BYTES;
const BUFFER_BYTES = 65_536;

interface SocketAddress {
  address: string;
  port: number;
}

/** One end of a connection. */
export interface OpenSocket {
  local: SocketAddress;
  /** Of one that listens: nobody's. */
  remote: SocketAddress;
  isListening: boolean;
  /** What the kernel knows it by. */
  family: number;
  id: Buffer;
}

/** Ends connections of the namespace as if they had broken off; `choose` answers which, of all that there are and of those that listen. */
export function endConnections(namespace: number, choose: (sockets: OpenSocket[]) => OpenSocket[]): void {
  const netlink = inNamespace(namespace, () => makeSocket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
  try {
    const sockets = [AF_INET, AF_INET6].flatMap((family) => dump(netlink, family));
    for (const { family, id } of choose(sockets)) send(netlink, SOCK_DESTROY, NLM_F_REQUEST, family, id);
  } finally {
    closeSync(netlink);
  }
}

function dump(netlink: number, family: number): OpenSocket[] {
  const found: OpenSocket[] = [];
  send(netlink, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family);
  const buffer = Buffer.alloc(BUFFER_BYTES);
  for (;;) {
    // The kernel goes on with its answer while it is read: it is never waited for.
    const { value } = looked(() => calls.recv(netlink, buffer, buffer.length, 0));
    if (value <= 0) return found;
    for (let at = 0; at + HEADER_BYTES <= value;) {
      const length = buffer.readUInt32LE(at);
      // The end of it, or an error.
      if (buffer.readUInt16LE(at + 4) !== SOCK_DIAG_BY_FAMILY || length < ANSWER_ID_AT + ID_BYTES) return found;
      found.push(parse(buffer.subarray(at, at + length)));
      at += (length + 3) & ~3;
    }
  }
}

function send(netlink: number, type: number, flags: number, family: number, id?: Buffer): void {
  const message = Buffer.alloc(REQUEST_BYTES);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags, 6);
  message[HEADER_BYTES] = family;
  message[HEADER_BYTES + 1] = IPPROTO_TCP;
  message.writeUInt32LE(STATES, HEADER_BYTES + 4);
  if (id) message.set(id, REQUEST_ID_AT);
  check("sock_diag", result(calls.send(netlink, message, message.length, 0)));
}

/** `inet_diag_sockid`: two ports, two addresses of 16 bytes, interface, cookie. */
function parse(answer: Buffer): OpenSocket {
  const family = answer[HEADER_BYTES]!;
  const id = Buffer.from(answer.subarray(ANSWER_ID_AT, ANSWER_ID_AT + ID_BYTES));
  const bytes = family === AF_INET6 ? 16 : 4;
  const address = (at: number) => ipaddr.fromByteArray([...id.subarray(at, at + bytes)]);
  const plain = (at: number) => ipaddr.process(address(at).toString()).toString();
  return {
    local: { address: plain(4), port: id.readUInt16BE(0) },
    remote: { address: plain(20), port: id.readUInt16BE(2) },
    isListening: answer[HEADER_BYTES + 1] === TCP_LISTEN,
    family,
    id,
  };
}
