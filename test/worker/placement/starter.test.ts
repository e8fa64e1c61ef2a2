import { expect, it } from "vitest";
import type { Backend, Placement } from "../../../src/backends/backend.ts";
import { ApiError } from "../../../src/contract/errors.ts";
import { newId } from "../../../src/contract/ids.ts";
import { Starter, type StarterParts } from "../../../src/sandbox/starter.ts";
import { newRecord, type SandboxRecord } from "../../../src/sandbox/store.ts";
import type { Place } from "../../../src/sandbox/places.ts";
import { hostId } from "./fleet.ts";

const on = (letter: string, gpus: string[]): Place => ({
  place: { kind: "host", hostId: hostId(letter), url: "http://127.0.0.1:9", gpus },
});

/** Starts where it is told, one after the other; all but the last fail. Answers each start as generation and devices. */
async function startsAt(places: Place[]): Promise<[number, string[] | undefined][]> {
  const input = {
    sandboxId: newId("sandbox"),
    environment: "main",
    create: { app_id: "x", image: "fake" },
    backend: "docker",
  };
  let record: SandboxRecord = newRecord(input as Parameters<typeof newRecord>[0], Date.now());
  const starts: [number, string[] | undefined][] = [];
  const backend: Partial<Backend> = {
    start: async ({ generation, gpus }) => {
      starts.push([generation, gpus]);
      if (places.length > 0) throw new ApiError("backend_unavailable", { detail: "gone" });
      return { kind: "launched", publishedPorts: {} };
    },
    stop: async () => undefined,
  };
  const lifecycle = {
    get record() {
      return record;
    },
    schedule: (placement: Placement, generation: number) => (record = { ...record, placement, generation }),
    apply: () => (record = { ...record, state: "started", startedAt: Date.now() }),
  };
  const parts = {
    lifecycle,
    timers: { set: () => undefined },
    places: { reserve: async () => places.shift()!, release: async () => undefined },
    needsOf: async () => ({ kind: "found", needs: { env: {} } }),
    open: () => backend,
    confirmDeadline: () => undefined,
    schedulingMs: 10_000,
    now: Date.now,
  };
  await new Starter(parts as unknown as StarterParts).start();
  return starts;
}

it("a start that is taken up where it was finds what came up there", async () => {
  expect(await startsAt([on("a", ["GPU-0"]), on("a", ["GPU-0"])])).toEqual([
    [1, ["GPU-0"]],
    [1, ["GPU-0"]],
  ]);
});

it("a container that came up with other devices is not taken for the one that is to have these", async () => {
  expect(await startsAt([on("a", ["GPU-0"]), { why: "No room." }, on("a", ["GPU-1"])])).toEqual([
    [1, ["GPU-0"]],
    [2, ["GPU-1"]],
  ]);
});
