import type { OpenBackend } from "../../src/backends/index.ts";
import worker, { Sandbox as RealSandbox } from "../../src/index.ts";
import { FakeHost } from "../fake/fake-backend.ts";

/** The host that every sandbox of this worker runs on. */
export const fakeHost = new FakeHost();

/** The real object on the fake backend. */
export class Sandbox extends RealSandbox {
  protected override backends(): OpenBackend {
    return (sandboxId) => fakeHost.open(sandboxId);
  }
}

export default worker;
