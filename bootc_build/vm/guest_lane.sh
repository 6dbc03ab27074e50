# The guest's half of lane.py: answers requests on a virtio serial port, until the port is closed.
# A request is a line "run ID LINES SECONDS" and a script of so many lines, or "put ID BYTES -" and a file of so
# many bytes. The answer is a line "@ID STATUS OUT ERR" and the bytes of both outputs; STATUS is "full" where the
# request found no room. No terminal is in between and the kernel does not print here: nothing needs escaping.
# Few processes are started: under emulation each costs ten milliseconds.
# $1 is the port, $2 where files go first; both for tests of this script.
port=${1:-/dev/virtio-ports/bootc-build.lane}
modprobe virtio_console 2>/dev/null
tries=0
until [ -e $port ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || exit 0
    sleep 0.1
done
for d in ${2:-/run} /dev/shm /tmp; do
    d=$d/bootc-build-lane
    mkdir -p -m 700 $d 2>/dev/null && [ -w $d ] && break
done
cd /
shell=sh
command -v bash >/dev/null && shell=bash
exec <>$port >&0
printf '\n@hello %s\n' "$(cat /proc/sys/kernel/random/boot_id)"

# Lines of the port, $1 of them, into the script's file; all of them are taken, also when there is no room.
take_script() {
    left=$1
    fits=:
    : 2>/dev/null >$d/c || fits=false
    while [ $left -gt 0 ] && IFS= read -r line; do
        $fits && { printf '%s\n' "$line" 2>/dev/null >>$d/c || fits=false; }
        left=$((left - 1))
    done
    $fits
}

while read -r kind id size seconds; do
    status=0
    case $kind in
    run)
        if ! take_script "$size"; then
            status=full
        elif [ "$seconds" = - ]; then
            $shell $d/c >$d/o 2>$d/e </dev/null
            status=$?
        else
            timeout -k 5 "$seconds" $shell $d/c >$d/o 2>$d/e </dev/null
            status=$?
        fi
        ;;
    put)
        head -c "$size" | { cat 2>/dev/null >$d/f || { cat >/dev/null; false; }; } || status=full
        : >$d/e
        echo $d/f >$d/o
        ;;
    *) continue ;;
    esac
    set -- 0 o 0
    if [ $status != full ] && { [ -s $d/o ] || [ -s $d/e ]; }; then
        # Size, name, size, name, …
        set -- $(wc -c $d/o $d/e)
    fi
    printf '@%s %s %s %s\n' "$id" $status "$1" "$3"
    [ "$1$3" = 00 ] || cat $d/o $d/e
done
