const DAY_S = 86_400;
const DEFAULT_RETENTION_S = 7 * DAY_S;
const MIN_RETENTION_S = 60;
const DEFAULT_HOST_LOST_AFTER_S = 300;
/** Hosts report every few seconds. */
const MIN_HOST_LOST_AFTER_S = 30;
const DEFAULT_SCHEDULING_S = 30;
const MIN_SCHEDULING_S = 1;

/** What a deployment may set, as text: whole seconds. */
export interface LimitVariables {
  /** How long an ended sandbox stays readable; 7 days if left out. */
  RETENTION_SECONDS?: string;
  /** How long a host may be silent until its sandboxes end as `host_lost`; 5 minutes if left out. */
  HOST_LOST_SECONDS?: string;
  /** How long a sandbox waits for room until it ends as `no_capacity`; 30 seconds if left out. */
  SCHEDULING_SECONDS?: string;
}

/** The same in milliseconds. */
export interface Limits {
  keptMs: number;
  hostLostAfterMs: number;
  schedulingMs: number;
}

export function limitsOf(variables: LimitVariables): Limits {
  const { RETENTION_SECONDS: kept, HOST_LOST_SECONDS: lost, SCHEDULING_SECONDS: wait } = variables;
  return {
    keptMs: seconds("RETENTION_SECONDS", kept, DEFAULT_RETENTION_S, MIN_RETENTION_S) * 1000,
    hostLostAfterMs: seconds("HOST_LOST_SECONDS", lost, DEFAULT_HOST_LOST_AFTER_S, MIN_HOST_LOST_AFTER_S) * 1000,
    schedulingMs: seconds("SCHEDULING_SECONDS", wait, DEFAULT_SCHEDULING_S, MIN_SCHEDULING_S) * 1000,
  };
}

function seconds(name: string, text: string | undefined, otherwise: number, min: number): number {
  if (text === undefined) return otherwise;
  if (/^\d{1,9}$/.test(text) && Number(text) >= min) return Number(text);
  console.error(`${name} of this deployment must be whole seconds, ${min} or more, not ${text}: ${otherwise} counts.`);
  return otherwise;
}
