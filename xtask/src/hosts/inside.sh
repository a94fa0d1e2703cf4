# Runs a test binary on the host that its arguments describe, and lists what the binary leaves
# behind. It is the first process of its own mount and PID namespaces: no mount is seen outside, and
# no process outlives it.
#
# Arguments: FS USER KVM IMAGE SIGNAL SECONDS BINARY [ARGUMENT...]
#   FS       ext4, btrfs, tmpfs or overlayfs: the file system of TMPDIR
#   USER     root or nobody
#   KVM      yes or no
#   IMAGE    a file that holds a file system, for all but tmpfs
#   SIGNAL   what the process group of the binary is sent after SECONDS
# Exit status: that of the binary; 124 if it was sent the signal.
set -eu
fs=$1 user=$2 kvm=$3 image=$4 signal=$5 seconds=$6
shift 6

mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/fs /mnt/disk /mnt/dev /mnt/dev/upper /mnt/dev/work /mnt/pts /mnt/home

# The file system of TMPDIR.
case $fs in
tmpfs) mount -t tmpfs -o mode=755 tmpfs /mnt/fs ;;
overlayfs)
    mount -o loop "$image" /mnt/disk
    mkdir -p /mnt/disk/lower /mnt/disk/upper /mnt/disk/work
    dirs=lowerdir=/mnt/disk/lower,upperdir=/mnt/disk/upper,workdir=/mnt/disk/work
    mount -t overlay -o "$dirs" overlay /mnt/fs
    ;;
*) mount -o loop "$image" /mnt/fs ;;
esac
export TMPDIR=/mnt/fs/tmp
mkdir -p "$TMPDIR"
chmod 1777 "$TMPDIR"

# Devices: the host's, but for /dev/kvm and the file system in memory. An upper layer takes the
# changes.
[ ! -d /dev/pts ] || mount --bind /dev/pts /mnt/pts
mount -t overlay -o lowerdir=/dev,upperdir=/mnt/dev/upper,workdir=/mnt/dev/work overlay /dev
[ ! -d /dev/pts ] || mount --bind /mnt/pts /dev/pts
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
case $kvm in
yes) chmod 666 /dev/kvm ;;
*) rm -f /dev/kvm ;;
esac

# The home directory of whoever runs this has the tools of the tests, and maybe the tree: another
# user may enter it here. What is written there is gone afterwards.
if [ "$user" != root ] && [ -n "${HOME:-}" ] && [ -d "$HOME" ]; then
    mkdir /mnt/home/upper /mnt/home/work
    dirs=lowerdir=$HOME,upperdir=/mnt/home/upper,workdir=/mnt/home/work
    mount -t overlay -o "$dirs" overlay "$HOME"
    chmod a+rx "$HOME"
fi

# What ignores TMPDIR is found, too, unless the tree itself is there.
places="$TMPDIR /dev/shm"
case $1 in
/tmp/*) ;;
*)
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    places="$places /tmp"
    ;;
esac

left() {
    read -r self rest </proc/self/stat
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [ "$pid" != 1 ] && [ "$pid" != "$self" ] || continue
        # One that has ended between the listing and this line is not left.
        state=$(sed -n 's/^State:[[:space:]]*//p' "$process/status" 2>/dev/null) || continue
        case $state in '' | Z*) continue ;; esac
        echo "LEFT: process $pid: $(tr '\0' ' ' <"$process/cmdline")"
    done
    # The directories are words of a list.
    # shellcheck disable=SC2086
    find $places -mindepth 1 2>/dev/null | sed 's/^/LEFT: /'
}

as=
[ "$user" = root ] || as='setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/nonexistent'
status=0
# shellcheck disable=SC2086
timeout -s "$signal" -k 60 "$seconds" $as "$@" </dev/null || status=$?

# What removes the directory of a process that has ended takes a moment.
tries=0
found=$(left)
while [ -n "$found" ] && [ $tries -lt 150 ]; do
    sleep 0.1
    tries=$((tries + 1))
    found=$(left)
done
[ -z "$found" ] || printf '%s\n' "$found"
exit $status
