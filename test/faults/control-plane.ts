import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import { writeAtomically } from "../../src/dev/state.ts";
import { D1_MODE_PATH, type D1Mode, type D1ModeAnswer, type D1Switch } from "./d1-mode.ts";
import { Service } from "./service.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const WRANGLER = join(REPOSITORY, "node_modules/wrangler/bin/wrangler.js");
const CONFIG = join(REPOSITORY, "wrangler.toml");
const ANSWER_MS = 2_000;
const READY_MS = 60_000;

export interface ControlPlaneOptions {
  /** Its state; its path names its processes. */
  directory: string;
  port: number;
  adminKey: string;
  signingSecret: string;
  onCrash: (output: string) => void;
}

/** The Worker of this suite under `wrangler dev`, with its local D1 and Durable Objects. */
export class ControlPlane {
  readonly url: string;
  readonly #service: Service;
  readonly #directory: string;
  #turn = 0;

  constructor(options: ControlPlaneOptions) {
    const { directory, port, adminKey, signingSecret } = options;
    this.#directory = directory;
    this.url = `http://127.0.0.1:${port}`;
    const envFile = join(directory, "worker.env");
    writeAtomically(envFile, `ADMIN_KEY="${adminKey}"\nSIGNING_SECRET="${signingSecret}"\n`);
    const args = [WRANGLER, "dev", join(import.meta.dirname, "worker/entry.ts"), "--config", CONFIG];
    args.push("--ip", "127.0.0.1", "--port", String(port), "--inspector-port", "0");
    args.push("--persist-to", join(directory, "worker"), "--env-file", envFile);
    args.push("--log-level", "warn", "--show-interactive-dev-session=false");
    const tether = join(REPOSITORY, "src/dev/tether.ts");
    this.#service = new Service(
      {
        command: process.execPath,
        // Wrangler does not end with its parent by itself.
        args: [tether, ...args],
        env: {
          ...process.env,
          ...QUIET,
          CLOUDFLARE_CF_FETCH_ENABLED: "false",
          X_LOCAL_EXPLORER: "false",
          X_LOCAL_OBSERVABILITY: "false",
        },
        isGroup: true,
      },
      options.onCrash,
    );
  }

  get output(): string {
    return this.#service.output;
  }

  get isWanted(): boolean {
    return this.#service.isWanted;
  }

  migrate(): void {
    const args = ["d1", "migrations", "apply", "DB", "--local", "--persist-to", join(this.#directory, "worker")];
    execFileSync(process.execPath, [WRANGLER, ...args, "--config", CONFIG], {
      cwd: REPOSITORY,
      env: { ...process.env, ...QUIET },
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  start(): void {
    this.#service.start();
  }

  kill(): Promise<void> {
    return this.#service.kill();
  }

  stop(): Promise<void> {
    return this.#service.stop();
  }

  async untilAnswers(): Promise<void> {
    for (const giveUpAt = Date.now() + READY_MS; Date.now() < giveUpAt;) {
      const health = await fetch(`${this.url}/health`, { signal: AbortSignal.timeout(ANSWER_MS) }).catch(
        () => undefined,
      );
      await health?.body?.cancel();
      if (health?.ok) return;
      await new Promise((wake) => setTimeout(wake, 100));
    }
    throw new Error(`The Worker does not answer:\n${this.output}`);
  }

  /** Switches how the catalog answers; how many calls the mode before has hit, undefined when the Worker does not say so. */
  async switchD1(mode: D1Mode): Promise<number | undefined> {
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      this.#turn += 1;
      const body = JSON.stringify({ turn: this.#turn, mode } satisfies D1Switch);
      const answer = await fetch(`${this.url}${D1_MODE_PATH}`, { method: "POST", body, signal });
      return ((await answer.json()) as D1ModeAnswer).hits;
    } catch {
      return undefined;
    }
  }

  /** Lets the catalog answer again, however slow the Worker is to hear of it; one that is killed meanwhile comes back so by itself. */
  async restoreD1(): Promise<number | undefined> {
    for (const giveUpAt = Date.now() + READY_MS; this.isWanted && Date.now() < giveUpAt;) {
      const hits = await this.switchD1({ kind: "ok" });
      if (hits !== undefined) return hits;
      await new Promise((wake) => setTimeout(wake, 100));
    }
    return undefined;
  }
}

const QUIET = { WRANGLER_SEND_METRICS: "false", WRANGLER_HIDE_BANNER: "true", CI: "1", NO_COLOR: "1" };
