import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { readLine } from "./dial-line.ts";
import { HOST_ENV } from "../linux/programs.ts";
import { nsenter } from "./machine.ts";

const AGENT = `${import.meta.dirname}/dial-agent.ts`;

/** Connections to the ports of one container, through an agent that is started for the first of them. */
export class Dialer {
  readonly #init: number;
  readonly #path: string;
  #agent: Promise<ChildProcess> | undefined;
  #closed = false;

  /** `init` is the container's first process, by its number on this machine; `path` is for a Unix socket. */
  constructor(init: number, path: string) {
    this.#init = init;
    this.#path = path;
  }

  async dial(port: number): Promise<Duplex> {
    if (this.#closed) throw refused(port);
    this.#agent ??= this.#start();
    await this.#agent;
    const socket: Socket = connect({ path: this.#path, allowHalfOpen: true });
    try {
      await once(socket, "connect");
      socket.write(`${port}\n`);
      if ((await readLine(socket)) !== "ok") throw refused(port);
      return socket;
    } catch {
      socket.on("error", () => {}).destroy();
      throw refused(port);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const agent = await this.#agent?.catch(() => undefined);
    agent?.kill("SIGKILL");
  }

  async #start(): Promise<ChildProcess> {
    await rm(this.#path, { force: true });
    const argv = [...nsenter(this.#init, "--net"), process.execPath, AGENT, this.#path];
    const agent = spawn(argv[0]!, argv.slice(1), { stdio: ["pipe", "pipe", "ignore"], env: HOST_ENV });
    const forget = () => {
      this.#agent = undefined;
    };
    agent.once("exit", forget);
    agent.stdin!.on("error", () => {});
    await Promise.race([
      once(agent.stdout!, "data"),
      once(agent, "exit").then(() => {
        throw new Error("The way into the container's network could not be opened.");
      }),
    ]);
    return agent;
  }
}

function refused(port: number): Error {
  return Object.assign(new Error(`connect ECONNREFUSED port ${port} of the sandbox`), { code: "ECONNREFUSED", port });
}
