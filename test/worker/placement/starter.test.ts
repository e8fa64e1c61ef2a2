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

interface StartOptions {
  kind?: "launched" | "adopted";
  networkRevision?: number;
  settleNetwork?: StarterParts["settleNetwork"];
}

/** Starts where it is told, one after the other; all but the last fail. Answers each start as generation and devices. */
async function startsAt(places: Place[], options: StartOptions = {}): Promise<[number, string[] | undefined][]> {
  const { kind = "launched", networkRevision = 0, settleNetwork = async () => undefined } = options;
  const input = {
    sandboxId: newId("sandbox"),
    environment: "main",
    create: { app_id: "x", image: "fake" },
    backend: "docker",
  };
  const before = newRecord(input as Parameters<typeof newRecord>[0], Date.now());
  let record: SandboxRecord = { ...before, networkRevision };
  const last = places.at(-1)!;
  const starts: [number, string[] | undefined][] = [];
  const backend: Partial<Backend> = {
    start: async ({ generation, gpus }) => {
      starts.push([generation, gpus]);
      if (places.length > 0) throw new ApiError("backend_unavailable", { detail: "gone" });
      return { kind, publishedPorts: {} };
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
    places: { reserve: async () => places.shift() ?? last, release: async () => undefined },
    needsOf: async () => ({ kind: "found", needs: { env: {} } }),
    open: () => backend,
    confirmDeadline: () => undefined,
    settleNetwork,
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

it.each([
  ["launched", 0, 0],
  ["launched", 3, 3],
  ["adopted", 3, 0],
] as const)(
  "a container that was %s has the rules of %i: those of %i are what it came up with",
  async (kind, networkRevision, known) => {
    const settled: number[] = [];
    const settleNetwork = async (revision: number) => void settled.push(revision);
    await startsAt([on("a", [])], { kind, networkRevision, settleNetwork });
    expect(settled).toEqual([known]);
  },
);

it("a container that does not hold the rules has not started", async () => {
  const failures = [new ApiError("backend_unavailable", { detail: "gone" })];
  const settleNetwork = async () => {
    const failure = failures.pop();
    if (failure) throw failure;
  };
  expect(await startsAt([on("a", [])], { settleNetwork })).toEqual([
    [1, []],
    [1, []],
  ]);
});
