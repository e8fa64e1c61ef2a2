import { execFile, execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { promisify } from "node:util";
import type { ProcessStatus } from "../../../src/contract/host-protocol.ts";
import { newId } from "../../../src/contract/ids.ts";
import { IMAGE, noEngine } from "../docker-host.ts";
import { text, type HostCaller } from "../signed-host.ts";
import { newToken, type Attempt, type Sibling } from "./attacks.ts";
import { DEVICE_PREFIX, type Lab } from "./lab.ts";
import { METADATA, type Hit } from "./lab-plan.ts";

const SCRIPT = readFileSync(`${import.meta.dirname}/attacks.py`, "utf8");
/** Much longer than a refusal takes, also on a busy machine. */
const LIMIT_S = 5;
const WAIT_MS = 30_000;
/** Of those that are made over and over: the one after it tells as much. */
const INSIST_LIMIT_S = 2;
const INSIST_S = 60;
const SIBLING_PORT = 7777;

/** What became of an attempt. */
export interface Outcome {
  heard: string;
  error: string;
  ms: number;
}
/** An attempt, and what it is known by wherever it comes. */
export interface Known {
  token: string;
  outcome: Outcome;
}

/** What is told besides of those who attack from outside the sandboxes: see `attacks.py`. */
interface Surroundings {
  resolver?: string;
  device?: string;
  bound?: readonly string[];
}

/** Makes the attempts all at once in a program that `run` runs; the answers are in their order. */
async function attemptAll(
  attempts: readonly Attempt[],
  run: (order: string) => Promise<string>,
  surroundings: Surroundings = {},
): Promise<Known[]> {
  const tokens = attempts.map(newToken);
  const known = attempts.map((attempt, id) => ({ ...withToken(attempt, tokens[id]!), id }));
  const output = await run(JSON.stringify({ ...surroundings, limit: LIMIT_S, attempts: known }));
  const outcomes = attemptsInOrder(JSON.parse(output) as (Outcome & { id: number })[]);
  return tokens.map((token, id) => ({ token, outcome: outcomes[id]! }));
}

const withToken = (attempt: Attempt, token: string) =>
  JSON.parse(JSON.stringify(attempt).replaceAll("TOKEN", token)) as Attempt;

/** From inside a sandbox. */
export function attackFrom(host: HostCaller, box: string, attempts: readonly Attempt[]): Promise<Known[]> {
  return attemptAll(attempts, async (order) => {
    const stdin = Buffer.from(order).toString("base64");
    const { returncode, output } = await host.exec(box, ["python3", "-c", SCRIPT], { stdin }, WAIT_MS);
    if (returncode !== 0) throw new Error(`The attacks failed (${returncode}): ${text(output?.stderr)}`);
    return text(output!.stdout);
  });
}

/** Attempts that a sandbox makes over and over. */
export class Insisting {
  readonly #host: HostCaller;
  readonly #path: string;

  private constructor(host: HostCaller, path: string) {
    this.#host = host;
    this.#path = path;
  }

  static async start(host: HostCaller, box: string, attempts: readonly Attempt[]): Promise<Insisting> {
    const process_id = newId("process");
    await host.exec(box, insistOn(attempts), { process_id }, 0);
    return new Insisting(host, `${box}/processes/${process_id}`);
  }

  /** What was heard of each, all times together. */
  async end(): Promise<string[]> {
    await this.#host.send("POST", `${this.#path}/signal`, { signal: "SIGUSR1" });
    const { json } = await this.#host.call("GET", `${this.#path}?wait_ms=${WAIT_MS}`);
    const { returncode, output } = json as unknown as ProcessStatus;
    if (returncode !== 0) throw new Error(`The attacks failed (${returncode}): ${text(output?.stderr)}`);
    const outcomes = JSON.parse(text(output!.stdout)) as (Outcome & { id: number })[];
    return attemptsInOrder(outcomes).map(({ heard }) => heard);
  }
}

/** The command that makes attempts over and over. */
export function insistOn(attempts: readonly Attempt[]): string[] {
  const order = {
    limit: INSIST_LIMIT_S,
    seconds: INSIST_S,
    attempts: attempts.map((attempt, id) => Object.assign({}, attempt, { id })),
  };
  return ["python3", "-c", SCRIPT, JSON.stringify(order)];
}

const attemptsInOrder = <T extends { id: number }>(outcomes: T[]) =>
  outcomes.toSorted((one, other) => one.id - other.id);

/** From this machine itself, as if the lab were all there is. */
export function attackFromHere(attempts: readonly Attempt[], { plan, device }: Lab): Promise<Known[]> {
  const run = async (order: string) => {
    const running = promisify(execFile)("python3", ["-c", SCRIPT], { maxBuffer: 1e8, timeout: WAIT_MS });
    running.child.stdin!.end(order);
    return (await running).stdout;
  };
  return attemptAll(attempts, run, { resolver: plan.resolver, device, bound: METADATA });
}

/** Services of this machine, and other containers on it, that say who they are. */
export class Neighbours {
  readonly hosts: string[];
  readonly hostPort: number;
  readonly siblings: Sibling[];
  /** What the services of this machine were told. */
  readonly hits: Hit[];
  readonly #close: () => Promise<void>;

  private constructor(
    fields: Pick<Neighbours, "hosts" | "hostPort" | "siblings" | "hits">,
    close: () => Promise<void>,
  ) {
    ({ hosts: this.hosts, hostPort: this.hostPort, siblings: this.siblings, hits: this.hits } = fields);
    this.#close = close;
  }

  static async start(lab: Lab): Promise<Neighbours> {
    const hits: Hit[] = [];
    const hear = (kind: "said" | "udp", data: Buffer) =>
      void hits.push({ kind, address: "host", port: hostPort, text: data.toString("latin1") });
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (data) => hear("said", data));
      socket.end(`lab host:${hostPort}\n`);
    });
    await new Promise<void>((resolve) => server.listen(0, "::", resolve));
    const hostPort = (server.address() as AddressInfo).port;
    const udp = createSocket({ type: "udp6", ipv6Only: false });
    udp.on("message", (data, { address, port }) => {
      hear("udp", data);
      udp.send(`lab host:${hostPort}`, port, address, () => {});
    });
    await new Promise<void>((resolve) => udp.bind(hostPort, "::", resolve));
    const names = noEngine ? [] : await startSiblings();
    const siblings = names.map(siblingOf);
    return new Neighbours({ hosts: ownAddresses(lab.device), hostPort, siblings, hits }, async () => {
      server.close();
      udp.close();
      if (names.length > 0) await promisify(execFile)("docker", ["rm", "-f", ...names]);
    });
  }

  close(): Promise<void> {
    return this.#close();
  }
}

/** All but loopback, those that are of one link only, and those of other labs, which may go at any time. */
function ownAddresses(device: string): string[] {
  return Object.entries(networkInterfaces())
    .filter(([name]) => name === device || !name.startsWith(DEVICE_PREFIX))
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith("fe80:"))
    .map(({ address }) => address);
}

const SAYS_WHO = `
import socket
server = socket.create_server(("0.0.0.0", ${SIBLING_PORT}))
while True:
    connection = server.accept()[0]
    connection.sendall(b"lab sibling:${SIBLING_PORT}\\n")
    connection.close()
`;

/** One on Docker's own bridge, and one on that of the sandboxes where there is one. Their names. */
async function startSiblings(): Promise<string[]> {
  const listed = execFileSync("docker", ["network", "ls", "--format", "{{.Name}}"]).toString().split("\n");
  return Promise.all(
    ["bridge", "sandbar"]
      .filter((network) => listed.includes(network))
      .map(async (network) => {
        const args = ["-d", "--rm", "--network", network, "-p", String(SIBLING_PORT), IMAGE];
        // It ends by itself where nobody is left to end it.
        const program = ["timeout", "600", "python3", "-c", SAYS_WHO];
        return (await promisify(execFile)("docker", ["run", ...args, ...program])).stdout.trim();
      }),
  );
}

function siblingOf(container: string): Sibling {
  const format = "{{json .NetworkSettings}}";
  const settings = JSON.parse(execFileSync("docker", ["inspect", "-f", format, container]).toString()) as {
    Networks: Record<string, { IPAddress: string }>;
    Ports: Record<string, { HostIp: string; HostPort: string }[]>;
  };
  const [{ IPAddress: address } = { IPAddress: "" }] = Object.values(settings.Networks);
  // A port of each family of addresses.
  const published = settings.Ports[`${SIBLING_PORT}/tcp`]!.map(({ HostIp, HostPort }) => {
    return { isIpv6: HostIp.includes(":"), port: Number(HostPort) };
  });
  return { address, port: SIBLING_PORT, published };
}
