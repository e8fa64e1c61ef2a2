import { describe } from "vitest";
import { attackSuite } from "./attack-suite.ts";
import { noLab } from "./lab.ts";

describe.skipIf(noLab !== undefined)("embedded", () => attackSuite("embedded", "host"));
