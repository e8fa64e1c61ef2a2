const DEFAULT_GRACE_S = 86_400;
const HOUR_MS = 3_600_000;

/** What a deployment may set, as text: whole seconds, 1 or more. */
export interface GraceVariables {
  /** How long a blob, or a chunk of a volume, stays that nothing refers to, from when somebody was last told of it; a day if left out. */
  REGISTRY_GRACE_SECONDS?: string;
}

export interface Grace {
  keptMs: number;
  /** A blob that somebody was told of is marked so at most this often. */
  touchedEveryMs: number;
  sweptEveryMs: number;
}

export function graceOf({ REGISTRY_GRACE_SECONDS: text }: GraceVariables): Grace {
  const keptMs = seconds(text) * 1000;
  return { keptMs, touchedEveryMs: keptMs / 10, sweptEveryMs: Math.min(HOUR_MS, keptMs) };
}

function seconds(text: string | undefined): number {
  if (text === undefined) return DEFAULT_GRACE_S;
  if (/^\d{1,9}$/.test(text) && Number(text) >= 1) return Number(text);
  console.error(
    `REGISTRY_GRACE_SECONDS of this deployment must be whole seconds, 1 or more, not ${text}: ${DEFAULT_GRACE_S} counts.`,
  );
  return DEFAULT_GRACE_S;
}
