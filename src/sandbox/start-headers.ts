import { ApiError } from "../contract/errors.ts";
import type { EgressHeader, NetworkPolicy } from "../contract/network.ts";
import type { Values } from "../secrets/packed-values.ts";
import type { SecretVault } from "../secrets/vault.ts";
import type { SandboxRecord } from "./store.ts";

type AddedHeader = NonNullable<NetworkPolicy["headers"]>[number];

/** What a header can hold (RFC 9110, 5.5): printable, and no blank at either end. */
const HEADER_VALUE = /^[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?$/;
const MAX_HEADER_CHARACTERS = 8192;

/**
 * The headers that are added to the sandbox's requests, with their secrets' values. They are read for each start and kept nowhere. Throws
 * where it can never have them.
 */
export async function startHeaders(
  { environment, create: { egress_headers: headers = [] } }: SandboxRecord,
  vault: Pick<SecretVault, "open">,
): Promise<AddedHeader[]> {
  if (headers.length === 0) return [];
  const ids = [...new Set(headers.map(({ secret }) => secret))];
  const opened = await vault.open(environment, ids);
  return headers.map((header) => addedHeader(header, opened[ids.indexOf(header.secret)]!));
}

function addedHeader({ domain, header, secret, key, prefix = "" }: EgressHeader, values: Values): AddedHeader {
  const keys = Object.keys(values);
  const name = key ?? (keys.length === 1 ? keys[0] : undefined);
  if (name === undefined)
    throw refused(`The secret ${secret} has ${keys.length} values, and \`${header}\` names none.`);
  if (!Object.hasOwn(values, name)) throw refused(`The secret ${secret} has no value ${name} any more.`);
  const value = prefix + values[name];
  if (value.length > MAX_HEADER_CHARACTERS || !HEADER_VALUE.test(value))
    throw refused(`The value ${name} of the secret ${secret} cannot be sent in a header.`);
  return { domain, header, value };
}

const refused = (detail: string) => new ApiError("invalid_request", { detail });
