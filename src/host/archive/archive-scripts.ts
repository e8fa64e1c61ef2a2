import { PRELUDE } from "../file-scripts.ts";

/** The image's own tar, else the launcher's. */
const TAR = `${PRELUDE}
if [ -n "$B" ]; then tar() { "$B" tar "$@"; }
elif ! command -v tar > /dev/null 2>&1; then
  [ -x /.sandbar/busybox ] || fail no_tar
  tar() { /.sandbar/busybox tar "$@"; }
fi
`;

/**
 * `$1` path. Says `ready`, then the archive: of a directory, what it holds; of a file, or a link to one, that by its name. Ends well
 * only if all of it was read.
 */
export const PACK_SCRIPT = `${TAR}
p=$1
[ -e "$p" ] || { explain "$p"; fail file_not_found; }
if [ -d "$p" ]; then
  [ -r "$p" ] && cd "$p/" 2>/dev/null || fail permission_denied
  echo ready
  tar -c --numeric-owner -f - . 2>/dev/null
else
  [ -r "$p" ] && cd "\${p%/*}/" 2>/dev/null || fail permission_denied
  echo ready
  tar -ch --numeric-owner -f - -- "\${p##*/}" 2>/dev/null
fi
code=$?
# A file changed while it was read: what GNU's means by it, and nobody else.
if [ "$code" = 1 ]; then case $(tar --version 2>/dev/null) in *"GNU tar"*) code=0 ;; esac; fi
exit "$code"
`;

/**
 * `$1` directory, `$2` the archive (`-`: it is the input), `$3` its size. Says `ready`, unpacks it, removes it, says `done` or the code of an error. That an
 * owner could not be given is none: only root may.
 */
export const UNPACK_SCRIPT = `${TAR}
p=$1 archive=$2 size=$3
discard() { [ "$archive" = - ] || rm -f "$archive"; }
give_up() { discard; fail "$1"; }
[ "$archive" = - ] || { [ -f "$archive" ] && [ "$(size_of "$archive")" = "$size" ]; } || give_up short
if [ ! -d "$p" ]; then
  [ -e "$p" ] && give_up not_a_directory
  why=$(mkdir -p "$p" 2>&1) || {
    discard
    case $why in *"No space"* | *"quota"*) fail disk_full ;; esac
    explain "$p"; fail permission_denied
  }
fi
cd "$p/" 2>/dev/null || give_up permission_denied
echo ready
why=$({ tar -xp -f "$archive" 2>&1; echo "code $?"; } | tail -c 8192)
discard
[ "\${why##*code }" != 0 ] || fail done
case $why in *"No space"* | *"quota"* | *"Wrote only"*) fail disk_full ;; esac
printf '%s\\n' "$why" | while IFS= read -r line; do
  case $line in
    *"hange ownership"* | *"Exiting with failure status"* | "code "* | '') ;;
    *) exit 1 ;;
  esac
done && fail done
case $why in *"ermission denied"* | *"not permitted"* | *"ead-only file system"*) fail permission_denied ;; esac
case $why in *": Not a directory"*) fail not_a_directory ;; *": Is a directory"*) fail is_a_directory ;; esac
fail unreadable
`;
