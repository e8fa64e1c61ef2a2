import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { StartSpec } from "../../../src/contract/host-protocol.ts";
import { DaemonProcess } from "../daemon-process.ts";
import { text, until } from "../signed-host.ts";
import { Lab } from "./lab.ts";

const VALUE = "s3cr3t-value-that-nobody-sees";
const OTHER_VALUE = "an0ther-value-that-nobody-sees";
const MARK = "a-word-that-is-there";
const WAIT_MS = 30_000;
const headersOf = (value = VALUE) => [{ domain: "allowed.test", header: "authorization", value: `Bearer ${value}` }];

/** What the programs of a small Python ask by HTTPS with, and what they say of an answer: of what was added its hash only. */
const CLIENT = `
import hashlib, re, socket, ssl, sys
def connect(name, port, verified=True):
  server = socket.create_connection((name, port), 10)
  context = ssl.create_default_context() if verified else ssl._create_unverified_context()
  return server if port == 80 else context.wrap_socket(server, server_hostname=name)
def ask(server, name, path="/", more=()):
  host = [] if any(one.startswith("Host:") for one in more) else [f"Host: {name}"]
  server.sendall("\\r\\n".join([f"GET {path} HTTP/1.1", *host, *more, "", ""]).encode())
  answer = b""
  while b"\\r\\n\\r\\n" not in answer: answer += server.recv(9999) or sys.exit(print("cut"))
  head, body = answer.split(b"\\r\\n\\r\\n", 1)
  length = re.search(rb"content-length: (\\d+)", head, re.I)
  while len(body) < int(length[1]) if length else not body.endswith(b"0\\r\\n\\r\\n"): body += server.recv(9999) or sys.exit(print("cut"))
  to, got = re.search(rb"location: (\\S+)", head, re.I), re.search(rb'"authorization":"([^"]*)"', body)
  if got: said = "own" if got[1] == b"own" else hashlib.sha256(got[1]).hexdigest()
  else: said = to[1].decode() if to else "none" if b'{"lab"' in body else body.decode().strip()
  return f"{head.split()[1].decode()} {said}"
`;

/** Asks once. */
const ASK = `${CLIENT}
scheme, name, path = re.match("(https?)://([^/]+)(.*)", sys.argv[1]).groups()
try: print(ask(connect(name, 80 if scheme == "http" else 443, "unverified" not in sys.argv), name, path, [one for one in sys.argv[2:] if ":" in one]))
except OSError as error: print(error)
`;

/** Opens an echo, and waits on it until that is cut. */
const HOLD = `${CLIENT}
server = connect("allowed.test", 443)
server.sendall(b"GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\nover")
while b"over" not in server.recv(9999): pass
open("/tmp/held", "w").close()
server.settimeout(20)
try: print("cut" if server.recv(99) == b"" else "said")
except TimeoutError: print("held")
except OSError: print("cut")
`;

/** Asks twice on one connection, the second time for another domain. */
const TWICE = `${CLIENT}
server = connect("allowed.test", 443)
print(ask(server, "allowed.test"), ask(server, "other.test"))
`;

/** Where the words of argv are found, written backwards: in files, and in what the kernel tells of processes. */
const SEARCH = `
import os, sys
words = [word[::-1].encode() for word in sys.argv[2:]]
found, seen = [], 0
def look(path):
  global seen
  try:
    with open(path, "rb") as file: data = file.read(50_000_000)
  except OSError: return
  seen += 1
  if any(word in data for word in words): found.append(path)
for pid in os.listdir("/proc"):
  if pid.isdigit():
    for name in "environ", "cmdline": look(f"/proc/{pid}/{name}")
for root in sys.argv[1].split(","):
  for folder, folders, files in os.walk(root):
    folders[:] = [one for one in folders if os.path.join(folder, one) not in ("/proc", "/sys", "/dev")]
    for name in files:
      path = os.path.join(folder, name)
      if os.path.isfile(path) and not os.path.islink(path): look(path)
print(seen > 20, found)
`;
/** All of the lab by its names, which the gate looks up. */
const outbound = { cidrs: [], domains: ["*.test"] };
const backwards = (word: string) => [...word].toReversed().join("");

const sha256 = (value: string) =>
  execFileSync("sha256sum", { input: `Bearer ${value}` })
    .toString()
    .slice(0, 64);

/** Headers that are added to the requests of real sandboxes of a runtime, whose files are below `roots`. */
export function egressSuite(runtime: "docker" | "embedded", image: string, roots: string): void {
  let lab: Lab;
  let daemon: DaemonProcess;
  const dir = mkdtempSync("/tmp/sandbar-egress-");
  const boxes: string[] = [];

  beforeAll(async () => {
    lab = await Lab.start();
    writeFileSync(`${dir}/ca.pem`, lab.ca);
    const env = { ...process.env, SANDBAR_DNS: lab.plan.resolver, NODE_EXTRA_CA_CERTS: `${dir}/ca.pem` };
    daemon = await DaemonProcess.start(runtime, { env });
  }, 60_000);
  afterAll(async () => {
    await Promise.all(boxes.map((box) => daemon.host.call("DELETE", box)));
    await Promise.all([daemon?.remove(), lab?.close()]);
    rmSync(dir, { recursive: true, force: true });
  });
  beforeEach(() => lab.forget());

  async function sandbox(more: Partial<StartSpec> = {}): Promise<string> {
    const box = await daemon.host.sandbox({ image, network: { outbound, headers: headersOf() }, ...more });
    boxes.push(box);
    return box;
  }
  async function python(box: string, script: string, ...args: string[]): Promise<string> {
    const { output } = await daemon.host.exec(box, ["python3", "-c", script, ...args], {}, WAIT_MS);
    return (text(output!.stdout) + text(output!.stderr)).trim();
  }
  const ask = (box: string, url: string, ...more: string[]) => python(box, ASK, url, ...more);

  it("come to the domain, and are nowhere in the sandbox", async () => {
    const script = `python3 -c "$ASK" https://allowed.test/main >/tmp/main; exec sleep 600`;
    const box = await sandbox({ entrypoint: ["sh", "-c", script], env: { ASK, MARK } });
    expect(await ask(box, "https://allowed.test/")).toBe(`200 ${sha256(VALUE)}`);
    expect(await ask(box, "https://allowed.test/", "Authorization: own")).toBe(`200 ${sha256(VALUE)}`);
    const main = async () => text((await daemon.host.exec(box, ["cat", "/tmp/main"])).output!.stdout).trim();
    await until(async () => (await main()) !== "");
    expect(await main()).toBe(`200 ${sha256(VALUE)}`);
    expect((await lab.hits()).filter(({ kind }) => kind === "https").map((hit) => hit.text)).toHaveLength(3);
    const words = [VALUE, "PRIVATE KEY"].map(backwards);
    expect(await python(box, SEARCH, `${roots},/etc/sandbar-egress`, words[0]!)).toBe("True []");
    expect(await python(box, SEARCH, "/etc/sandbar-egress,/.sandbar", ...words)).toMatch(/ \[\]$/);
    const inspected = runtime === "docker" ? execFileSync("docker", ["inspect", dockerName(box)]).toString() : "";
    expect(inspected + daemon.complaints).not.toContain(VALUE);
    // What is there it finds.
    expect(await python(box, SEARCH, roots, backwards(MARK))).toMatch(/environ/);
    // In one file of this daemon's, which is nobody else's to read.
    const holders = grep(VALUE, daemon.dataDir);
    expect(holders).toEqual([expect.stringContaining("/networks/")]);
    expect(statSync(holders[0]!).mode & 0o777).toBe(0o600);
  });

  it("come to no other domain or port, and not without TLS", async () => {
    const box = await sandbox();
    expect(await python(box, TWICE)).toBe(`200 ${sha256(VALUE)} 421 sandbar: This connection is not for other.test.`);
    expect(await ask(box, "https://allowed.test/", "Host: other.test")).toMatch(/^421 /);
    expect(await ask(box, "http://allowed.test/")).toBe("200 none");
    // As it is itself, with a certificate that is none of ours.
    expect(await ask(box, "https://other.test/", "unverified")).toBe("200 none");
    expect(await ask(box, "https://sub.allowed.test/", "unverified")).toBe("200 none");
    const to = `http://evil.test/`;
    expect(await ask(box, `https://allowed.test/redirect?to=${encodeURIComponent(to)}`)).toBe(`302 ${to}`);
    expect((await lab.hits()).filter(({ text: said }) => said.startsWith("GET evil.test"))).toEqual([]);
  });

  it("come to the domain as this machine finds it, whatever the sandbox takes for it", async () => {
    const box = await sandbox({ network: { headers: headersOf() } });
    await daemon.host.exec(box, ["sh", "-c", `echo ${lab.plan.attacker} allowed.test >>/etc/hosts`]);
    expect(await ask(box, "https://allowed.test/")).toBe(`200 ${sha256(VALUE)}`);
    const reached = (await lab.hits()).filter(({ kind }) => kind === "https");
    expect(reached.map(({ address }) => address)).toEqual([lab.plan.allowed]);
    expect((await lab.packets())[lab.plan.attacker]!.moving).toBe(0);
    await lab.name("meta.test", ["169.254.169.254"]);
    const meta = await sandbox({ network: { headers: [{ ...headersOf()[0]!, domain: "meta.test" }] } });
    await daemon.host.exec(meta, ["sh", "-c", `echo ${lab.plan.allowed} meta.test >>/etc/hosts`]);
    expect(await ask(meta, "https://meta.test/")).toBe("403 sandbar: This sandbox may not connect there.");
  });

  it("go on after the daemon was killed, and are others when they are changed", async () => {
    const box = await sandbox();
    expect(await ask(box, "https://allowed.test/")).toBe(`200 ${sha256(VALUE)}`);
    await daemon.restart();
    expect(await ask(box, "https://allowed.test/")).toBe(`200 ${sha256(VALUE)}`);
    const put = (revision: number, policy: object) =>
      daemon.host.send("PUT", `${box}/network`, { generation: 1, revision, policy });
    expect((await put(1, { outbound, headers: headersOf(OTHER_VALUE) })).status).toBe(204);
    expect(await ask(box, "https://allowed.test/")).toBe(`200 ${sha256(OTHER_VALUE)}`);
    const holding = python(box, HOLD);
    const isHeld = async () => (await daemon.host.exec(box, ["ls", "/tmp/held"])).returncode === 0;
    await until(isHeld);
    expect((await put(2, { outbound: { cidrs: [], domains: ["other.test"] }, headers: headersOf() })).status).toBe(204);
    expect(await holding).toBe("cut");
    expect(await ask(box, "https://allowed.test/")).not.toMatch(/^200/);
    expect((await put(3, { outbound })).status).toBe(204);
    expect(await ask(box, "https://allowed.test/", "unverified")).toBe("200 none");
  });

  if (image !== "host") return;
  it("come from programs that bring their own roots along, or look elsewhere", async () => {
    const box = await sandbox();
    const curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "https://allowed.test/"];
    const node = ["node", "-e", 'fetch("https://allowed.test/").then((answer) => console.log(answer.status))'];
    for (const command of [curl, node]) {
      const { output } = await daemon.host.exec(box, command, {}, WAIT_MS);
      expect([command[0], text(output!.stdout).trim()]).toEqual([command[0], "200"]);
      // Without the certificate it is nobody that they know.
      const lost = { SSL_CERT_FILE: "", CURL_CA_BUNDLE: "/dev/null", NODE_EXTRA_CA_CERTS: "" };
      expect((await daemon.host.exec(box, command, { env: lost }, WAIT_MS)).returncode).not.toBe(0);
    }
  });
}

const dockerName = (box: string) => `sandbar-${box.split("/").at(-1)}-1`;

/** The files below a folder of this machine's with a word in them. */
function grep(word: string, folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => `${parentPath}/${name}`);
  return paths.filter((path) => {
    try {
      return readFileSync(path).includes(word);
    } catch {
      return false;
    }
  });
}
