#!/bin/sh
# Runs inside of the container as the sandbox's own code; see launcher.ts for the host's side.
#
#   launcher.sh DIR SETSID…    DIR: the control directory, read-only here; SETSID: a program that starts another in a new session
#
# A line on DIR/cmd names a slot. DIR/SLOT.spec is the script that starts the slot's process, its streams among them: FIFOs
# SLOT.in, SLOT.out and SLOT.err where the host reads or writes them. SLOT.st carries the lines `pid N`, `exec` or
# `refused N REASON`, and `exit N`. A line on SLOT.ack has the code said again; when the host removes the files, the slot is done.
#
# Written for dash, bash and busybox ash. No `&` for what the sandbox runs: a shell without job control starts such
# commands with SIGINT and SIGQUIT ignored, for good.
# Names start with __ because the specs export the user's variables into the same shell.

__dir=$1
shift
__setsid=$*
__as=
# An image need not hold any program: where setsid is busybox's, so is env. It reads by the byte, and need not read a whole line.
case $1 in
  */busybox) __busybox=$1 __env="$1 env" __first="-n 8" __four="-n 36" ;;
  *) __busybox= __env=/usr/bin/env __first= __four= ;;
esac
unset OLDPWD SHLVL
cd /
exec </dev/null >/dev/null 2>&1 5>"$__dir/alive"

# __enter DIRECTORY [make]: the working directory of the process.
__enter() {
  if [ "${2-}" = make ] && [ ! -d "$1" ]; then mkdir -p -- "$1" 2>/dev/null; fi
  cd "$1" 2>/dev/null && return
  __why="no such directory"
  if [ -d "$1" ]; then __why="permission denied"; elif [ -e "$1" ]; then __why="not a directory"; fi
  __refuse 126 "cannot enter the working directory $1: $__why"
}

# __refuse CODE REASON: ends the process before its program has started.
__refuse() {
  printf 'sandbar: %s\n' "$2" >&2
  printf 'refused %s %s\n' "$1" "$2" >&9
  exit "$1"
}

# __check PROGRAM: refuses what is no program. __program is what finds it: busybox takes a bare name for one of its own.
__check() {
  __program=$1
  case $1 in
    */*) __judge "$1" ;;
    *)
      __code=127
      __why="not found"
      __rest=${PATH-}:
      while [ -n "$__rest" ]; do
        __entry=${__rest%%:*}
        __rest=${__rest#*:}
        [ -e "${__entry:-.}/$1" ] || continue
        __judge "${__entry:-.}/$1"
        [ "$__code" = 0 ] || continue
        [ -z "$__busybox" ] || __program=${__entry:-.}/$1
        break
      done
      ;;
  esac
  [ "$__code" = 0 ] || __refuse "$__code" "$1: $__why"
}

# __as USER [GROUP]: who the program runs as, by name or number, in __as for __start.
__as() {
  __uid= __gid= __home=/ __groups=--clear-groups
  while IFS=: read -r __name __x __u __g __x __h __x; do
    if [ "$1" = "$__name" ] || [ "$1" = "$__u" ]; then
      __uid=$__u __gid=$__g __home=$__h __groups=--init-groups
      break
    fi
  done </etc/passwd
  if [ -z "$__uid" ]; then
    case $1 in *[!0-9]*) __refuse 126 "there is no user $1" ;; esac
    __uid=$1 __gid=0
  fi
  if [ -n "${2-}" ]; then
    __gid=
    while IFS=: read -r __name __x __g __x; do
      if [ "$2" = "$__name" ] || [ "$2" = "$__g" ]; then __gid=$__g; break; fi
    done </etc/group
    if [ -z "$__gid" ]; then
      case $2 in *[!0-9]*) __refuse 126 "there is no group $2" ;; esac
      __gid=$2
    fi
    __groups=--clear-groups
  fi
  [ -z "${__tty-}" ] || chown "$__uid" "$__tty"
  export HOME="$__home" USER="$1"
  __as="/usr/bin/setpriv --reuid=$__uid --regid=$__gid $__groups --"
}

# __start ARGV…: becomes the program that was checked.
__start() {
  [ "$__program" != "$1" ] || __exec $__setsid $__as "$@"
  # By its path, under the name that it was called by.
  __name=$1
  shift
  __exec $__setsid "$__busybox" sh -c 'unset SHLVL; exec -a "$0" "$@"' "$__name" "$__program" "$@"
}

__exec() {
  unset OLDPWD __tty
  echo exec >&9
  exec "$@" 9>&-
}

__judge() {
  __code=126
  if [ -d "$1" ]; then __why="is a directory"
  elif [ ! -e "$1" ]; then __code=127 __why="not found"
  elif [ ! -x "$1" ]; then __why="permission denied"
  else __code=0; fi
}

# __hello: the streams of the process stand.
__hello() {
  read -r $__first __pid __rest </proc/self/stat
  echo "pid $__pid" >&9
  # The launcher itself is spared where it can be: see boot.sh.
  [ -n "$__busybox" ] || { echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
}

# Holds both ends of the outputs until the exit code is taken, so that bytes survive a restart of the host's daemon; and says
# the code again to a daemon that was not there.
__run() {
  # Kills the subshell above, which makes this one a child of init: the only way into the background without `&`.
  read -r $__four __rest __rest __rest __parent __rest </proc/self/stat
  kill -9 "$__parent"
  exec 3<&- 9<>"$__dir/$1.st"
  [ ! -p "$__dir/$1.out" ] || exec 7<>"$__dir/$1.out"
  [ ! -p "$__dir/$1.err" ] || exec 8<>"$__dir/$1.err"
  __holder=
  if [ -p "$__dir/$1.hold" ]; then
    # Keeps stdin open while no daemon is there. Ends at a line, and with it stdin. It starts nothing: `&` does no harm.
    ( exec 6<>"$__dir/$1.in" 7<&- 8<&- 9<&-; read -r __line <>"$__dir/$1.hold" ) &
    __holder=$!
  fi
  ( . "$__dir/$1.spec"; exit 126 )
  __code=$?
  [ -z "$__holder" ] || kill -9 "$__holder" 2>/dev/null
  while [ -p "$__dir/$1.ack" ]; do
    echo "exit $__code" >&9
    read -r __line <"$__dir/$1.ack" || :
  done
  exit 0
}

__dispatch() {
  exec 3<>"$__dir/cmd"
  echo ready >&5
  exec 5>&-
  while read -r __slot <&3; do
    case $__slot in '' | *[!a-z0-9]*) continue ;; esac
    ( ( __run "$__slot" ); : )
  done
}

# Waiting for the dispatcher also reaps every orphan; it comes back when the sandbox kills all it can see.
while :; do
  ( __dispatch )
done
