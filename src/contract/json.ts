import { ApiError } from "./errors.ts";

/** Largest JSON body, or message. An exec with its inline stdin fits. */
export const MAX_JSON_BYTES = 2 * 1024 * 1024;

/** `__proto__` is no key that an object built from the text would have: it would vanish unseen. */
export function refuseProtoKeys(text: string): void {
  if (!text.includes("__proto__") && !text.includes("\\u")) return;
  const refuse = (key: string, value: unknown) => {
    if (key === "__proto__") {
      throw new ApiError("invalid_request", { errors: [{ path: key, message: "is not a name that can be used" }] });
    }
    return value;
  };
  try {
    JSON.parse(text, refuse);
  } catch (error) {
    // What is no JSON at all is refused where it is read.
    if (error instanceof ApiError) throw error;
  }
}
