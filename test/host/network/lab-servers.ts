import { createSocket } from "node:dgram";
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer, type Server as NetServer, type Socket } from "node:net";
import { createSecureContext } from "node:tls";
import type { Hit } from "./lab-plan.ts";

const STREAM_MS = 10_000;

type Record = (hit: Hit) => void;

/** The address at which somebody reached this server, as one of IPv4 where it is one. */
export const plainAddress = ({ localAddress = "" }: Pick<Socket, "localAddress">) =>
  localAddress.replace(/^::ffff:/, "");

/** TCP: says who it is and then whatever it is told. */
export function banners(port: number, record: Record): Promise<void> {
  const server = createServer((socket) => {
    const address = plainAddress(socket);
    record({ kind: "tcp", address, port, text: "" });
    socket.write(`lab ${address}:${port}\n`);
    socket.on("error", () => {});
    socket.once("data", (chunk) => record({ kind: "said", address, port, text: chunk.toString("latin1") }));
    socket.pipe(socket);
  });
  return listen(server, port);
}

/** HTTP to whoever does not look closely: all that comes is told as it is, and each piece answered with `lab ADDRESS:PORT`. */
export function anything(port: number, record: Record): Promise<void> {
  const server = createServer((socket) => {
    const address = plainAddress(socket);
    const body = `lab ${address}:${port}\n`;
    record({ kind: "tcp", address, port, text: "" });
    socket.on("error", () => {});
    const said: Hit = { kind: "said", address, port, text: "" };
    socket.on("data", (chunk) => {
      if (said.text === "") record(said);
      said.text += chunk.toString("latin1");
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
  });
  return listen(server, port);
}

/** UDP: answers each datagram with who it is; that says `stream` over and over. */
export async function datagrams(address: string, port: number, record: Record): Promise<void> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const streams = new Set<string>();
  socket.on("message", (message, asker) => {
    record({ kind: "udp", address, port, text: message.toString("latin1") });
    const say = () => socket.send(`lab ${address}:${port}`, asker.port, asker.address);
    say();
    const key = `${asker.address} ${asker.port}`;
    if (message.toString() !== "stream" || streams.has(key)) return;
    streams.add(key);
    const timer = setInterval(say, 10);
    setTimeout(() => clearInterval(timer), STREAM_MS);
  });
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
}

export function http(port: number, record: Record): Promise<void> {
  const server = createHttpServer();
  server.on("connection", (socket: Socket) => record({ kind: "tcp", address: plainAddress(socket), port, text: "" }));
  return serve(server, port, "http", record);
}

export function https(port: number, options: { key: string; cert: string }, record: Record): Promise<void> {
  const context = createSecureContext(options);
  const server = createHttpsServer({
    ...options,
    SNICallback(name, done) {
      record({ kind: "tls", address: "", port, text: name });
      done(null, context);
    },
  });
  server.on("connection", (socket: Socket) => record({ kind: "tcp", address: plainAddress(socket), port, text: "" }));
  return serve(server, port, "https", record);
}

/** Says of each request what came; `/redirect?to=URL` leads away, and an upgrade becomes an echo. */
function serve(server: Server, port: number, kind: "http" | "https", record: Record): Promise<void> {
  const note = (request: IncomingMessage) => {
    const { method, headers, url = "" } = request;
    const address = plainAddress(request.socket);
    record({ kind, address, port, text: `${method} ${headers.host ?? ""} ${url}` });
    return { lab: `${address}:${port}`, method, host: headers.host, url, headers };
  };
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    const noted = note(request);
    const to = /^\/redirect\?to=(.*)$/.exec(noted.url)?.[1];
    request.resume();
    response.setHeader("x-lab", `lab ${noted.lab}`);
    request.on("end", () => {
      if (to !== undefined) return response.writeHead(302, { location: decodeURIComponent(to) }).end();
      return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(noted));
    });
  });
  const echo = (head: string) => (request: IncomingMessage, socket: Socket) => {
    const { lab } = note(request);
    socket.on("error", () => {});
    socket.write(`${head}\r\n\r\nlab ${lab}\n`);
    socket.pipe(socket);
  };
  server.on("connect", echo("HTTP/1.1 200 OK"));
  server.on("upgrade", echo("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo"));
  return listen(server, port);
}

async function listen(server: NetServer, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "::", resolve);
  });
}
