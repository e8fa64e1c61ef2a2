import { z } from "zod";
import { wholeNumber } from "./fields.ts";

export const DEFAULT_LIMIT = 100;
export const MAX_LIMIT = 1000;

/** What every list takes: how many at most, and where the page before ended. */
export const ListQueryShape = {
  limit: wholeNumber(1, MAX_LIMIT).default(DEFAULT_LIMIT),
  cursor: z.string().max(256).optional().meta({ description: "The `next_cursor` of the page before." }),
};

/** What every list answers; `next_cursor` is left out on the last page. */
export function pageSchema<Item extends z.ZodType>(item: Item) {
  return z.object({ data: z.array(item), next_cursor: z.string().optional() });
}

/** A page of anything. */
export interface Page<Item> {
  data: Item[];
  next_cursor?: string;
}

/** The header that makes a POST safe to repeat. */
export const IdempotencyHeadersSchema = z.object({
  "Idempotency-Key": z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, "must be 1 to 255 visible ASCII characters")
    .optional()
    .meta({ description: "The same key with the same body gives the first answer again for 24 hours." }),
});
