import { describe } from "vitest";
import { egressSuite } from "./egress-suite.ts";
import { noLab } from "./lab.ts";

describe.skipIf(noLab !== undefined)("headers added to requests, embedded", { timeout: 60_000 }, () =>
  egressSuite("embedded", "host", "/etc,/tmp,/root,/home,/run,/var/tmp"),
);
