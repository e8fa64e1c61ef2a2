import { describe } from "vitest";
import { updateSuite } from "./update-suite.ts";
import { noLab } from "./lab.ts";

describe.skipIf(noLab !== undefined)("embedded", () => updateSuite("embedded", "host"));
