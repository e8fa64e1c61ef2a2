/** Where the certificate of the sandbox's authority lies inside, and a bundle of all that its programs trust. */
const TRUST_FOLDER = "/etc/sandbar-egress";
export const OWN_CERTIFICATE = `${TRUST_FOLDER}/ca.pem`;
export const BUNDLE = `${TRUST_FOLDER}/bundle.pem`;

/** Where distributions keep what their programs trust; the first is made where there is none. */
const BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
  "/etc/pki/tls/cacert.pem",
];
/** What distributions make these bundles from, so that the certificate stays in one that is made anew. */
const SOURCES = [
  "/usr/local/share/ca-certificates",
  "/etc/pki/ca-trust/source/anchors",
  "/etc/ca-certificates/trust-source/anchors",
];

const BEGIN = "# Sandbar egress";
const END = "# End of Sandbar egress";

export const NOT_ROOT_RETURNCODE = 77;

/**
 * Makes the programs of a container trust a certificate ($2), and nothing any longer that an earlier run of it had them trust. It runs
 * inside, with the launcher's busybox ($1) where there is one, so that no link leads out. The roots for an image that has none are its input.
 */
export const TRUST_SCRIPT = `
B=$1
run() { if [ -n "$B" ]; then "$B" "$@"; else "$@"; fi; }
[ "$(run id -u)" = 0 ] || exit ${NOT_ROOT_RETURNCODE}
set -e
umask 022
run rm -rf ${TRUST_FOLDER}
run mkdir -p ${TRUST_FOLDER}
printf '%s' "$2" >${OWN_CERTIFICATE}
run cat >${TRUST_FOLDER}/roots.pem
first=
for bundle in ${BUNDLES.join(" ")}; do
  [ -f "$bundle" ] || continue
  first=\${first:-$bundle}
done
if [ -z "$first" ]; then
  first=${BUNDLES[0]}
  run mkdir -p "\${first%/*}"
  run rm -f "$first"
  run cat ${TRUST_FOLDER}/roots.pem >"$first"
fi
run rm ${TRUST_FOLDER}/roots.pem
for bundle in ${BUNDLES.join(" ")}; do
  [ -f "$bundle" ] || continue
  run sed '/^${BEGIN}$/,/^${END}$/d' "$bundle" >${TRUST_FOLDER}/new.pem
  [ -z "$(run tail -c 1 ${TRUST_FOLDER}/new.pem)" ] || echo >>${TRUST_FOLDER}/new.pem
  { echo '${BEGIN}'; printf '%s' "$2"; echo '${END}'; } >>${TRUST_FOLDER}/new.pem
  run cat ${TRUST_FOLDER}/new.pem >"$bundle"
done
run rm ${TRUST_FOLDER}/new.pem
run ln -s "$first" ${BUNDLE}
[ ! -d /usr/local/share ] || run mkdir -p ${SOURCES[0]}
for folder in ${SOURCES.join(" ")}; do
  [ ! -d "$folder" ] || printf '%s' "$2" >"$folder/sandbar-egress.crt"
done
`;
