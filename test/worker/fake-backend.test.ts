import { describeBackend } from "../backends/contract.ts";
import { FakeHost } from "../fake/fake-host.ts";

const host = new FakeHost();

const address = "198.51.100.2";
describeBackend({
  name: "fake",
  image: "fake",
  hasNoShell: true,
  outside: { address, reach: ["reach", address] },
  open: (sandboxId) => host.open(sandboxId),
});
