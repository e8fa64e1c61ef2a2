import type { Duplex } from "node:stream";
import type { SignalName } from "../../contract/process.ts";
import { noInput } from "../launcher/input.ts";
import { NO_OUTPUT, type ProcessOutput, type Spawned } from "../runtime.ts";
import { Demultiplexer } from "./demultiplexer.ts";
import { type Engine, EngineError } from "./engine.ts";
import { outputOf } from "./exec-output.ts";

/**
 * The entrypoint of a container without a launcher: the engine itself runs it, and passes its output on. What it writes while
 * no daemon is attached is lost.
 */
export class AttachedMain implements Spawned {
  readonly stdin = noInput();
  readonly stdout: ProcessOutput;
  readonly stderr: ProcessOutput;
  readonly exited: Promise<number | undefined>;
  readonly #engine: Engine;
  readonly #containerId: string;
  readonly #exit = Promise.withResolvers<number | undefined>();

  /** Without a connection, it has no output any more. */
  constructor(engine: Engine, containerId: string, connection: Duplex | undefined) {
    this.#engine = engine;
    this.#containerId = containerId;
    this.exited = this.#exit.promise;
    if (!connection) {
      this.stdout = this.stderr = NO_OUTPUT;
      return;
    }
    const output = new Demultiplexer();
    this.stdout = outputOf(output.stdout);
    this.stderr = outputOf(output.stderr);
    connection.once("close", () => output.end());
    connection.on("error", () => output.end()).pipe(output);
    // The engine ends the connection with the container, once all has been passed on.
    output.once("finish", () => connection.destroy());
  }

  /** Its container has ended, by its end or by another. */
  ended(returncode: number | undefined): void {
    this.#exit.resolve(returncode);
  }

  async kill(signal: SignalName): Promise<void> {
    try {
      await this.#engine.kill(this.#containerId, signal);
    } catch (error) {
      // It has ended.
      if (!(error instanceof EngineError && (error.status === 404 || error.status === 409))) throw error;
    }
  }

  release(): void {
    // The engine forgets it with the container.
  }
}
