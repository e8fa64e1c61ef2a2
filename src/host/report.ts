import { HostOrdersSchema, type HostInfo, type HostReport } from "../contract/host-protocol.ts";
import { CONTROL_PLANE_AUDIENCE, signRequest } from "../contract/host-token.ts";
import type { Containers } from "./containers.ts";
import { ImageCensus, type ReportedImages } from "./image-census.ts";

const INTERVAL_MS = 5_000;
const JITTER_MS = 500;
/** Ends that come together are reported together. */
const DEBOUNCE_MS = 20;
const REQUEST_TIMEOUT_MS = 10_000;

export interface ReporterOptions {
  controlPlaneUrl: string;
  hostKey: string;
  /** Where the control plane reaches this host. */
  advertiseUrl: string;
  info: HostInfo;
  containers: Containers;
  images: ReportedImages;
  log?: (line: string) => void;
}

/** Tells the control plane every few seconds, and at once when asked, what runs here; removes what nobody claims. */
export class Reporter {
  readonly #options: ReporterOptions;
  readonly #log: (line: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #inFlight: Promise<void> | undefined;
  #isWanted = false;
  #isStopped = false;
  readonly #census: ImageCensus;
  /** What the last report met: undefined before the first, empty when it arrived. */
  #trouble: string | undefined;
  readonly #abort = new AbortController();

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#log = options.log ?? ((line) => console.error(`sandbar host: ${line}`));
    this.#census = new ImageCensus(options.images, this.#log);
  }

  start(): void {
    this.#schedule(0);
  }

  /** Reports in a moment, with all that happens until then. */
  soon(): void {
    if (this.#inFlight) this.#isWanted = true;
    else this.#schedule(DEBOUNCE_MS);
  }

  /** Reports nothing more, also not what is under way. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#inFlight = this.#send().finally(() => {
        this.#inFlight = undefined;
        const next = this.#isWanted ? DEBOUNCE_MS : INTERVAL_MS + (Math.random() * 2 - 1) * JITTER_MS;
        this.#isWanted = false;
        this.#schedule(next);
      });
    }, delayMs);
  }

  async #send(): Promise<void> {
    try {
      await this.#report();
      this.#note("");
    } catch (error) {
      if (!this.#isStopped) this.#note(reasonOf(error));
    }
  }

  async #report(): Promise<void> {
    const { controlPlaneUrl, hostKey, advertiseUrl, info, containers } = this.#options;
    const url = new URL(`${controlPlaneUrl.replace(/\/+$/, "")}/v1/hosts/${info.host_id}/report`);
    const images = this.#census.page;
    const report: HostReport = { url: advertiseUrl, info, containers: containers.list(), ...(images && { images }) };
    const response = await fetch(url, {
      method: "POST",
      headers: {
        authorization: await signRequest(hostKey, CONTROL_PLANE_AUDIENCE, "POST", url.pathname + url.search),
        "content-type": "application/json",
      },
      body: JSON.stringify(report),
      redirect: "manual",
      signal: AbortSignal.any([this.#abort.signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`it answers ${response.status}`);
    }
    const orders = HostOrdersSchema.parse(await response.json());
    if (images) this.#census.told(images);
    this.#census.drop(orders.drop_images ?? []);
    for (const { sandbox_id: sandboxId, generation } of orders.reap) {
      this.#log(`removing ${sandboxId}: no sandbox claims it`);
      containers
        .stop(sandboxId, generation)
        .catch((error: unknown) => this.#log(`${sandboxId} could not be removed: ${String(error)}`));
    }
  }

  /** Says once what changed, not every few seconds how it is. */
  #note(trouble: string): void {
    if (trouble === this.#trouble) return;
    if (trouble) this.#log(`the control plane at ${this.#options.controlPlaneUrl} takes no report: ${trouble}`);
    else if (this.#trouble) this.#log("the control plane takes reports again");
    this.#trouble = trouble;
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? error.cause : undefined;
  return cause && "code" in cause ? `${error.message} (${String(cause.code)})` : error.message;
}
