import { Forbidden } from "../../src/host/network/forbidden.ts";
import { Names } from "../../src/host/network/names.ts";
import { Networks } from "../../src/host/network/networks.ts";

/** Of a host that can set no rules. */
export function noNetworks(folder = "/nowhere"): Networks {
  const names = new Names([]);
  return new Networks({ folder, egress: "gated", canSetRules: false, names, forbidden: Forbidden.ofThisMachine() });
}
