import { describe } from "vitest";
import { noLab } from "./lab.ts";
import { networksSuite } from "./networks-suite.ts";

describe.skipIf(noLab !== undefined)("networks of embedded containers", () => {
  networksSuite("embedded", "host");
});
