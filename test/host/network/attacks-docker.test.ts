import { describe } from "vitest";
import { IMAGE, noEngine } from "../docker-host.ts";
import { attackSuite } from "./attack-suite.ts";
import { noLab } from "./lab.ts";

describe.skipIf((noLab ?? noEngine) !== undefined)("docker", () => attackSuite("docker", IMAGE));
