import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { z } from "zod";
import { importHostKey, signRequest, type JoinToken, type ReadyKey } from "../contract/host-token.ts";
import { writeWhole } from "./whole-file.ts";

/**
 * How long the key before the newest is still taken: a sandbox's object signs with the one that it knew, and learns of another when
 * it next looks. No sandbox lives for longer than a day.
 */
const PREVIOUS_TAKEN_MS = 25 * 3_600_000;

const KeySchema = z.object({ version: z.int().min(1), key: z.string().min(1) });
type Key = z.infer<typeof KeySchema>;

/** `until`: milliseconds since 1970. */
const SavedSchema = z.object({
  host_id: z.string(),
  current: KeySchema,
  previous: KeySchema.extend({ until: z.int() }).optional(),
});
type Saved = z.infer<typeof SavedSchema>;

/**
 * The keys of this host: the newest signs, and the one before it is still taken for a while. A key that the control plane hands
 * over is on disk before it is used, so that the next daemon has it, whenever this one is killed.
 */
export class HostKeys {
  readonly #hostId: string;
  readonly #dataDir: string;
  readonly #ready = new Map<string, Promise<ReadyKey>>();
  #saved: Saved;
  /** Whether the next daemon finds it in the data directory, or has no need to: it is the token's first one. */
  #isKept: boolean;

  /**
   * The token's key, or the one that was saved since: a token of a higher version is of a host that is joined anew, and what was
   * saved before may have leaked.
   */
  constructor(dataDir: string, { hostId, hostKey, keyVersion }: JoinToken) {
    this.#dataDir = dataDir;
    this.#hostId = hostId;
    const given: Key = { version: keyVersion, key: hostKey };
    const saved = read(pathIn(dataDir));
    const isOurs = saved?.host_id === hostId;
    const isNewer = isOurs && saved.current.version > given.version;
    const isSame = isOurs && saved.current.version === given.version && saved.current.key === given.key;
    const isSaved = isNewer || isSame;
    this.#saved = isSaved ? saved : { host_id: hostId, current: given };
    this.#isKept = isSaved || keyVersion === 1;
  }

  /** Of the newest key. */
  get version(): number {
    return this.#saved.current.version;
  }

  /** The key of a version, made ready; undefined of one that this host does not take. */
  find(version: number): Promise<ReadyKey> | undefined {
    const { current, previous } = this.#saved;
    if (version === current.version) return this.#readyOf(current);
    return previous?.version === version && Date.now() < previous.until ? this.#readyOf(previous) : undefined;
  }

  /** Signs one request of this host with its newest key; see {@link signRequest}. */
  async sign(audience: string, method: string, target: string): Promise<string> {
    const { current } = this.#saved;
    return signRequest(await this.#readyOf(current), audience, method, target, current.version);
  }

  /** From now on the host has this key. False for one that is not newer. Throws, and nothing has changed, when it cannot be saved. */
  take({ version, key }: Key): boolean {
    const { current } = this.#saved;
    if (version <= current.version) return false;
    const next: Saved = {
      host_id: this.#hostId,
      current: { version, key },
      previous: { ...current, until: Date.now() + PREVIOUS_TAKEN_MS },
    };
    write(this.#dataDir, next);
    this.#saved = next;
    this.#isKept = true;
    return true;
  }

  /**
   * The control plane takes the newest key: a token's that was given for this run only is kept for the next. Throws when it cannot be
   * saved.
   */
  accepted(): void {
    if (this.#isKept) return;
    write(this.#dataDir, this.#saved);
    this.#isKept = true;
  }

  #readyOf({ key }: Key): Promise<ReadyKey> {
    const ready = this.#ready.get(key) ?? importHostKey(key);
    this.#ready.set(key, ready);
    return ready;
  }
}

const pathIn = (dataDir: string) => `${dataDir}/key.json`;

/** Undefined where there is none, or one that makes no sense. */
function read(path: string): Saved | undefined {
  try {
    return SavedSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      console.error("sandbar host: the saved key cannot be read; the token's is used.", error);
    }
    return undefined;
  }
}

/** All of it or nothing, and for good: the control plane may refuse the old key from the first use of the new one on. */
function write(dataDir: string, saved: Saved): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  writeWhole(pathIn(dataDir), JSON.stringify(saved));
  const folder = openSync(dataDir, "r");
  fsyncSync(folder);
  closeSync(folder);
}
