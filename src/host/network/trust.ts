import { getCACertificates } from "node:tls";
import { ApiError } from "../../contract/errors.ts";
import type { StartSpec } from "../../contract/host-protocol.ts";
import { newId } from "../../contract/ids.ts";
import { signalOfReturncode } from "../../contract/process.ts";
import { BUSYBOX, NOT_FOUND_RETURNCODE } from "../file-script-run.ts";
import { type Container, type SpawnSpec, StartFailure } from "../runtime.ts";
import { settlesWithin, tooSlow } from "../time-limit.ts";
import { BUNDLE, NOT_ROOT_RETURNCODE, OWN_CERTIFICATE, TRUST_SCRIPT } from "./trust-script.ts";

/** Within what preparing a network may take in all. */
const INSTALL_TIMEOUT_MS = 10_000;

/** What tells programs that bring their own roots along, or look elsewhere, whom to trust. */
const TRUST_VARIABLES = {
  // Those that take the whole of it.
  SSL_CERT_FILE: BUNDLE,
  CURL_CA_BUNDLE: BUNDLE,
  REQUESTS_CA_BUNDLE: BUNDLE,
  PIP_CERT: BUNDLE,
  GIT_SSL_CAINFO: BUNDLE,
  AWS_CA_BUNDLE: BUNDLE,
  CARGO_HTTP_CAINFO: BUNDLE,
  GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: BUNDLE,
  // Those that add to what they have.
  NODE_EXTRA_CA_CERTS: OWN_CERTIFICATE,
  DENO_CERT: OWN_CERTIFICATE,
};

/** The spec with the variables by which its programs trust the authority of its sandbox, where it has one; the user's own come over them. */
export function withTrust(spec: StartSpec): StartSpec {
  if (!spec.network?.headers?.length) return spec;
  return { ...spec, env: { ...TRUST_VARIABLES, ...spec.env } };
}

/**
 * Makes a container's programs trust the certificate (PEM), in the place of an earlier one. Throws {@link StartFailure} where its image
 * does not let that be done.
 */
export async function installTrust(container: Container, certificate: string): Promise<void> {
  for (const busybox of [BUSYBOX, ""]) {
    const command = [...(busybox ? [busybox, "sh"] : ["/bin/sh"]), "-c", TRUST_SCRIPT, "sh", busybox, certificate];
    // The engine, which knows how to become another user, is slower than the launcher, which is the image's.
    for (const user of [undefined, "0"]) {
      const returncode = await run(container, command, user);
      if (returncode === 0) return;
      if (returncode === undefined || signalOfReturncode(returncode) !== undefined)
        throw new ApiError("backend_unavailable", {
          detail: "The sandbox's shell was ended before its certificate was installed.",
          retryAfter: 1,
        });
      if (returncode === NOT_FOUND_RETURNCODE) break;
      if (returncode !== NOT_ROOT_RETURNCODE) throw cannotInstall();
    }
  }
  throw cannotInstall();
}

const cannotInstall = () =>
  new StartFailure("The certificate that `egress_headers` need could not be installed in the image.");

async function run(container: Container, command: string[], user: string | undefined): Promise<number | undefined> {
  const spec: SpawnSpec = {
    process_id: newId("process"),
    command,
    env: { LC_ALL: "C" },
    workdir: "/",
    input: "once",
    stdout: "ignore",
    stderr: "ignore",
    ...(user !== undefined && { user }),
  };
  const spawned = await container.spawn(spec);
  void spawned.exited.then(() => spawned.release());
  spawned.stdin.on("error", () => {}).end(trustedRoots());
  for (const output of [spawned.stdout, spawned.stderr])
    output
      .stream()
      .on("error", () => {})
      .resume();
  if (await settlesWithin(spawned.exited, INSTALL_TIMEOUT_MS)) return spawned.exited;
  spawned.kill("SIGKILL").catch(() => {});
  spawned.stdin.destroy();
  throw tooSlow("Installing the certificate")();
}

/** Those that this daemon itself trusts. */
const trustedRoots = (): string =>
  getCACertificates("default")
    .map((root) => `${root.trim()}\n`)
    .join("");
