import { describeBackend } from "../backends/contract.ts";
import { FakeHost } from "../fake/fake-host.ts";

const host = new FakeHost();

describeBackend({ name: "fake", image: "fake", hasNoShell: true, open: (sandboxId) => host.open(sandboxId) });
