#!/usr/bin/env bash
# Both figures of the affinity benchmark, roomy and overflowing KV pools, one after the other: about
# 22 minutes. For machines that end a command sooner: the first call begins them in the background;
# each call waits up to SECONDS, shows how far they are, and packs what there is into $OUT. Call it
# until it says "all done". From the root of a checkout; needs what affinity.sh needs.
#
#   OUT=results bench/gpu/campaign.sh SECONDS
set -euo pipefail
work=${WORK:-/tmp/homing-campaign}

if [ "$1" = in-background ]; then
    code=0
    OUT=$work/roomy bench/gpu/affinity.sh 262144 3 "${ROOMY_BUDGET:-520}" --raw \
        --policies homing balanced none round-robin --once constant || code=$?
    OUT=$work/overflowing bench/gpu/affinity.sh 49152 3 "${OVERFLOWING_BUDGET:-560}" --raw \
        --policies homing balanced round-robin none || code=$?
    echo "exit status $code" >> "$work/done"
    exit "$code"
fi

seconds=$1 out=${OUT:?a folder for the results}
if [ ! -d "$work" ]; then
    mkdir -p "$work/tree"
    # Whoever calls again may bring a new copy of the checkout; the runs keep theirs.
    tar --exclude ./.git --exclude ./.venv -cf - . | tar -C "$work/tree" -xf -
    (cd "$work/tree" && WORK=$work setsid nohup bench/gpu/campaign.sh in-background > "$work/log" 2>&1 < /dev/null &)
fi
while [ ! -e "$work/done" ] && [ "$SECONDS" -lt "$seconds" ]; do sleep 1; done
mkdir -p "$out"
cp "$work/log" "$out/campaign.log"
for part in roomy overflowing; do
    if [ -d "$work/$part" ]; then
        # A file may grow while it is packed (status 1).
        tar -C "$work" -czf "$out/$part.tar.gz" "$part" || [ $? = 1 ]
    fi
done
tail -n "${LINES_SHOWN:-60}" "$work/log"
if [ -e "$work/done" ]; then echo "all done: $(cat "$work/done")"; else echo "not done yet: call again"; fi
