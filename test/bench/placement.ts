import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { FleetHost } from "../../src/placement/policy/model.ts";
import { Scheduler } from "../../src/placement/policy/scheduler.ts";
import { demand, host, randomOf } from "../worker/placement/policy-fleet.ts";
import { demandOf, fleetOf } from "./placement-fleet.ts";
import { PlacementRun, type Arrivals } from "./placement-run.ts";
import { percentile, type Row } from "./report.ts";

const SEED = 20_261_128;
const HOSTS = 10_000;
const LIVE = 100_000;
const LIFETIME_S = 300;
/** How many creates each second for each host: somewhat less than there is room for, and more. */
const LOADS = [
  { load: "busy", perSecond: 0.032 },
  { load: "overload", perSecond: 0.048 },
];
const LIMITS = { perEnvironment: 10_000, total: 30_000 };
/** Who asks, and how much of all: one floods, one asks for a hundredth of that. */
const ENVIRONMENTS = [
  { environment: "flood", share: 0.7 },
  { environment: "a", share: 0.15 },
  { environment: "b", share: 0.143 },
  { environment: "small", share: 0.007 },
];
const MIB = 2 ** 20;

/** The placement policy by itself, at the size of a large fleet and on a virtual clock: the same for the same seed. */
export function benchPlacement(quick: boolean, add: (row: Row) => void): void {
  measureHeap(add);
  measureFleet(quick ? HOSTS / 10 : HOSTS, quick ? 100_000 : 1_000_000, add);
  measureFairness(quick ? 100_000 : 500_000, add);
}

function measureFleet(count: number, creates: number, add: (row: Row) => void): void {
  const random = randomOf(SEED);
  const hosts = fleetOf(count, random);
  const run = new PlacementRun(hosts, LIMITS, () => exponential(LIFETIME_S, random));
  for (const { load, perSecond } of LOADS) {
    const arrivals: Arrivals = {
      next: () => {
        const environment = environmentOf(random());
        return {
          after: exponential(1 / (perSecond * count), random),
          demand: (id, now) => demandOf(id, environment, now, random),
        };
      },
    };
    const samples: Usage[] = [];
    run.forget();
    run.run(creates / LOADS.length, arrivals, 10, (progress) => {
      if (progress >= 0.5) samples.push(usageOf(run.scheduler, hosts));
    });
    addLoad(load, run, samples, add);
  }
  addCosts(run, hosts, add);
}

function addCosts(run: PlacementRun, hosts: FleetHost[], add: (row: Row) => void): void {
  const ours = ((run.requests.length + run.ends.length) / run.spent) * 1e6;
  const what = "decisions: requests, and ends with what they grant";
  add({ what, unit: "per s", ours, engine: 5000, target: { atLeast: 1 } });
  for (const [what, times] of Object.entries({ request: run.requests, end: run.ends })) {
    for (const share of [0.5, 0.99, 1]) {
      const which = share === 1 ? "longest" : `p${share * 100}`;
      add({ what: `${what}, ${which}`, unit: "µs", ours: percentile(times, share) });
    }
  }
  const reports = hosts.map((one) => structuredClone(one));
  const begin = performance.now();
  for (const report of reports) run.scheduler.putHost(report);
  const spent = ((performance.now() - begin) * 1000) / hosts.length;
  add({ what: "report of a host that says nothing new", unit: "µs", ours: spent });
}

function addLoad(load: string, run: PlacementRun, samples: Usage[], add: (row: Row) => void): void {
  const mean = (of: (sample: Usage) => number) =>
    (100 * samples.reduce((sum, one) => sum + of(one), 0)) / samples.length;
  const percent = (what: string, ours: number) => add({ what: `${load}: ${what}`, unit: "%", ours });
  for (const what of ["cpu", "memory", "gpus"] as const)
    percent(
      `${what} promised`,
      mean(({ used }) => used[what]),
    );
  percent(
    "cpu stranded where memory is full",
    mean(({ stranded }) => stranded.cpu),
  );
  percent(
    "memory stranded where cpu is full",
    mean(({ stranded }) => stranded.memory),
  );
  const { asked, waited, fragmented } = run.wholeHosts;
  percent("8-GPU demands that had to wait", (100 * waited) / asked);
  percent("8-GPU demands that had to wait while 8 such devices were free", (100 * fragmented) / asked);
  for (const { environment } of ENVIRONMENTS) {
    const waits = run.waits.get(environment) ?? [0];
    for (const [which, share] of [
      ["p99", 0.99],
      ["longest", 1],
    ] as const) {
      add({ what: `${load}: wait of ${environment}, ${which}`, unit: "s", ours: percentile(waits, share) });
    }
  }
}

/** Three who always want more than there is, one of them a hundred times as much, and a fourth who wants little. */
function measureFairness(creates: number, add: (row: Row) => void): void {
  const random = randomOf(SEED);
  const hosts = Array.from({ length: 20 }, (_, at) => host(`host-${at}`, { cpu: 8, memory: 32_768 }));
  const run = new PlacementRun(hosts, { perEnvironment: 1000, total: 5000 }, () => exponential(2, random));
  const who = [
    { environment: "flood", share: 0.97, size: { cpu: 1, memory: 4096 } },
    { environment: "x", share: 0.0148, size: { cpu: 2, memory: 1024 } },
    { environment: "y", share: 0.0148, size: { cpu: 1, memory: 8192 } },
    { environment: "little", share: 0.0004, size: { cpu: 4, memory: 4096 } },
  ];
  const arrivals: Arrivals = {
    next: () => {
      let left = random();
      const { environment, size } = who.find(({ share }) => (left -= share) < 0) ?? who[0]!;
      return {
        after: exponential(1 / 2500, random),
        demand: (id, now) => demand(id, { environment, since: now, ...size }),
      };
    },
  };
  const shares = new Map(["flood", "x", "y"].map((environment) => [environment, 0]));
  run.run(creates, arrivals, 100, (progress) => {
    if (progress < 0.5) return;
    for (const { hostId } of hosts) {
      for (const { environment, cpu } of run.scheduler.holdingsOf(hostId)) {
        const had = shares.get(environment);
        if (had !== undefined) shares.set(environment, had + cpu);
      }
    }
  });
  // What an environment has most of: memory for `y`, 8 GiB with each core where hosts have 4.
  shares.set("y", shares.get("y")! * 2);
  const all = [...shares.values()];
  const sum = all.reduce((total, one) => total + one, 0);
  const jain = sum ** 2 / (all.length * all.reduce((total, one) => total + one ** 2, 0));
  add({ what: "Jain index of the dominant shares of three who always want more (1: equal)", unit: "", ours: jain });
  for (const { environment } of who) {
    const waits = run.waits.get(environment) ?? [0];
    add({ what: `overload: longest wait of ${environment}`, unit: "s", ours: percentile(waits, 1) });
  }
}

function measureHeap(add: (row: Row) => void): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const heap = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const random = randomOf(SEED);
  const before = heap();
  const scheduler = new Scheduler(LIMITS);
  for (const one of fleetOf(HOSTS, random)) scheduler.putHost(one);
  const empty = heap();
  let live = 0;
  for (let at = 0; at < 2 * LIVE && live < LIVE; at++) {
    if (scheduler.request(demandOf(`sb-${at}`, environmentOf(random()), at, random)).kind === "granted") live++;
    else scheduler.cancel(`sb-${at}`);
  }
  const full = heap();
  add({ what: `heap of ${HOSTS} hosts with 20 images each`, unit: "MiB", ours: (empty - before) / MIB });
  add({
    what: `heap of these and ${live} sandboxes`,
    unit: "MiB",
    ours: (full - before) / MIB,
    engine: 64,
    target: { atMost: 1 },
  });
  // Until here it must not be collected.
  if (scheduler.totals().used.sandboxes !== live) throw new Error("a sandbox is lost");
}

type Usage = ReturnType<typeof usageOf>;

/** Shares of all there is: what is promised, and what is free where nothing can have it. */
function usageOf(scheduler: Scheduler, hosts: FleetHost[]) {
  const { cpu, memory, gpus, used } = scheduler.totals();
  const stranded = { cpu: 0, memory: 0 };
  for (const { hostId, info } of hosts) {
    const use = scheduler.use(hostId);
    const { capacity } = info;
    const cpuLeft = capacity!.cpu * capacity!.cpu_overcommit - use.cpu;
    const memoryLeft = capacity!.memory - use.memory;
    if (memoryLeft < 4096) stranded.cpu += cpuLeft / cpu;
    if (cpuLeft < 1) stranded.memory += memoryLeft / memory;
  }
  return { used: { cpu: used.cpu / cpu, memory: used.memory / memory, gpus: used.gpus / gpus }, stranded };
}

function environmentOf(random: number): string {
  let left = random;
  return (ENVIRONMENTS.find(({ share }) => (left -= share) < 0) ?? ENVIRONMENTS[0]!).environment;
}

const exponential = (mean: number, random: () => number) => -mean * Math.log(1 - random());
