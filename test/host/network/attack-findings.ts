import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { DaemonProcess } from "../daemon-process.ts";
import { attackFrom, attackFromHere, Neighbours, type Known, type Outcome } from "./attackers.ts";
import { policiesOf, POLICIES, STRICT, type Attack, type PolicyName, type RuntimeName, type Scene } from "./attacks.ts";
import { attacksDisguised } from "./attacks-disguised.ts";
import { useOfWhatIsAllowed } from "./attacks-allowed.ts";
import { attacksOnMachine } from "./attacks-on-machine.ts";
import { attacksOutward } from "./attacks-outward.ts";
import { Lab } from "./lab.ts";
import { METADATA, type Hit, type Packets } from "./lab-plan.ts";

/** How long an answer is waited for where none is to be expected. */
const SILENCE_S = 1;

/** Where an attack was made from: a sandbox with these rules, or this machine itself. */
type Place = PolicyName | "host";

/** One attack from one place. */
interface Finding {
  place: Place;
  attack: Attack;
  isForbidden: boolean;
  reached: boolean;
  outcome: Outcome;
}

export interface Findings {
  all: Finding[];
  /** Packets that came to the attacker from where nothing may, and at any time to what keeps credentials. */
  strayPackets: Record<string, number>;
}

/** Makes every attack from everywhere, and tells what became of it. */
export async function findings(runtime: RuntimeName, image: string): Promise<Findings> {
  const ends: (() => unknown)[] = [];
  try {
    const lab = await Lab.start();
    ends.unshift(() => lab.close());
    const folder = mkdtempSync("/tmp/sandbar-attacks-");
    ends.unshift(() => rmSync(folder, { recursive: true }));
    writeFileSync(`${folder}/ca.pem`, lab.ca);
    const env = { ...process.env, SANDBAR_DNS: lab.plan.resolver, NODE_EXTRA_CA_CERTS: `${folder}/ca.pem` };
    const daemon = await DaemonProcess.start(runtime, { env });
    ends.unshift(() => daemon.remove());
    const neighbours = await Neighbours.start(lab);
    ends.unshift(() => neighbours.close());
    const { hosts, hostPort, siblings } = neighbours;
    const scene: Scene = { plan: lab.plan, hosts, hostPort, siblings };
    for (const [index, { address }] of siblings.entries()) await lab.name(`sibling${index}.test`, [address]);
    const attacks = [
      ...attacksOnMachine(scene),
      ...attacksOutward(scene, runtime, lab.device),
      ...attacksDisguised(scene),
      ...useOfWhatIsAllowed(scene),
    ];
    const made: { place: Place; attack: Attack; known: Known; came: Record<string, number> }[] = [];
    const start = async (policy: PolicyName) => {
      const network = policiesOf(scene)[policy];
      const box = await daemon.host.sandbox({ image, ...(network && { network }) });
      ends.unshift(() => daemon.host.call("DELETE", `${box}?generation=1`));
      return box;
    };
    const attackUnder = async (policies: readonly PolicyName[]) => {
      const before = await lab.packets();
      const known = await Promise.all(
        policies.map(async (place) => {
          const mine = attacks.filter(({ allowed, forbidden }) => allowed === place || forbidden.includes(place));
          const box = await start(place);
          const answers = await attackFrom(
            daemon.host,
            box,
            mine.map((attack) =>
              attack.isSilent && isForbiddenAt(place, attack)
                ? { ...attack.attempt, limit: SILENCE_S }
                : attack.attempt,
            ),
          );
          return mine.map((attack, index) => ({ place, attack, known: answers[index]! }));
        }),
      );
      const came = difference(before, await lab.packets());
      for (const one of known.flat()) made.push({ ...one, came });
      return came;
    };
    const strict = await attackUnder(STRICT);
    const lax = await attackUnder(POLICIES.filter((policy) => !STRICT.some((one) => one === policy)));
    const fromHere = async (some: readonly Attack[]) => {
      const before = await lab.packets();
      const answers = await attackFromHere(
        some.map(({ attempt, control }) => control ?? attempt),
        lab,
      );
      const came = difference(before, await lab.packets());
      made.push(...some.map((attack, index) => ({ place: "host" as const, attack, known: answers[index]!, came })));
    };
    const onHost = attacks.filter(({ allowed }) => allowed === "host");
    await fromHere(onHost.filter(({ by }) => by === undefined));
    // Packets cannot be told apart but one attack after the other.
    for (const attack of onHost.filter(({ by }) => by === "packets")) await fromHere([attack]);
    const hits = [...(await lab.hits()), ...neighbours.hits];
    const all = made.map(({ place, attack, known, came }): Finding => {
      return {
        place,
        attack,
        isForbidden: isForbiddenAt(place, attack),
        reached: reached(attack, known, hits, came),
        outcome: known.outcome,
      };
    });
    const { attacker, attacker6 } = lab.plan;
    const stray = [attacker, attacker6].map((address) => [address, strict[address]!] as const);
    const toCredentials = OTHER_METADATA.map((address) => [address, strict[address]! + lax[address]!] as const);
    return { all, strayPackets: Object.fromEntries([...stray, ...toCredentials]) };
  } finally {
    for (const end of ends) await end();
  }
}

/** Without the one that services of a machine in a cloud ask themselves, at any time. */
const OTHER_METADATA = METADATA.filter((address) => address !== "169.254.169.254");

const isForbiddenAt = (place: Place, { forbidden }: Attack) => forbidden.some((one) => one === place);

const difference = (before: Record<string, Packets>, after: Record<string, Packets>) =>
  Object.fromEntries(Object.entries(after).map(([address, { all }]) => [address, all - before[address]!.all]));

function reached(attack: Attack, { token, outcome }: Known, hits: Hit[], came: Record<string, number>): boolean {
  const { reaches, by } = attack;
  const told = hits.filter(({ text }) => text.includes(token));
  if (reaches === "anywhere") return told.length > 0;
  return reaches.some((who) => {
    if (by === "packets") return (came[who] ?? 0) > 0;
    return outcome.heard.includes(`lab ${who}:`) || told.some(({ address }) => address === who);
  });
}
