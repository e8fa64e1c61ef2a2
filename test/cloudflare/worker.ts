import { DurableObject } from "cloudflare:workers";
import type { Backend } from "../../src/backends/backend.ts";
import { CloudflareBackend } from "../../src/backends/cloudflare/cloudflare-backend.ts";
import { ContainerHost } from "../../src/backends/cloudflare/container-host.ts";
import { asApiError } from "../../src/contract/errors.ts";
import type { ByteSource } from "../../src/contract/byte-source.ts";
import type { FileContent } from "../../src/backends/backend.ts";

interface TestEnv {
  OBJECTS: DurableObjectNamespace<ContainerObject>;
}

/** What a test asks of the backend in an object: the method, its arguments, and where its body goes among them. */
interface BackendCall {
  method: keyof Backend | keyof typeof PLATFORM;
  args: unknown[];
  bodyAt?: number;
  snapshotId?: string;
}

/** What answers with bytes. */
const SOURCES = new Set<BackendCall["method"]>(["output", "events", "watch", "readArchive"]);

/** The platform itself, for what is measured beside the backend, and for what only a test does. */
const PLATFORM = {
  /** Names this life of the object. */
  async life(object: ContainerObject) {
    return object.life;
  },
  /** Ends this life of the object. */
  async abort(object: ContainerObject) {
    object.ctx.abort("the test ends this life of the object");
  },
  async isRunning(object: ContainerObject) {
    return object.ctx.container!.running;
  },
  async bareStart(object: ContainerObject) {
    const container = object.ctx.container!;
    container.start({ image: container.images["base"]!, entrypoint: ["sleep", "infinity"], enableInternet: true });
  },
  async bareExec(object: ContainerObject, command: string[]) {
    const process = await object.ctx.container!.exec(command);
    const { stdout, exitCode } = await process.output();
    return { exitCode, bytes: stdout.byteLength };
  },
  async bareDestroy(object: ContainerObject) {
    await object.ctx.container!.destroy();
  },
} satisfies Record<string, (object: ContainerObject, ...args: never[]) => Promise<unknown>>;

/** An object with a container beside it, and nothing but the backend in it. */
export class ContainerObject extends DurableObject<TestEnv> {
  declare readonly ctx: DurableObjectState;
  readonly life = crypto.randomUUID();
  readonly #host: ContainerHost;

  constructor(ctx: DurableObjectState, env: TestEnv) {
    super(ctx, env);
    this.#host = new ContainerHost({
      container: ctx.container!,
      storage: ctx.storage,
      keepAwake: (work) => ctx.waitUntil(work),
      ended: () => undefined,
      socketOf: () => {
        throw new Error("nobody is attached here");
      },
    });
  }

  override async fetch(request: Request): Promise<Response> {
    const call = JSON.parse(decodeURIComponent(request.headers.get("x-call")!)) as BackendCall;
    try {
      return await this.#answer(call, request.body);
    } catch (error) {
      const known = asApiError(error);
      if (!known) console.error(error);
      const { code = "internal", detail = String(error), errors, retryAfter, extra } = known ?? {};
      return Response.json({ code, options: { detail, errors, retryAfter, extra } }, { status: 400 });
    }
  }

  async #answer({ method, args, bodyAt, snapshotId }: BackendCall, body: ReadableStream | null): Promise<Response> {
    if (method in PLATFORM) {
      const run = PLATFORM[method as keyof typeof PLATFORM] as (object: this, ...rest: unknown[]) => Promise<unknown>;
      return Response.json((await run(this, ...args)) ?? null);
    }
    const backend = new CloudflareBackend(this.#host, 1, snapshotId);
    if (bodyAt !== undefined) args.splice(bodyAt, 0, body ?? new Response("").body);
    const result = await (backend[method as keyof Backend] as (...all: unknown[]) => Promise<unknown>)(...args);
    if (SOURCES.has(method)) {
      const source = result as Extract<ByteSource, { kind: "stream" }>;
      return new Response(source.body, { headers: { "content-type": "application/octet-stream" } });
    }
    if (method === "readFile") {
      const { body: content, ...file } = result as FileContent;
      return new Response(content, {
        headers: { "x-file": JSON.stringify(file), "content-type": "application/octet-stream" },
      });
    }
    return Response.json(result ?? null);
  }
}

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    if (name === "") return new Response("ready");
    return env.OBJECTS.get(env.OBJECTS.idFromName(name)).fetch(request);
  },
} satisfies ExportedHandler<TestEnv>;
