import type { HostGroup } from "./host-group.ts";
import type { HostRoom } from "./host-room.ts";
import type { HostClass } from "./model.ts";
import type { Profile } from "./profile.ts";

/** So many are remembered; the others are judged anew. */
const MAX_CLASSES = 1000;
/** A class of no more profiles than these is asked how many hosts it has. */
const FEW = 64;

/** Which hosts a class admits. */
export class Admission {
  readonly profiles = new Set<Profile>();
  /** In which they are, perhaps beside others. */
  readonly groups = new Set<HostGroup>();

  has(room: HostRoom): boolean {
    return this.profiles.has(room.profile);
  }

  /** All of them, where they are so few that an index is of no use. */
  few(): HostRoom[] | undefined {
    if (this.profiles.size > FEW) return undefined;
    let count = 0;
    for (const { hosts } of this.profiles) if ((count += hosts.size) > FEW) return undefined;
    return Array.from(this.profiles).flatMap(({ hosts }) => Array.from(hosts));
  }
}

/** Which profiles a class admits: judged once for each. */
export class HostClasses {
  #profiles: Profile[] = [];
  readonly #classes = new Map<string, { admission: Admission; judged: number }>();

  /** A profile that was not there before. */
  add(profile: Profile): void {
    this.#profiles.push(profile);
  }

  /** Those that are no more. */
  forget(profiles: ReadonlySet<Profile>): void {
    this.#profiles = this.#profiles.filter((profile) => !profiles.has(profile));
    this.#classes.clear();
  }

  admitted(hosts: HostClass): Admission {
    let known = this.#classes.get(hosts.key);
    if (!known) {
      if (this.#classes.size >= MAX_CLASSES) this.#classes.delete(this.#classes.keys().next().value!);
      known = { admission: new Admission(), judged: 0 };
      this.#classes.set(hosts.key, known);
    }
    for (; known.judged < this.#profiles.length; known.judged++) {
      const profile = this.#profiles[known.judged]!;
      if (!hosts.admits(profile.info)) continue;
      known.admission.profiles.add(profile);
      known.admission.groups.add(profile.group);
    }
    return known.admission;
  }
}
