import { ask, request, type Attack, type Attempt, type PolicyName, type Scene } from "./attacks.ts";

/** No attacks, but what rules open: it is shut for those who are cut off. */
export function useOfWhatIsAllowed({ plan }: Scene): Attack[] {
  const use = (allowed: PolicyName, name: string, attempt: Attempt): Attack => {
    return { name: `${allowed}: ${name}`, attempt, reaches: [plan.allowed], allowed, forbidden: ["off"] };
  };
  const nowhere = "192.0.2.77";
  return [
    use("names", "HTTP by the name's address", ask("allowed.test", 80, request("allowed.test"))),
    use("names", "TLS by the name's address", {
      op: "tls",
      host: "allowed.test",
      port: 443,
      name: "allowed.test",
      path: "/TOKEN",
    }),
    use("names", "HTTP by any address", ask(nowhere, 80, request("allowed.test"))),
    use("names", "HTTP by an attacker's address", ask(plan.attacker, 80, request("allowed.test"))),
    use("names", "TLS by an attacker's address", {
      op: "tls",
      host: plan.attacker,
      port: 443,
      name: "allowed.test",
      path: "/TOKEN",
    }),
    use("names", "TLS on another port, in many records", {
      op: "raw_hello",
      host: plan.attacker,
      port: 8081,
      names: [["ALLOWED.test."]],
      records: [7, 7, 7, 7],
    }),
    use(
      "names",
      "two requests for one name",
      ask(plan.allowed, 80, request("allowed.test", "/one"), { next: request("Allowed.Test") }),
    ),
    use("names", "a name that leads to more than it may", ask(plan.allowed, 80, request("mixed.test"))),
    use("headers", "TLS by the name's address", {
      op: "tls",
      host: "allowed.test",
      port: 443,
      name: "allowed.test",
      path: "/TOKEN",
    }),
    use("headers", "TLS by an attacker's address", {
      op: "tls",
      host: plan.attacker,
      port: 443,
      name: "allowed.test",
      path: "/TOKEN",
    }),
    use("headers", "HTTP", ask("allowed.test", 80, request("allowed.test"))),
    use("ranges", "TCP", ask(plan.allowed, 22, "TOKEN")),
    use("ranges", "TLS without a name", { op: "tls", host: plan.allowed, port: 443, path: "/TOKEN" }),
    use("all", "TCP", ask(plan.allowed, 22, "TOKEN")),
    use("all", "HTTP by the name's address", ask("allowed.test", 80, request("allowed.test"))),
    use("none", "TCP", ask(plan.allowed, 22, "TOKEN")),
  ];
}
