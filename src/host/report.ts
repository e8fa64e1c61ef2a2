import type { HostInfo } from "../contract/host-info.ts";
import { HostOrdersSchema, type HostOrders, type HostReport } from "../contract/host-report.ts";
import { CONTROL_PLANE_AUDIENCE } from "../contract/host-token.ts";
import type { Containers } from "./containers.ts";
import type { HostKeys } from "./host-keys.ts";
import { ImageCensus, type ReportedImages } from "./image-census.ts";
import type { ReferenceCensus } from "./inventory/reference-census.ts";
import { reasonOf, refusal } from "./report-refused.ts";
import type { WarmShelf } from "./warm/shelf.ts";

const INTERVAL_MS = 5_000;
const JITTER = 0.1;
/** A host that starts beside its control plane finds it soon, and one that cannot does not try for ever like that. */
const FIRST_RETRY_MS = 250;
const RETRY_GROWTH = 1.5;
/** Ends that come together are reported together. */
const DEBOUNCE_MS = 20;
const REQUEST_TIMEOUT_MS = 10_000;

export interface ReporterOptions {
  controlPlaneUrl: string;
  keys: HostKeys;
  /** Where the control plane reaches this host. */
  advertiseUrl: string;
  info: HostInfo;
  containers: Containers;
  images: ReportedImages;
  references: ReferenceCensus;
  /** MiB. */
  diskFree: () => Promise<number | undefined>;
  /** The containers that are started ahead; left out where there can be none. */
  warm?: Pick<WarmShelf, "list" | "converge"> | undefined;
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
  #hasArrived = false;
  #retryMs = FIRST_RETRY_MS;
  readonly #census: ImageCensus;
  /** What the last report met: undefined before the first, empty when it arrived. */
  #trouble: string | undefined;
  readonly #first = Promise.withResolvers<void>();
  readonly #abort = new AbortController();

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#log = options.log ?? ((line) => console.error(`sandbar host: ${line}`));
    // Few wait for it.
    this.#first.promise.catch(() => {});
    this.#census = new ImageCensus(options.images, this.#log);
  }

  /** Settles with the first report: rejects with {@link ReportRefused}, or with what kept it from its way. */
  get first(): Promise<void> {
    return this.#first.promise;
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
        const next = this.#isWanted ? DEBOUNCE_MS : this.#interval();
        this.#isWanted = false;
        this.#schedule(next);
      });
    }, delayMs);
  }

  #interval(): number {
    if (!this.#hasArrived) this.#retryMs = Math.min(INTERVAL_MS, this.#retryMs * RETRY_GROWTH);
    const intervalMs = this.#hasArrived ? INTERVAL_MS : this.#retryMs;
    return intervalMs * (1 + (Math.random() * 2 - 1) * JITTER);
  }

  async #send(): Promise<void> {
    try {
      await this.#report();
      this.#hasArrived = true;
      this.#note("");
      this.#first.resolve();
    } catch (error) {
      this.#first.reject(error);
      if (!this.#isStopped) this.#note(reasonOf(error));
    }
  }

  async #report(): Promise<void> {
    const { controlPlaneUrl, keys, advertiseUrl, info, containers, warm } = this.#options;
    const url = new URL(`${controlPlaneUrl.replace(/\/+$/, "")}/v1/hosts/${info.host_id}/report`);
    const images = this.#census.page;
    const references = this.#options.references.page;
    const diskFree = await this.#options.diskFree();
    const report: HostReport = {
      url: advertiseUrl,
      info,
      containers: containers.list(),
      ...(warm && { warm: warm.list() }),
      ...(images && { images }),
      ...(references && { references }),
      ...(diskFree !== undefined && { disk_free: diskFree }),
    };
    const response = await fetch(url, {
      method: "POST",
      headers: {
        authorization: await keys.sign(CONTROL_PLANE_AUDIENCE, "POST", url.pathname + url.search),
        "content-type": "application/json",
      },
      body: JSON.stringify(report),
      redirect: "manual",
      signal: AbortSignal.any([this.#abort.signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    });
    if (!response.ok) throw await refusal(response);
    const orders = HostOrdersSchema.parse(await response.json());
    this.#keepKey(orders.key);
    if (images) this.#census.told(images);
    if (references) this.#options.references.told(references);
    this.#census.drop(orders.drop_images ?? []);
    if (orders.warm) warm?.converge(orders.warm);
    for (const { sandbox_id: sandboxId, generation } of orders.reap) {
      this.#log(`removing ${sandboxId}: no sandbox claims it`);
      containers
        .stop(sandboxId, generation)
        .catch((error: unknown) => this.#log(`${sandboxId} could not be removed: ${String(error)}`));
    }
  }

  /**
   * The next report, at once, is signed with the new key, where there is one: what cannot be saved is handed over again with each
   * report. Without one the host has the newest.
   */
  #keepKey(key: HostOrders["key"]): void {
    const { keys } = this.#options;
    try {
      if (!key) return keys.accepted();
      if (!keys.take(key)) return;
      this.#log(`has the key ${key.version} from now on`);
      this.soon();
    } catch (error) {
      this.#log(`the key cannot be saved: ${String(error)}`);
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
