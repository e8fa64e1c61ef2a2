import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { HostInfo } from "../../contract/host-info.ts";
import type { Attachments } from "../attachments.ts";
import type { Containers } from "../containers.ts";
import type { Networks } from "../network/networks.ts";
import type { RequestBodies } from "../request-bodies.ts";
import type { Runtime } from "../runtime.ts";
import type { Snapshots } from "../snapshots.ts";
import type { Volumes } from "../volumes/volumes.ts";

/** What the routes work with. */
export interface HostContext {
  readonly info: HostInfo;
  readonly runtime: Runtime;
  readonly containers: Containers;
  readonly snapshots: Snapshots;
  readonly volumes: Volumes;
  readonly networks: Networks;
  readonly attachments: Attachments;
  readonly bodies: RequestBodies;
  /** How long a tunnel's connection on which nothing moves still counts as use of its sandbox. */
  readonly tunnelQuietMs: number;
}

/** One verified call. */
export interface Call {
  readonly host: HostContext;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal;
}

/** Answers a call; `args` are the variable segments of its path. Throws what the client gets as a problem. */
export type Handler = (call: Call, ...args: string[]) => Promise<void>;

/** Takes the connection of a verified call that asks to upgrade, with what has come on it behind the call. Throws as others do. */
export type UpgradeHandler = (call: UpgradeCall, ...args: string[]) => Promise<void>;

export interface UpgradeCall {
  readonly host: HostContext;
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}
