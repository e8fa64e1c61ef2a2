import { describe } from "vitest";
import { IMAGE, noEngine } from "../docker-host.ts";
import { updateSuite } from "./update-suite.ts";
import { noLab } from "./lab.ts";

describe.skipIf((noLab ?? noEngine) !== undefined)("docker", () => updateSuite("docker", IMAGE));
