import { DurableObject } from "cloudflare:workers";
import type { HostPlacement } from "../backends/backend.ts";
import type { HostReport } from "../contract/host-report.ts";
import type { PoolPatch } from "../contract/pool.ts";
import { replyWith, type Replies } from "../rpc/api-reply.ts";
import { Desk, type DeskEnv } from "./desk.ts";
import type { HostStanding, PlacementRequest, PlacementRpc, PoolInput, ReserveOptions } from "./rpc.ts";

/**
 * Which host has room: the one owner of what of which host is promised to whom. One object for the whole deployment. It knows
 * hosts by their reports; what it promises it writes down before it says so, and so no device ever has two owners. The line of
 * those who wait is in memory alone: whoever waits asks again, and keeps the turn that its creation gives it.
 */
export class Placement<Env extends DeskEnv = DeskEnv> extends DurableObject<Env> implements Replies<PlacementRpc> {
  readonly #desk: Desk;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#desk = new Desk(ctx, env);
  }

  admit(request: PlacementRequest) {
    return replyWith(async () => this.#desk.admit(request));
  }

  amend(request: PlacementRequest) {
    return replyWith(async () => this.#desk.amend(request));
  }

  reserve(request: PlacementRequest, options: ReserveOptions) {
    return replyWith(() => this.#desk.reserve(request, options));
  }

  release(sandboxId: string) {
    return replyWith(async () => this.#desk.release(sandboxId));
  }

  report(report: HostReport, standing: HostStanding) {
    return replyWith(() => this.#desk.report(report, standing));
  }

  setDraining(hostId: string, draining: boolean) {
    return replyWith(async () => this.#desk.setDraining(hostId, draining));
  }

  distrust(hostId: string, oldestKeyVersion: number) {
    return replyWith(async () => this.#desk.distrust(hostId, oldestKeyVersion));
  }

  forget(hostId: string) {
    return replyWith(async () => this.#desk.forget(hostId));
  }

  locate(hostId: string) {
    return replyWith(async (): Promise<HostPlacement | undefined> => this.#desk.locate(hostId));
  }

  silence(hostId: string) {
    return replyWith(async () => this.#desk.silence(hostId));
  }

  live(hostIds: readonly string[]) {
    return replyWith(async () => this.#desk.live(hostIds));
  }

  createPool(input: PoolInput) {
    return replyWith(async () => this.#desk.poolDesk.create(input));
  }

  pools(environment: string, cursor: string | undefined, limit: number) {
    return replyWith(async () => this.#desk.poolDesk.list(environment, { cursor, limit }));
  }

  pool(environment: string, poolId: string) {
    return replyWith(async () => this.#desk.poolDesk.find(environment, poolId));
  }

  patchPool(environment: string, poolId: string, patch: PoolPatch) {
    return replyWith(async () => this.#desk.poolDesk.patch(environment, poolId, patch));
  }

  deletePool(environment: string, poolId: string) {
    return replyWith(async () => this.#desk.poolDesk.delete(environment, poolId));
  }
}
