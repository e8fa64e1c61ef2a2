#!/bin/sh
# Runs inside of the container as the sandbox's own code; see launcher.ts for the host's side.
#
#   launcher.sh DIR SETSID…    DIR: the control directory, read-only here; SETSID: a program that starts another in a new session
#
# A line on DIR/cmd names a slot. DIR/SLOT.spec is the script that starts the slot's process; its streams are the
# FIFOs SLOT.in, SLOT.out and SLOT.err. SLOT.st carries the lines `pid N`, `exec` or `refused N`, and `exit N`;
# when the host opens SLOT.ack, it has taken them.
#
# Written for dash, bash and busybox ash. No `&` anywhere: a shell without job control starts such commands with
# SIGINT and SIGQUIT ignored, for good, and so would be everything in the sandbox.
# Names start with __ because the specs export the user's variables into the same shell.

__dir=$1
shift
__setsid=$*
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
  echo "refused $1" >&9
  exit "$1"
}

# __check PROGRAM: refuses what is no program.
__check() {
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
        [ "$__code" = 0 ] && break
      done
      ;;
  esac
  [ "$__code" = 0 ] || __refuse "$__code" "$1: $__why"
}

# __start $__setsid ARGV…: becomes the program.
__start() {
  unset OLDPWD
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

__child() {
  exec <"$__dir/$1.in" >"$__dir/$1.out" 2>"$__dir/$1.err" 7>&- 8>&-
  read -r __pid __rest </proc/self/stat
  echo "pid $__pid" >&9
  { echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
  . "$__dir/$1.spec"
  exit 126
}

# Holds both ends of the outputs until the exit code is taken, so that bytes survive a restart of the host's daemon.
__run() {
  # Kills the subshell above, which makes this one a child of init: the only way into the background without `&`.
  read -r __rest __rest __rest __parent __rest </proc/self/stat
  kill -9 "$__parent"
  exec 3<&- 7<>"$__dir/$1.out" 8<>"$__dir/$1.err" 9<>"$__dir/$1.st"
  ( __child "$1" )
  echo "exit $?" >&9
  : <"$__dir/$1.ack"
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
