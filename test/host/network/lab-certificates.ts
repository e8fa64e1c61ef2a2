import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { promisify } from "node:util";

const NAMES = ["allowed.test", "*.allowed.test", "other.test", "evil.test", "*.evil.test", "rebind.test", "both.test"];
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];

/** An authority of its own and a certificate for every name of a lab, as PEM. */
export async function makeCertificates(): Promise<{ ca: string; key: string; certificate: string }> {
  const dir = mkdtempSync("/tmp/sandbar-lab-");
  const openssl = (...args: string[]) =>
    promisify(execFile)("openssl", ["req", "-x509", ...NEW_KEY, ...args], { cwd: dir });
  try {
    await openssl(
      "-subj",
      "/CN=lab",
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
      "-addext",
      "keyUsage=critical,keyCertSign",
    );
    const names = `subjectAltName=${NAMES.map((name) => `DNS:${name}`).join()}`;
    const signedBy = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", names, "-addext", "basicConstraints=CA:FALSE"];
    await openssl("-subj", "/CN=a server of the lab", "-keyout", "key.pem", "-out", "certificate.pem", ...signedBy);
    const read = (name: string) => readFileSync(`${dir}/${name}`, "utf8");
    return { ca: read("ca.pem"), key: read("key.pem"), certificate: read("certificate.pem") };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
