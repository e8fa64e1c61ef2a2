import type { Demand, FleetHost, HostClass } from "../../src/placement/policy/model.ts";
import { demand, host } from "../worker/placement/policy-fleet.ts";

const GIB = 1024;
const REGIONS = ["eu", "us", "asia"];
const DISKS = ["ssd", "hdd"];
const IMAGES = 300;
const IMAGES_OF_HOST = 20;

/** Kinds of hosts, and how many of a thousand are so: 4 GiB for each core. */
const KINDS = [
  { of: 350, cpu: 16, memory: 64 * GIB },
  { of: 250, cpu: 32, memory: 128 * GIB },
  { of: 100, cpu: 64, memory: 256 * GIB },
  { of: 150, cpu: 128, memory: 512 * GIB, gpu: "H100!:8" },
  { of: 100, cpu: 64, memory: 256 * GIB, gpu: "L40S:4" },
  { of: 50, cpu: 96, memory: 512 * GIB, gpu: "A100-80GB:8" },
];

/** What is asked for, and how many of a thousand ask for it. */
const SIZES = [
  { of: 40, cpu: 0.25, memory: GIB / 2 },
  { of: 140, cpu: 1, memory: 2 * GIB },
  { of: 140, cpu: 1, memory: 8 * GIB },
  { of: 250, cpu: 2, memory: 8 * GIB },
  { of: 150, cpu: 4, memory: 8 * GIB },
  { of: 80, cpu: 8, memory: 32 * GIB },
  { of: 20, cpu: 8, memory: 64 * GIB },
  { of: 50, cpu: 16, memory: 64 * GIB },
  { of: 34, cpu: 8, memory: 32 * GIB, gpu: "H100!:1" },
  { of: 8, cpu: 16, memory: 64 * GIB, gpu: "H100!:2" },
  { of: 5, cpu: 64, memory: 256 * GIB, gpu: "H100!:8" },
  { of: 10, cpu: 8, memory: 32 * GIB, gpu: "L40S:1,A100-80GB:1" },
  { of: 3, cpu: 32, memory: 128 * GIB, gpu: "L40S:4" },
  { of: 5, cpu: 8, memory: 32 * GIB, gpu: "A100-80GB:1" },
  { of: 1, cpu: 64, memory: 256 * GIB, gpu: "A100-80GB:8" },
  { of: 4, cpu: 4, memory: 16 * GIB, gpu: "any" },
];

const CLASSES: { of: number; hosts: HostClass }[] = [
  { of: 600, hosts: { key: "any", admits: () => true } },
  ...REGIONS.map((region) => ({
    of: 100,
    hosts: { key: region, admits: (info: { region?: string | undefined }) => info.region === region },
  })),
  { of: 100, hosts: { key: "ssd", admits: ({ labels }) => labels?.["disk"] === "ssd" } },
];

function pick<T extends { of: number }>(from: readonly T[], random: () => number): T {
  let left = random() * from.reduce((sum, { of }) => sum + of, 0);
  return from.find(({ of }) => (left -= of) < 0) ?? from[0]!;
}

/** Few images are asked for often, and most now and then. */
const imageOf = (random: () => number) => `image-${Math.floor(IMAGES * random() ** 3)}`;

/** Hosts of all kinds, in all regions. */
export function fleetOf(count: number, random: () => number): FleetHost[] {
  return Array.from({ length: count }, (_, at) => {
    const { of: _of, ...kind } = pick(KINDS, random);
    const images = Array.from({ length: IMAGES_OF_HOST }, () => imageOf(random));
    const region = REGIONS[at % REGIONS.length]!;
    const made = host(`host-${at}`, { ...kind, region, images });
    made.info.labels = { disk: DISKS[Math.floor(random() * DISKS.length)]! };
    return made;
  });
}

/** One create, as anybody may ask for it. */
export function demandOf(id: string, environment: string, since: number, random: () => number): Demand {
  const { of: _, ...size } = pick(SIZES, random);
  return demand(id, { ...size, environment, since, image: imageOf(random), hosts: pick(CLASSES, random).hosts });
}
