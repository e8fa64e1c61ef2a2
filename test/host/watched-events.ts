import type { IncomingMessage } from "node:http";
import { until, type HostCaller } from "./signed-host.ts";

export interface Seen {
  event: string;
  path?: string;
  from?: string;
  code?: string;
}

/** An event stream of a watch, read as it comes. */
export class WatchedEvents {
  readonly seen: Seen[] = [];
  readonly response: IncomingMessage;
  isEnded = false;

  constructor(response: IncomingMessage) {
    this.response = response;
    let text = "";
    response.setEncoding("utf8");
    response.on("error", () => {});
    response.on("close", () => (this.isEnded = true));
    response.on("data", (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
        if (event) this.seen.push({ event, ...(JSON.parse(data!) as object) });
        text = text.slice(end + 2);
      }
    });
  }

  /** Watches; settles once `ready` has come. */
  static async open(host: HostCaller, box: string, path: string, recursive = true): Promise<WatchedEvents> {
    const response = await host.open(
      "GET",
      `${box}/files/watch?${new URLSearchParams({ path, recursive: String(recursive) })}`,
    );
    const watched = new WatchedEvents(response);
    await until(() => watched.seen.length > 0 || watched.isEnded);
    if (watched.seen[0]?.event !== "ready") throw new Error(`not watched: ${response.statusCode}`);
    return watched;
  }

  /** As short texts, without `ready`. */
  get told(): string[] {
    return this.seen.slice(1).map(({ event, path, from }) => [event, from, path].filter(Boolean).join(" "));
  }

  async has(...events: string[]): Promise<void> {
    await until(() => events.every((event) => this.told.includes(event)), 30_000).catch(() => {
      throw new Error(
        `${events.filter((event) => !this.told.includes(event)).join(", ")} did not come, but ${this.told.slice(-50).join(", ")}`,
      );
    });
  }

  close(): void {
    this.response.destroy();
  }
}
