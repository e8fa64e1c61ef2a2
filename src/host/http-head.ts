import { STATUS_CODES, type IncomingMessage, type ServerResponse } from "node:http";
import { endToEndHeaders } from "./proxy-headers.ts";

/** Whether more of the request is to come than its head. */
export const hasBody = ({ headers }: IncomingMessage) =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0";

/** The headers, as Node has them raw, that ask to go on in another protocol, or agree to. */
export const upgradeTo = (protocol = "") => ["Connection", "Upgrade", "Upgrade", protocol];

/** Begins the answer as the other side began its own. False, and nothing is said yet, where that cannot be said at all. */
export function passHead(answer: IncomingMessage, response: ServerResponse): boolean {
  try {
    response.writeHead(answer.statusCode!, reasonOf(answer), endToEndHeaders(answer.rawHeaders));
  } catch {
    return false;
  }
  // An event stream says its headers long before its first event.
  response.flushHeaders();
  return true;
}

/** The head of our own answer that agrees to another protocol. */
export const headOfAgreement = (protocol: string) =>
  `HTTP/1.1 101 ${STATUS_CODES[101]}\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;

/** The head of an answer that agrees to another protocol, as it is passed on where Node leaves the connection to us. */
export const headOfUpgrade = (answer: IncomingMessage) => headOf(answer, upgradeTo(answer.headers.upgrade));

/** The same of an answer after which the connection ends. */
export const headOfLast = (answer: IncomingMessage) => headOf(answer, ["Connection", "close"]);

function headOf(answer: IncomingMessage, own: string[]): string {
  const headers = [...own, ...endToEndHeaders(answer.rawHeaders)];
  let head = `HTTP/1.1 ${answer.statusCode} ${reasonOf(answer)}\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${head}\r\n`;
}

/** Node reads more in its place than it lets be said. */
function reasonOf({ statusCode, statusMessage = "" }: IncomingMessage): string {
  return /^[\t\x20-\x7e\x80-\xff]*$/.test(statusMessage) ? statusMessage : (STATUS_CODES[statusCode!] ?? "");
}
