import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CapacitySchema } from "../../src/contract/host-info.ts";
import { gpuTypeOf } from "../../src/host/inventory/gpu-type.ts";
import { Inventory, type Promised } from "../../src/host/inventory/inventory.ts";
import { parseNvidiaSmi } from "../../src/host/inventory/nvidia-smi.ts";
import { ReferenceCensus } from "../../src/host/inventory/reference-census.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { StandInGpus } from "./stand-in-gpus.ts";

const UUID = "GPU-8f2b0c1e-1111-2222-3333-444455556666";

test.each([
  ["Tesla T4", 15360, "T4"],
  ["NVIDIA L4", 23034, "L4"],
  ["NVIDIA A10G", 23028, "A10"],
  ["NVIDIA A10", 23028, "A10"],
  ["NVIDIA L40S", 46068, "L40S"],
  ["NVIDIA A100-SXM4-40GB", 40960, "A100-40GB"],
  ["A100-PCIE-40GB", 40960, "A100-40GB"],
  ["NVIDIA A100-SXM4-80GB", 81920, "A100-80GB"],
  ["NVIDIA A100 80GB PCIe", 81920, "A100-80GB"],
  ["NVIDIA A100-PG509-200", 40960, "A100-40GB"],
  ["NVIDIA A100-PG506-232", 81920, "A100-80GB"],
  ["NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTX-PRO-6000"],
  ["NVIDIA H100 80GB HBM3", 81559, "H100"],
  ["NVIDIA H100 PCIe", 81559, "H100"],
  ["NVIDIA H200", 143771, "H200"],
  ["NVIDIA B200", 183359, "B200"],
  ["NVIDIA B300 SXM6 AC", 275040, "B300"],
  ["NVIDIA GeForce RTX 4090", 24564, "GEFORCE-RTX-4090"],
  ["NVIDIA L40", 46068, "L40"],
  ["NVIDIA T4G", 15360, "T4G"],
  ["NVIDIA GH200 480GB", 97871, "GH200-480GB"],
  ["Tesla V100-SXM2-16GB", 16384, "V100-SXM2-16GB"],
  ["NVIDIA Quadro RTX 6000 (passive)", 24576, "QUADRO-RTX-6000-PASSIVE"],
  ["NVIDIA", 1, "NVIDIA"],
  ["…", 1, "GPU"],
  [`NVIDIA ${"Very ".repeat(40)}long`, 1, `${"VERY-".repeat(12)}VER`],
])("%s is a %s of %s", (name, memory, type) => {
  expect(gpuTypeOf(name, memory)).toBe(type);
});

describe("what nvidia-smi says", () => {
  test("is read by its lines", () => {
    const text = `0, ${UUID}, NVIDIA H100 80GB HBM3, 81559\n1, GPU-other, NVIDIA GB10, [N/A]\n`;
    expect(parseNvidiaSmi(text)).toEqual({
      devices: [
        { uuid: UUID, type: "H100", name: "NVIDIA H100 80GB HBM3", memory: 81559 },
        { uuid: "GPU-other", type: "GB10", name: "NVIDIA GB10", memory: 0 },
      ],
      trouble: undefined,
    });
  });

  test.each([
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    "No devices were found",
    `0, ${UUID}, NVIDIA L4`,
    `0, ${UUID}, NVIDIA L4, [GPU is lost]`,
    `0, ${UUID}\u0000, NVIDIA L4, 23034`,
    "0, ../../dev/null, NVIDIA L4, 23034",
    `x, ${UUID}, NVIDIA L4, 23034`,
    `0, ${UUID}, ${"x".repeat(300)}, 23034`,
  ])("is ignored where it is no device: %s", (line) => {
    const { devices, trouble } = parseNvidiaSmi(`${line}\n7, GPU-good, NVIDIA L4, 23034\n`);
    expect(devices.map(({ uuid }) => uuid)).toEqual(["GPU-good"]);
    expect(trouble).toMatch(/^it says /);
  });

  test("counts each device once, and no more than a report takes", () => {
    const line = (n: number) => `${n}, GPU-${n}, NVIDIA L4, 23034`;
    expect(parseNvidiaSmi([line(1), line(1)].join("\n")).devices.length).toBe(1);
    expect(parseNvidiaSmi(Array.from({ length: 100 }, (_, n) => line(n)).join("\n")).devices.length).toBe(64);
  });
});

describe("an inventory", () => {
  const said: string[] = [];
  const path = process.env["PATH"];
  let runtime: ChildRuntime;
  let gpus: StandInGpus;
  let inventory: Inventory | undefined;
  const take = async (promised?: Promised) => {
    const log = (line: string) => said.push(line);
    return (inventory = await Inventory.take({ runtime, promised, log, timeoutMs: 1_000 }));
  };

  beforeEach(() => {
    said.length = 0;
    runtime = new ChildRuntime();
    gpus = new StandInGpus(2);
    process.env["PATH"] = gpus.path;
  });
  afterEach(() => {
    process.env["PATH"] = path;
    inventory?.close();
    gpus.remove();
  });

  test("has what the runtime has, the disk and the devices", async () => {
    const { capacity, givesGpus } = await take();
    expect(CapacitySchema.parse(capacity)).toMatchObject({ cpu: 2, cpu_overcommit: 16, memory: 4096 });
    expect(capacity.gpus.map(({ uuid, type }) => [uuid, type])).toEqual(gpus.uuids.map((uuid) => [uuid, "L4"]));
    expect(givesGpus).toBe(true);
    const free = await inventory!.diskFree();
    expect(capacity.disk).toBeGreaterThan(100);
    expect(free).toBeGreaterThan(0);
    expect(free).toBeLessThanOrEqual(capacity.disk);
    expect(said).toEqual([]);
  });

  test("promises what its operator does", async () => {
    expect((await take({ cpuOvercommit: 2.5, memory: 99_999 })).capacity).toMatchObject({
      cpu: 2,
      cpu_overcommit: 2.5,
      memory: 99_999,
    });
  });

  test("no longer offers a device that falls off the bus, and offers one that comes back", async () => {
    const refresh = () => inventory!.refresh();
    await take();
    gpus.say([gpus.lines[1]!, "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error"], 15);
    await refresh();
    expect(inventory!.capacity.gpus.map(({ uuid }) => uuid)).toEqual([gpus.uuids[1]]);
    expect(said).toEqual([expect.stringMatching(/ended with 15: it says .*device handle/)]);
    await refresh();
    expect(said.length).toBe(1);
    gpus.say(["Failed to initialize NVML: Driver/library version mismatch"], 18);
    await refresh();
    expect(inventory!.capacity.gpus).toEqual([]);
    expect(inventory!.givesGpus).toBe(true);
    gpus.say(gpus.lines);
    await refresh();
    expect(inventory!.capacity.gpus.length).toBe(2);
  });

  test("offers none that the runtime cannot give, and says so once", async () => {
    runtime.gpuRefusal = "there is no hook";
    await take();
    await inventory!.refresh();
    expect([inventory!.capacity.gpus, inventory!.givesGpus]).toEqual([[], false]);
    expect(said).toEqual(["no sandbox gets a GPU, though nvidia-smi lists 2: there is no hook"]);
  });

  test("asks again where the engine could not answer", async () => {
    runtime.whyNoGpus = async () => Promise.reject(new Error("the engine is away"));
    await take();
    expect(inventory!.capacity.gpus).toEqual([]);
    runtime.whyNoGpus = async () => undefined;
    await inventory!.refresh();
    expect(inventory!.capacity.gpus.length).toBe(2);
  });

  test("does not wait for a driver that does not answer", async () => {
    await take();
    gpus.hang(4);
    const begun = performance.now();
    await inventory!.refresh();
    expect(performance.now() - begun).toBeLessThan(3_500);
    expect(inventory!.capacity.gpus).toEqual([]);
    expect(said).toEqual([expect.stringMatching(/it did not answer within 1 s/)]);
    gpus.say(gpus.lines);
    await inventory!.refresh();
    expect(inventory!.capacity.gpus.length).toBe(2);
  });

  test("has no devices where there is no nvidia-smi, without a word", async () => {
    gpus.remove();
    expect([(await take()).capacity.gpus, inventory!.givesGpus, said]).toEqual([[], false, []]);
  });
});

test("references are told at first, when they have changed, and every ten minutes", async () => {
  let now = Date.now();
  const clock = Date.now;
  Date.now = () => now;
  try {
    let here = ["b:1", "a:1", "a:1", "x".repeat(600)];
    const census = new ReferenceCensus(async () => here);
    const pageAfter = async (ms: number) => {
      now += ms;
      void census.page;
      await new Promise(setImmediate);
      const { page } = census;
      if (page) census.told(page);
      return page;
    };
    expect(census.page).toBeUndefined();
    expect(await pageAfter(0)).toEqual(["a:1", "b:1"]);
    expect(await pageAfter(31_000)).toBeUndefined();
    here = ["b:1"];
    expect(await pageAfter(5_000)).toBeUndefined();
    expect(await pageAfter(31_000)).toEqual(["b:1"]);
    expect(await pageAfter(590_000)).toBeUndefined();
    expect(await pageAfter(11_000)).toEqual(["b:1"]);
    here = Array.from({ length: 700 }, (_, n) => `many:${n}`);
    expect((await pageAfter(31_000))!.length).toBe(500);
  } finally {
    Date.now = clock;
  }
});
