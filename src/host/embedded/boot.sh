#!/bin/sh
# Builds a container around itself and becomes its init. Runs as the first process of fresh mount, pid, net, ipc and
# uts namespaces, with every privilege; only genuine programs of this machine run until those are gone.
#
#   boot.sh DIR LAYER_DIR LINKS CAPS GATED [ro|rw SOURCE PATH]...
#                                       DIR: the sandbox's directory; LAYER_DIR: what layers are relative to;
#                                       LINKS: the targets of /bin and the like; CAPS: what setpriv keeps;
#                                       GATED: empty, or that rules of its network are to lead what leaves to a gate;
#                                       SOURCE: a folder of this machine, and where the sandbox is to see it
#
# The roots, and why so many:
#   stage  tmpfs: this machine's /usr, read-only. Root of the mount namespace, of this script and its helper.
#   a      the stage again, as a mount of its own. The last genuine shell gives up its privileges in there.
#   box    the sandbox. `pivot_root` inside of `a` swaps `a` for it under the feet of that shell, which then executes
#          the sandbox's own /bin/sh: no program of the sandbox ever has a privilege, not even to change its root,
#          and as its root is not the namespace's, the kernel lets it make no user namespaces.
set -eu
DIR=$1 LAYER_DIR=$2 LINKS=$3 CAPS=$4 GATED=$5
STAGE=$DIR/stage
BOX=$STAGE/a/box
shift 5
umask 022

# The old /proc still shows the host's numbers: who this is, for the daemon, also after its restart.
read -r self </proc/self/stat
printf '%s\n' "$self" >"$DIR/init.stat"
{ echo -900 >/proc/self/oom_score_adj; } 2>/dev/null || :
{ echo sandbar >/proc/sys/kernel/hostname; } 2>/dev/null || :

mount -a -T "$DIR/fstab.stage"
mkdir -p "$STAGE/a" "$STAGE/old" "$STAGE/box" "$STAGE/proc" "$STAGE/dev"
: >"$STAGE/dev/null"
[ -z "$LINKS" ] || ln -s $LINKS "$STAGE/"
mkfifo "$STAGE/up" "$STAGE/go"
cd "$LAYER_DIR"
mount -a -T "$DIR/fstab.box"
for place in dev proc usr .sandbar; do
  if [ -L "$BOX/$place" ] || [ ! -d "$BOX/$place" ]; then echo "/$place of the image is no directory" >&2; exit 1; fi
done
# A link of the image on the way to a volume would lead out of the box.
while [ $# -gt 0 ]; do
  place=$BOX rest=${3#/}
  while [ -n "$rest" ]; do
    place=$place/${rest%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
    [ -e "$place" ] || [ -L "$place" ] || mkdir "$place"
    if [ -L "$place" ] || [ ! -d "$place" ]; then echo "${place#"$BOX"} of the image is no directory" >&2; exit 1; fi
  done
  mount --bind "$2" "$place"
  mount -o "remount,bind,$1,nosuid,nodev" "$place"
  shift 3
done
cp -a "$DIR/../../skeleton/dev/." "$BOX/dev/"
mount -a -T "$DIR/fstab.dev"

if command -v ip >/dev/null; then ip link set lo up
elif command -v ifconfig >/dev/null; then ifconfig lo up
else busybox ip link set lo up; fi
# Whatever address a program connects to is in here, then: the rules see it, and without them nobody answers.
if [ -n "$GATED" ]; then
  ip route add local default dev lo
  ip -6 route add local default dev lo || :
fi

cd "$STAGE"
pivot_root . old
cd /
umount -l /old

(
  read -r _ </up
  chroot /a /bin/sh -c 'cd /box && exec pivot_root . .'
  umount -l /a
  # Into the log: from here on, only programs of the sandbox run.
  echo entered
  echo go >/go
) &
exec chroot /a /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
  setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set="$CAPS" \
  /bin/sh -c '
    exec 3<>/go </box/dev/null >/box/dev/null 2>&1
    echo up >/up
    read -r _ <&3
    exec 3<&- /bin/sh /.sandbar/launcher.sh /.sandbar /usr/bin/setsid'
