import { PRELUDE } from "./file-scripts.ts";

/**
 * The scripts that look at directories and change them. As those of `file-scripts.ts` they run inside of the container and say
 * one line before anything else: the code of an error, `into_itself`, `found`, `done`, or `begun` where the last line may take
 * its time. `%f` and the like come from the caller, see `stat-records.ts`.
 */

/** The launcher's busybox, where there is one, does the same in every image. */
const TREE_PRELUDE = `
if [ -z "$1" ] && [ -x /.sandbar/busybox ]; then shift; set -- /.sandbar/busybox "$@"; fi
${PRELUDE}
if [ -n "$B" ]; then find() { "$B" find "$@"; }; rmdir() { "$B" rmdir "$@"; }; cp() { "$B" cp "$@"; }; fi
# coreutils: names as they are.
export QUOTING_STYLE=literal
is_there() { [ -e "$1" ] || [ -L "$1" ]; }
is_directory() { [ -d "$1" ] && [ ! -L "$1" ]; }
must_be_there() { is_there "$1" || { explain "$1"; fail file_not_found; }; }
# $trim: the path without slashes at its end, which only a directory may have.
trim() {
  trim=$1
  while :; do case $trim in ?*/) trim=\${trim%/} ;; *) break ;; esac; done
  [ "$trim" = "$1" ] || [ -d "$trim" ] || ! is_there "$trim" || fail not_a_directory
}
# Why a program did not do it, by what it said.
judge() {
  case $1 in
    *"No space"* | *"uota exceeded"*) fail disk_full ;;
    *"not empty"*) fail directory_not_empty ;;
    *"File exists"* | *"ot a directory"*) fail not_a_directory ;;
  esac
  fail permission_denied
}
# $real: where the directory is, empty for the root.
real_of() {
  real=$(cd -P "$1" 2>/dev/null && pwd -P && echo x) || fail permission_denied
  real=\${real%??}
  [ "$real" != / ] || real=
}
# Of a real path: the mount that it is in, by $mount and $kind, and whether one is at or below it.
mounts_of() {
  mount= kind= point= has_mounts=
  while read -r m_id m_x m_x m_x m_point m_rest; do
    case $m_point in
      /) m_point= ;;
      *\\\\*)
        m_text=
        while :; do case $m_point in *\\\\*) m_text=$m_text\${m_point%%\\\\*}\\\\0 m_point=\${m_point#*\\\\} ;; *) break ;; esac; done
        m_point=$(printf '%b.' "$m_text$m_point")
        m_point=\${m_point%.}
        ;;
    esac
    case $1/ in
      "$m_point"/*)
        if [ \${#m_point} -ge \${#point} ]; then m_rest=\${m_rest#* - } mount=$m_id point=$m_point kind=\${m_rest%% *}; fi
        ;;
    esac
    case $m_point/ in "$1"/*) has_mounts=1 ;; esac
  done </proc/self/mountinfo
}
`;

/** `$1` path, `$2` format, `$3` what ends the record, or stands alone when there is none any more. */
export const STAT_SCRIPT = `${TREE_PRELUDE}
must_be_there "$1"
echo found
stat -c "$2" -- "$1" 2>/dev/null
echo "$3"
`;

/** `$1` path of a directory, `$2` how many levels, `$3` format, `$4` what ends the list. */
export const LIST_SCRIPT = `${TREE_PRELUDE}
must_be_there "$1"
[ -e "$1" ] || fail file_not_found
[ -d "$1" ] || fail not_a_directory
cd "$1" 2>/dev/null && [ -r . ] || fail permission_denied
echo found
find . -mindepth 1 -maxdepth "$2" -exec \${B:+"$B"} stat -c "$3" -- {} + 2>/dev/null
echo "$4"
`;

/** `$1` path, `$2` whether its parents are made (`1` or empty), `$3` format, `$4` what ends the record. */
export const MAKE_DIRECTORY_SCRIPT = `${TREE_PRELUDE}
trim "$1"
p=$trim
# busybox makes the root without a word.
[ "$p" != / ] || [ -n "$2" ] || fail file_exists
why=$(mkdir \${2:+-p} "$p" 2>&1) || {
  is_there "$p" && fail file_exists
  explain "$p"
  d=\${p%/*}
  [ -n "$2" ] || [ -d "$d/" ] || fail file_not_found
  judge "$why"
}
echo found
stat -c "$3" -- "$p/" 2>/dev/null
echo "$4"
`;

/** `$1` path, `$2` whether with all that it holds (`1` or empty). */
export const REMOVE_SCRIPT = `${TREE_PRELUDE}
trim "$1"
p=$trim
must_be_there "$p"
if ! is_directory "$p"; then why=$(rm -f "$p" 2>&1) || judge "$why"; fail done; fi
if [ -z "$2" ]; then why=$(rmdir "$p" 2>&1) || judge "$why"; fail done; fi
d=\${p%/*}/
real_of "$d"
mounts_of "$real/\${p##*/}"
[ -z "$has_mounts" ] || fail permission_denied
echo begun
why=$(rm -rf "$p" 2>&1 | tail -c 500)
! is_there "$p" || judge "$why"
echo done
`;

/**
 * `$1` from, `$2` to, `$3` the name of what stands beside `to` meanwhile. One rename where the kernel has that; else a copy, of which
 * nothing is at `to` before it is whole.
 */
export const MOVE_SCRIPT = `${TREE_PRELUDE}
trim "$1"
from=$trim
must_be_there "$from"
is_dir=
! is_directory "$from" || is_dir=1
trim "$2"
to=$trim
[ "$to" = "$2" ] || [ -n "$is_dir" ] || fail not_a_directory
d=\${from%/*}/
[ -w "$d" ] || fail permission_denied
real_of "$d"
source=$real/\${from##*/}
# The nearest of its parents that is there.
d=\${to%/*}
while [ ! -d "$d/" ]; do
  ! is_there "$d" || fail not_a_directory
  d=\${d%/*}
done
real_of "$d/"
if [ "$d" = "\${to%/*}" ] && [ "$real/\${to##*/}" = "$source" ]; then fail done; fi
holds_something() { for one in "$1"/* "$1"/.[!.]* "$1"/..?*; do ! is_there "$one" || return 0; done; return 1; }
if [ -n "$is_dir" ]; then
  case $real/ in "$source"/*) fail into_itself ;; esac
  if is_directory "$to"; then ! holds_something "$to" || fail directory_not_empty
  else ! is_there "$to" || fail not_a_directory; fi
else
  ! is_directory "$to" || fail is_a_directory
fi
mounts_of "$source"
[ -z "$has_mounts" ] || fail permission_denied
source_mount=$mount
mounts_of "$real"
echo begun
d=\${to%/*}/
[ -d "$d" ] || why=$(mkdir -p "$d" 2>&1) || { explain "$to"; judge "$why"; }
tmp=$d$3
# In the place of what is there. busybox takes the place of no directory, nor of a link to one.
put() {
  why=$(mv -fT "$1" "$to" 2>&1) && return
  if [ -n "$is_dir" ] && is_directory "$to"; then
    why=$(rmdir "$to" 2>&1) || return
    why=$(mv -fT "$1" "$to" 2>&1) && return
    mkdir "$to"
  elif [ -z "$is_dir" ] && [ -L "$to" ]; then
    mv -fT "$to" "$tmp-old" 2>/dev/null || return
    why=$(mv -fT "$1" "$to" 2>&1) && { rm -f "$tmp-old"; return; }
    mv -fT "$tmp-old" "$to"
  fi
  return 1
}
is_one_rename() {
  [ "$mount" = "$source_mount" ] || return 1
  [ -n "$is_dir" ] && [ "$kind" = overlay ] || return 0
  # Once it has changed, a directory that is also in a layer below shows by its count of links. Such a one cannot be renamed.
  chmod "$(stat -c %a "$from")" "$from" 2>/dev/null && [ "$(stat -c %h "$from")" != 1 ]
}
if is_one_rename; then
  put "$from" || judge "$why"
else
  why=$({ cp -aT "$from" "$tmp" 2>&1 && echo "$3"; } | tail -c 500)
  case $why in *"$3") ;; *) rm -rf "$tmp"; judge "$why" ;; esac
  put "$tmp" || { rm -rf "$tmp"; judge "$why"; }
  why=$(rm -rf "$from" 2>&1 | tail -c 500)
  ! is_there "$from" || judge "$why"
fi
echo done
`;
