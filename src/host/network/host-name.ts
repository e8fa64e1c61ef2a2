import { DomainSchema } from "../../contract/network.ts";

/** A domain as it counts, in lower case and without a final dot; undefined of what is none, an address among them. */
export function domainOf(text: string): string | undefined {
  const parsed = DomainSchema.safeParse(text.replace(/\.$/, ""));
  return parsed.success ? parsed.data : undefined;
}
