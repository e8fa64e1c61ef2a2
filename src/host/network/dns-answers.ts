import { withTimeLimit } from "../time-limit.ts";
import { formatAnswer, RCODE, readQuestion, type DnsQuestion, type Rcode } from "./dns-message.ts";
import { domainOf } from "./host-name.ts";
import type { Judge } from "./judge.ts";
import type { Names } from "./names.ts";

/** Questions that are being answered. */
const MAX_ASKED = 64;
const ANSWER_TIMEOUT_MS = 10_000;
const STREAM_BYTES = 65_535;

interface Answer {
  rcode: Rcode;
  addresses: readonly string[];
}

const EMPTY: Answer = { rcode: RCODE.noError, addresses: [] };
const REFUSED: Answer = { rcode: RCODE.refused, addresses: [] };

/**
 * What a sandbox is told about names: the addresses of those that it may know. Whatever else it asks is refused without asking anybody, so
 * that no question carries something out.
 */
export class DnsAnswers {
  readonly #names: Pick<Names, "resolve">;
  readonly #judge: () => Judge;
  #asked = 0;

  constructor(names: Pick<Names, "resolve">, judge: () => Judge) {
    this.#names = names;
    this.#judge = judge;
  }

  /** The answer to a question; undefined where there is none to be given: to what is no question, and beyond the limit. */
  async answer(bytes: Buffer, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
    const asked = readQuestion(bytes);
    if (!asked || this.#asked >= MAX_ASKED) return undefined;
    this.#asked++;
    try {
      return formatAnswer(asked, await this.#find(asked), transport === "udp" ? asked.maxBytes : STREAM_BYTES);
    } catch (error) {
      // What a sandbox asks must not end this daemon, whatever it is.
      console.error("sandbar host: a question of a sandbox's has no answer:", error);
      return undefined;
    } finally {
      this.#asked--;
    }
  }

  async #find({ question, isStandard }: DnsQuestion): Promise<Answer> {
    if (!isStandard) return { rcode: RCODE.notImplemented, addresses: [] };
    const name = domainOf(question.name);
    if (name === undefined || (question.class ?? "IN") !== "IN" || !this.#judge().resolves(name)) return REFUSED;
    if (question.type !== "A" && question.type !== "AAAA") return EMPTY;
    try {
      const resolving = this.#names.resolve(name, question.type === "A" ? 4 : 6);
      const addresses = await withTimeLimit(resolving, ANSWER_TIMEOUT_MS, () => new Error(`${name} takes too long`));
      const judge = this.#judge();
      if (!judge.resolves(name)) return REFUSED;
      return { rcode: RCODE.noError, addresses: addresses.filter((address) => !judge.isForbidden(address)) };
    } catch (error) {
      const isUnknown = (error as NodeJS.ErrnoException).code === "ENOTFOUND";
      return { rcode: isUnknown ? RCODE.noSuchName : RCODE.serverFailure, addresses: [] };
    }
  }
}
