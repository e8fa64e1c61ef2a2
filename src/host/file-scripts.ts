/**
 * The scripts that read and write files. They run inside the container, as any process of the sandbox
 * does, so no link and no `..` leads anywhere the sandbox could not go itself. POSIX sh, for dash with
 * coreutils and for busybox alike. Paths are arguments, never part of the text, and never pass through
 * a command substitution unguarded: it would eat newlines at their end.
 *
 * A script says one line, `<word> [number]`, before anything else it has to say: `file <size>`,
 * `ready [path]`, `done`, or the code of an error.
 */

/** In an image without tools, every one of them is the launcher's busybox. `$1` is its path, or empty. */
export const PRELUDE = `
B=$1; shift
if [ -n "$B" ]; then
  cat() { "$B" cat "$@"; }; stat() { "$B" stat "$@"; }; dd() { "$B" dd "$@"; }; head() { "$B" head "$@"; }
  tail() { "$B" tail "$@"; }; mkdir() { "$B" mkdir "$@"; }; mv() { "$B" mv "$@"; }; rm() { "$B" rm "$@"; }
  chmod() { "$B" chmod "$@"; }; chown() { "$B" chown "$@"; }; readlink() { "$B" readlink "$@"; }; wc() { "$B" wc "$@"; }
fi
fail() { echo "$1"; exit 0; }
size_of() { stat -L -c %s "$1" 2>/dev/null || wc -c < "$1"; }
# What the path links to, so that the link stays. Not readlink -f: tools differ where nothing is there yet.
follow() {
  links=0
  while [ -L "$p" ]; do
    links=$((links + 1))
    [ "$links" -le 40 ] || fail file_not_found
    t=$(readlink "$p" && echo x)
    t=\${t%??}
    case $t in /*) p=$t ;; '') fail permission_denied ;; *) p=\${p%/*}/$t ;; esac
  done
}
# Why a path that cannot be seen cannot be seen.
explain() {
  d=$1
  while [ -n "$d" ]; do
    d=\${d%/*}
    if [ -d "$d/" ]; then [ -x "$d/" ] || fail permission_denied; return; fi
    [ -e "$d" ] && fail not_a_directory
  done
}
`;

/**
 * `$1` path, then `$2` the first byte and `$3` how many (empty: to the end), or `$2` = `-` and `$3` the
 * number of last bytes. A range is left to the caller where the size is 0: /proc does not tell sizes.
 */
export const READ_SCRIPT = `${PRELUDE}
p=$1 first=$2 count=$3
[ -e "$p" ] || { explain "$p"; fail file_not_found; }
[ -d "$p" ] && fail is_a_directory
[ -f "$p" ] || fail not_a_file
[ -r "$p" ] || fail permission_denied
if [ -z "$first$count" ] && stat -L -c 'file %s' "$p" 2>/dev/null; then
  # The usual case, in as few processes as can be.
  [ -n "$B" ] || exec cat "$p"
  cat "$p"
  exit
fi
size=$(size_of "$p") || fail permission_denied
echo "file $size"
if [ "$size" -eq 0 ] || [ -z "$first$count" ]; then cat "$p"
else
  if [ "$first" = - ]; then
    first=$((size - count)); [ "$first" -ge 0 ] || first=0
    count=
  fi
  [ "$first" -lt "$size" ] || exit 0
  # dd goes to the block without reading what lies before, in coreutils and in busybox.
  body() { dd if="$p" bs=65536 skip=$((first / 65536)) 2>/dev/null | tail -c +$((first % 65536 + 1)); }
  if [ -n "$count" ]; then body | head -c "$count"; else body; fi
fi
`;

/**
 * `$1` path, `$2` the name of the temporary file. Says `ready`, keeps stdin as a temporary file, says
 * `kept`. The old file is not touched. Behind `ready` stands where the temporary file is, if that is short and of plain letters: this machine may
 * write it, too, until the end of stdin.
 */
export const RECEIVE_SCRIPT = `${PRELUDE}
p=$1 name=$2
follow
case $p in */ | */. | */..) fail is_a_directory ;; esac
d=\${p%/*}/
if [ -e "$p" ]; then
  [ -d "$p" ] && fail is_a_directory
  [ -f "$p" ] || [ -c "$p" ] || [ -b "$p" ] || fail not_a_file
  [ -w "$p" ] || fail permission_denied
elif [ ! -d "$d" ]; then
  why=$(mkdir -p "$d" 2>&1) || {
    case $why in *"No space"* | *"quota"*) fail disk_full ;; esac
    explain "$p"; fail permission_denied
  }
fi
umask 077
tmp=$d$name
if [ -e "$p" ] && { [ ! -f "$p" ] || ! [ -w "$d" ]; } || ! { true > "$tmp"; } 2>/dev/null; then
  # Nothing can stand beside it: a device, a file of /proc, a directory of another user.
  [ -e "$p" ] || fail permission_denied
  tmp=/tmp/$name
  { true > "$tmp"; } 2>/dev/null || fail permission_denied
fi
trap 'rm -f "$tmp"' HUP INT TERM
case $tmp in *[!A-Za-z0-9/._@%+=:,-]*) said= ;; *) said=" $tmp" ;; esac
[ \${#said} -le 1000 ] || said=
echo "ready$said"
why=$({ cat >> "$tmp"; } 2>&1) || {
  rm -f "$tmp"
  case $why in *"No space"* | *"quota"*) fail disk_full ;; esac
  fail permission_denied
}
echo kept
`;

/** `$1` path, `$2` the name of the temporary file, `$3` its size, `$4` the mode or empty. Puts it in place. */
export const COMMIT_SCRIPT = `${PRELUDE}
p=$1 name=$2 size=$3 mode=$4
follow
tmp=\${p%/*}/$name
direct=
[ -f "$tmp" ] || { tmp=/tmp/$name direct=1; }
give_up() { rm -f "$tmp"; fail "$1"; }
[ -f "$tmp" ] || fail short
[ "$(size_of "$tmp")" = "$size" ] || give_up short
[ -d "$p" ] && give_up is_a_directory
if [ -e "$p" ]; then
  [ -f "$p" ] || direct=1
  chown "$(stat -L -c %u:%g "$p")" "$tmp" 2>/dev/null
  chmod "\${mode:-$(stat -L -c %a "$p")}" "$tmp" 2>/dev/null
else
  chmod "\${mode:-0644}" "$tmp" || give_up permission_denied
fi
# A file that is a mount of its own (/etc/hosts) cannot be replaced, only written.
if [ -n "$direct" ] || ! mv -f "$tmp" "$p" 2>/dev/null; then
  why=$({ cat "$tmp" > "$p"; } 2>&1) || {
    case $why in *"No space"* | *"quota"*) give_up disk_full ;; esac
    give_up permission_denied
  }
  [ -z "$mode" ] || chmod "$mode" "$p" 2>/dev/null
  rm -f "$tmp"
fi
echo done
`;

/** `$1` path, `$2` the name of the temporary file: removes it. */
export const DISCARD_SCRIPT = `${PRELUDE}
p=$1 name=$2
follow
rm -f "\${p%/*}/$name" "/tmp/$name"
echo done
`;
