import { asApiError } from "../contract/errors.ts";

/** Pauses before an object that was lost is asked again. */
const PAUSES_MS = [50, 250, 1000];

/**
 * The methods of an object that is opened anew for each call. One of `repeatable` is asked again when its object went away
 * meanwhile.
 */
export function repeated<Methods extends object>(open: () => Methods, repeatable: ReadonlySet<keyof Methods>): Methods {
  return new Proxy({} as Methods, {
    get: (_, name) => {
      const method = name as keyof Methods;
      const call = (args: unknown[]) => (open()[method] as (...all: unknown[]) => Promise<unknown>)(...args);
      return async (...args: unknown[]) => {
        for (const pauseMs of repeatable.has(method) ? PAUSES_MS : []) {
          try {
            return await call(args);
          } catch (error) {
            if (!isLost(error)) throw error;
          }
          await new Promise((resolve) => setTimeout(resolve, pauseMs));
        }
        return call(args);
      };
    },
  });
}

/** An object that is there replies its errors; what is thrown means that it went away, and not always that it did so. */
function isLost(error: unknown): boolean {
  return !asApiError(error) && (error as { overloaded?: boolean }).overloaded !== true;
}
