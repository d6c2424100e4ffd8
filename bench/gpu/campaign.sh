#!/usr/bin/env bash
# The figures of the affinity benchmark, one after the other: roomy and overflowing KV pools (22 minutes
# together), ten turns instead of eight (8 minutes) and sixteen (18), or the parts that are named. For
# machines that end a command sooner: the first call begins them in the background; each call waits up to
# SECONDS, shows how far they are, and packs what there is into $OUT. Call it until it says "all done".
# From the root of a checkout; needs what affinity.sh needs.
#
#   OUT=results bench/gpu/campaign.sh SECONDS [roomy] [overflowing] [longer] [longest]
set -euo pipefail
work=${WORK:-/tmp/homing-campaign}

part() {
    case $1 in
        roomy) bench/gpu/affinity.sh 262144 3 520 --raw --policies homing balanced none round-robin --once constant ;;
        overflowing) bench/gpu/affinity.sh 49152 3 560 --raw --policies homing balanced round-robin none ;;
        longer) bench/gpu/affinity.sh 262144 4 400 --raw --turns 10 --policies homing none ;;
        longest) bench/gpu/affinity.sh 262144 4 900 --raw --turns 16 --policies homing none --once balanced round-robin ;;
        *) echo "no such part: $1" >&2; return 2 ;;
    esac
}

if [ "$1" = in-background ]; then
    code=0
    for name in "${@:2}"; do
        OUT=$work/$name part "$name" || code=$?
    done
    echo "exit status $code" >> "$work/done"
    exit "$code"
fi

seconds=$1 out=${OUT:?a folder for the results}
shift
[ $# -gt 0 ] || set -- roomy overflowing longer longest
if [ ! -d "$work" ]; then
    mkdir -p "$work/tree"
    # Whoever calls again may bring a new copy of the checkout; the runs keep theirs.
    tar --exclude ./.git --exclude ./.venv -cf - . | tar -C "$work/tree" -xf -
    (cd "$work/tree" && WORK=$work setsid nohup bench/gpu/campaign.sh in-background "$@" > "$work/log" 2>&1 < /dev/null &)
fi
while [ ! -e "$work/done" ] && [ "$SECONDS" -lt "$seconds" ]; do sleep 1; done
mkdir -p "$out"
cp "$work/log" "$out/campaign.log"
for name in "$@"; do
    if [ -d "$work/$name" ]; then
        # A file may grow while it is packed (status 1).
        tar -C "$work" -czf "$out/$name.tar.gz" "$name" || [ $? = 1 ]
    fi
done
tail -n "${LINES_SHOWN:-60}" "$work/log"
if [ -e "$work/done" ]; then echo "all done: $(cat "$work/done")"; else echo "not done yet: call again"; fi
