import { createServer, type Server } from "node:http";
import { json } from "node:stream/consumers";
import { HostReportSchema, type HostOrders, type HostReport } from "../../src/contract/host-report.ts";
import { CONTROL_PLANE_AUDIENCE, verifyRequest } from "../../src/contract/host-token.ts";
import { listening } from "./signed-host.ts";

/** The control plane's end of reports. */
export class ReportTaker {
  readonly reports: HostReport[] = [];
  /** The answers to the next reports. */
  readonly orders: Partial<HostOrders>[] = [];
  /** In every answer. */
  standing: Partial<HostOrders> = {};
  /** Whose reports it takes; left out: everybody's. */
  hostKey: string | undefined;
  readonly #server: Server;
  url = "";

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const { method, url, headers } = request;
      const signed = { method: method!, target: url!, authorization: headers.authorization };
      try {
        const { hostKey } = this;
        if (hostKey !== undefined) await verifyRequest(async () => hostKey, CONTROL_PLANE_AUDIENCE, signed);
      } catch (error) {
        response.writeHead(401, { "content-type": "application/problem+json" });
        return void response.end(JSON.stringify({ detail: (error as Error).message }));
      }
      this.reports.push(HostReportSchema.parse(await json(request)));
      return void response.end(JSON.stringify({ reap: [], ...this.standing, ...this.orders.shift() }));
    });
  }

  static async start(): Promise<ReportTaker> {
    const taker = new ReportTaker();
    taker.url = `http://127.0.0.1:${await listening(taker.#server)}`;
    return taker;
  }

  get last(): HostReport | undefined {
    return this.reports.at(-1);
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
