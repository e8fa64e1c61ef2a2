import { decode, encode, RECURSION_AVAILABLE, RECURSION_DESIRED, TRUNCATED_RESPONSE } from "dns-packet";
import type { Packet, Question } from "dns-packet";

/** A question larger than that is none that a resolver of names asks. */
export const MAX_QUESTION_BYTES = 1_232;
const HEADER_BYTES = 12;
const PLAIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 1_232;
const MAX_ADDITIONALS = 2;
const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const TTL_SECONDS = 30;

/** What was asked, in one question. */
export interface DnsQuestion {
  question: Question;
  id: number;
  isStandard: boolean;
  wantsRecursion: boolean;
  hasEdns: boolean;
  /** Of an answer over UDP. */
  maxBytes: number;
}

/** The codes of RFC 1035, 4.1.1. */
export const RCODE = { noError: 0, serverFailure: 2, noSuchName: 3, notImplemented: 4, refused: 5 } as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

/** Undefined of what is no question. Only what a question can consist of is decoded at all. */
export function readQuestion(bytes: Buffer): DnsQuestion | undefined {
  if (bytes.length < HEADER_BYTES || bytes.length > MAX_QUESTION_BYTES) return undefined;
  const [flags, questions, answers, authorities, additionals] = [2, 4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  if (flags! & RESPONSE || questions !== 1 || answers !== 0 || authorities !== 0 || additionals! > MAX_ADDITIONALS) {
    return undefined;
  }
  try {
    const packet = decode(bytes);
    const edns = packet.additionals?.find((record) => record.type === "OPT");
    return {
      question: packet.questions![0]!,
      id: packet.id ?? 0,
      isStandard: (flags! & OPCODE) === 0,
      wantsRecursion: (flags! & RECURSION_DESIRED) !== 0,
      hasEdns: edns !== undefined,
      maxBytes: Math.min(MAX_UDP_BYTES, Math.max(PLAIN_UDP_BYTES, edns?.type === "OPT" ? edns.udpPayloadSize : 0)),
    };
  } catch {
    return undefined;
  }
}

/** The answer to a question, whole or, where that is larger than it may be, the word that it is to be asked for by TCP. */
export function formatAnswer(
  asked: DnsQuestion,
  { rcode, addresses }: { rcode: Rcode; addresses: readonly string[] },
  maxBytes: number,
): Buffer {
  const { question, hasEdns } = asked;
  const flags = RECURSION_AVAILABLE | (asked.wantsRecursion ? RECURSION_DESIRED : 0) | rcode;
  const packet: Packet = {
    type: "response",
    id: asked.id,
    flags,
    questions: [question],
    answers: addresses.map((data) => ({ ...question, type: question.type as "A" | "AAAA", ttl: TTL_SECONDS, data })),
    additionals: hasEdns
      ? [
          {
            type: "OPT",
            name: ".",
            udpPayloadSize: MAX_UDP_BYTES,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  };
  const whole = encode(packet);
  return whole.length <= maxBytes ? whole : encode({ ...packet, answers: [], flags: flags | TRUNCATED_RESPONSE });
}
