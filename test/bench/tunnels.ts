import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { WebSocket } from "ws";
import { Instance, type RuntimeName } from "../e2e/instance.ts";
import { BenchClient } from "./client.ts";
import { percentile, timed, type Row } from "./report.ts";
import { TUNNEL_PORTS, TUNNEL_SERVER } from "./tunnel-server.ts";

const MIB = 1_048_576;
const SOCKETS = 500;
const MESSAGES = 20;
/** What a tunnel may add to a request. */
const MAX_ADDED_MS = 5;
const LISTEN_TIMEOUT_MS = 30_000;
const MESSAGE_TIMEOUT_MS = 30_000;

export interface TunnelsBenchOptions {
  runtime: RuntimeName;
  quick: boolean;
  add(row: Row): void;
}

/** A server in a sandbox through its tunnel, beside the same server through the port that the engine publishes for it, by turns. */
export async function benchTunnels({ runtime, quick, add }: TunnelsBenchOptions): Promise<void> {
  const instance = await Instance.start(runtime);
  try {
    const client = new BenchClient(instance);
    const isPublished = runtime === "docker";
    const { sandbox_id: id } = await client.json<{ sandbox_id: string }>("POST", "/sandboxes", {
      timeout: 3600,
      encrypted_ports: [TUNNEL_PORTS.tunnel],
      ...(isPublished && { unencrypted_ports: [TUNNEL_PORTS.published] }),
    });
    await client.json("POST", `/sandboxes/${id}/exec`, { command: ["python3", "-c", TUNNEL_SERVER] });
    const tunnels = await client.json<Record<string, { host: string; port: number }>>(
      "GET",
      `/sandboxes/${id}/tunnels`,
    );
    const ways = {
      ours: {
        url: `http://127.0.0.1:${instance.port}`,
        host: `${tunnels[TUNNEL_PORTS.tunnel]!.host}:${instance.port}`,
      },
      direct: isPublished
        ? { url: `http://127.0.0.1:${tunnels[TUNNEL_PORTS.published]!.port}`, host: "published" }
        : undefined,
    };
    await listening(ways.ours);
    await benchLatency(ways, quick, add);
    await benchThroughput(ways, quick, add);
    await benchSockets(ways.ours, add);
  } finally {
    await instance.remove();
  }
}

/** A way to the server: node resolves no names below localhost, so that it is named in the header. */
interface Way {
  url: string;
  host: string;
}
interface Ways {
  ours: Way;
  direct: Way | undefined;
}

async function listening(way: Way): Promise<void> {
  const agent = new Agent();
  const giveUpAt = Date.now() + LISTEN_TIMEOUT_MS;
  for (let status = 0; (status = await ask(way, "/", agent)) !== 200;) {
    if (Date.now() > giveUpAt) throw new Error(`the server of the bench does not answer: ${status}`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

function ask({ url, host }: Way, path: string, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    get(`${url}${path}`, { agent, headers: { host } }, (answer) => {
      answer.resume().once("end", () => resolve(answer.statusCode!));
    }).once("error", reject);
  });
}

async function benchLatency({ ours, direct }: Ways, quick: boolean, add: (row: Row) => void): Promise<void> {
  const agent = new Agent({ keepAlive: true });
  const [through, beside]: [number[], number[]] = [[], []];
  for (let round = -10; round < (quick ? 100 : 500); round++) {
    const took = await timed(() => ask(ours, "/", agent));
    const direct_ = direct && (await timed(() => ask(direct, "/", agent)));
    if (round < 0) continue;
    through.push(took);
    if (direct_ !== undefined) beside.push(direct_);
  }
  agent.destroy();
  const p50 = beside.length > 0 ? percentile(beside, 0.5) : undefined;
  const target = { atMostMore: MAX_ADDED_MS };
  add({ what: "request through a tunnel, p50", unit: "ms", ours: percentile(through, 0.5), engine: p50, target });
  add({ what: "request through a tunnel, p95", unit: "ms", ours: percentile(through, 0.95) });
}

async function benchThroughput({ ours, direct }: Ways, quick: boolean, add: (row: Row) => void): Promise<void> {
  const mib = quick ? 256 : 1024;
  const folder = mkdtempSync("/tmp/sandbar-bench-");
  const file = `${folder}/zeros`;
  writeFileSync(file, "");
  truncateSync(file, mib * MIB);
  for (const [what, curl] of [
    [`download of ${mib} MiB through a tunnel`, (way: Way) => download(way, mib)],
    [`upload of ${mib} MiB through a tunnel`, (way: Way) => upload(way, mib, `cat /dev/null`, file)],
    [`upload of ${mib} MiB in chunks through a tunnel`, (way: Way) => upload(way, mib, `cat ${file}`, "-")],
  ] as const) {
    const [through, beside]: [number[], number[]] = [[], []];
    for (let round = 0; round < 3; round++) {
      through.push(await timed(() => curl(ours)));
      if (direct) beside.push(await timed(() => curl(direct)));
    }
    const rate = (times: number[]) => (times.length > 0 ? (mib * MIB) / 1e3 / percentile(times, 0.5) : undefined);
    add({ what, unit: "MB/s", ours: rate(through)!, engine: rate(beside), target: { atLeast: 0.7 } });
  }
  rmSync(folder, { recursive: true });
}

const download = ({ url, host }: Way, mib: number) =>
  shell(`curl -sf -m 300 -H 'host: ${host}' '${url}/bytes?mib=${mib}' | wc -c`, String(mib * MIB));
/** curl names the length of a file, and sends its standard input in chunks. */
const upload = ({ url, host }: Way, mib: number, input: string, from: string) =>
  shell(`${input} | curl -sf -m 300 -H 'host: ${host}' -T ${from} '${url}/sink'`, String(mib * MIB));

/** Runs it, and checks what it says. */
async function shell(script: string, expected: string): Promise<void> {
  const child = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk) => (text += String(chunk)));
  await once(child, "close");
  if (text.trim() !== expected) throw new Error(`bytes are missing: ${text.trim()} of ${expected}`);
}

/** All at once; each has one message under way at a time. */
async function benchSockets({ url, host }: Way, add: (row: Row) => void): Promise<void> {
  const times: number[] = [];
  let back = 0;
  const sockets = await Promise.all(Array.from({ length: SOCKETS }, () => open(url, host)));
  await Promise.all(
    sockets.map(async (socket, number) => {
      for (let index = 0; index < MESSAGES; index++) {
        const message = `${number} ${index} ${"x".repeat(80)}`;
        times.push(
          await timed(async () => {
            const answer = once(socket, "message", { signal: AbortSignal.timeout(MESSAGE_TIMEOUT_MS) });
            socket.send(message);
            if (String((await answer)[0]) === message) back++;
          }),
        );
      }
    }),
  );
  for (const socket of sockets) socket.terminate();
  const target = { atLeast: 1 };
  const what = `${SOCKETS} WebSockets at once: messages that came back`;
  add({ what, unit: "", ours: back, engine: SOCKETS * MESSAGES, target });
  add({ what: `${SOCKETS} WebSockets at once: round trip, p50`, unit: "ms", ours: percentile(times, 0.5) });
}

async function open(url: string, host: string): Promise<WebSocket> {
  const socket = new WebSocket(url.replace("http", "ws"), { headers: { host }, perMessageDeflate: false });
  await once(socket, "open", { signal: AbortSignal.timeout(60_000) });
  return socket;
}
