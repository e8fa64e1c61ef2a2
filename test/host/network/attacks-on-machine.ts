import { ask, POLICIES, request, type Attack, type Attempt, type Scene } from "./attacks.ts";
import { METADATA } from "./lab-plan.ts";

/** What no sandbox reaches under any rules. */
export function attacksOnMachine({ plan, hosts, hostPort, siblings }: Scene): Attack[] {
  const always = { allowed: "host", forbidden: POLICIES } as const;
  const metadata = (name: string, attempt: Attempt, control?: Attempt): Attack => {
    return { ...always, name: `metadata: ${name}`, attempt, reaches: METADATA, ...(control && { control }) };
  };
  const spelt = ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "::ffff:169.254.169.254"];
  const named = ["meta", "meta6", "mapped", "nat64", "alias", "mixed"];
  const direct = ask("169.254.169.254", 80, request("169.254.169.254"));
  const leading = (to: string) => ({ op: "url", url: `http://${to}/redirect?to=http%3A%2F%2F169.254.169.254%2FTOKEN` });
  const onMetadata = [
    ...METADATA.map((address) => metadata(address, ask(address, 80, request("allowed.test")))),
    ...spelt.map((text) => metadata(`spelt ${text}`, ask(text, 80, request("allowed.test"), { literal: true }))),
    metadata("another port", ask("169.254.169.254", 9999, "TOKEN")),
    { ...metadata("by UDP", { op: "udp", host: "169.254.169.254", port: 9999, send: "TOKEN" }), isSilent: true },
    ...named.map((name) => metadata(`an allowed name, ${name}.test`, ask(`${name}.test`, 80, request(`${name}.test`)))),
    ...named.map((name) => {
      const control = ask(`${name}.test`, 80, request(`${name}.test`));
      return metadata(
        `Host ${name}.test to an allowed server`,
        ask(plan.allowed, 80, request(`${name}.test`)),
        control,
      );
    }),
    metadata(
      "the name of a hello",
      { op: "raw_hello", host: plan.allowed, port: 9999, names: [["meta.test"]] },
      direct,
    ),
    metadata("Host 169.254.169.254", ask(plan.allowed, 80, request("169.254.169.254")), direct),
    metadata("absolute", ask(plan.allowed, 80, request("allowed.test", "http://169.254.169.254/TOKEN")), direct),
    metadata(
      "by CONNECT",
      ask(plan.allowed, 80, "CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: meta.test\r\n\r\n"),
      direct,
    ),
    metadata("led on from an allowed name", leading("allowed.test")),
    metadata("led on from an allowed address", leading(plan.allowed)),
    ...Array.from({ length: 4 }, (_, turn) =>
      metadata(`a name that changes, ${turn}`, ask(plan.allowed, 80, request("rebind.test")), direct),
    ),
  ];
  const host = (name: string, attempt: Attempt, control?: Attempt): Attack => {
    return { ...always, name: `this machine: ${name}`, attempt, reaches: ["host"], ...(control && { control }) };
  };
  const own = ask("127.0.0.1", hostPort, request("loop.test"));
  const onHost = [
    ...[...hosts, "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"].flatMap((address) => [
      host(`${address} by TCP`, ask(address, hostPort, request("allowed.test"), { literal: true })),
      // The kernel says no to so many a second, and drops the others.
      { ...host(`${address} by UDP`, { op: "udp", host: address, port: hostPort, send: "TOKEN" }), isSilent: true },
    ]),
    ...["inside", "loop", "zero", "rebind"].map((name) =>
      host(`Host ${name}.test to an allowed server`, ask(plan.allowed, hostPort, request(`${name}.test`)), own),
    ),
    // Out of the container with the loopback's address: a machine that routes such packets takes them for its own.
    {
      ...host("127.0.0.1 by interface eth0", ask("127.0.0.1", hostPort, "TOKEN", { options: [[1, 25, "eth0"]] }), own),
      isSilent: true,
    },
    host("Host 127.0.0.1", ask(plan.allowed, hostPort, request("127.0.0.1")), own),
    host("Host localhost", ask(plan.allowed, hostPort, request("localhost")), own),
  ];
  const sibling = (name: string, attempt: Attempt, control?: Attempt): Attack => {
    return { ...always, name: `sibling ${name}`, attempt, reaches: ["sibling"], ...(control && { control }) };
  };
  const onSiblings = siblings.flatMap(({ address, port, published }, index) => [
    sibling(`${index}: by its address`, ask(address, port, request("allowed.test"))),
    sibling(`${index}: by name`, ask(plan.allowed, port, request(`sibling${index}.test`)), ask(address, port, "TOKEN")),
    ...published.flatMap(({ isIpv6, port: there }) =>
      hosts
        .filter((own) => own.includes(":") === isIpv6)
        .map((own) => sibling(`${index}: published on ${own}`, ask(own, there, request("allowed.test")))),
    ),
  ]);
  return [...onMetadata, ...onHost, ...onSiblings];
}
