#!/usr/bin/env bash
# The affinity benchmark on one GPU, from the root of a checkout, without a network:
#
#   OUT=results bench/gpu/affinity.sh POOL REPEATS BUDGET [more arguments of bench/affinity.py]
#
# Four replicas of SGLang with a model of Qwen3-4B's shape and random weights (made here), each
# with a quarter of the GPU's processors (MPS) and POOL tokens of KV cache. BUDGET: seconds for the
# runs, without unpacking, the model, and starting (two to three minutes the first time, then one).
# Needs .cache/gpu/site.tar.xz (bench/gpu/site.sh), and torch 2.11 with triton in python3.
set -euo pipefail
pool=$1 repeats=$2 budget=$3
shift 3
out=${OUT:-bench/out/affinity-gpu}
site=${SITE:-/tmp/homing-site} model=${MODEL:-/tmp/homing-random-4b}
replicas=${REPLICAS:-4}
mkdir -p "$out"
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
unset PYTHONDONTWRITEBYTECODE

if [ ! -f "$site/.ready" ]; then
    mkdir -p "$site"
    tar -C "$site" --strip-components 1 -xJf .cache/gpu/site.tar.xz
    python3 -m compileall -q -j 0 "$site" > "$out/compile.log" 2>&1 || true
    touch "$site/.ready"
    echo "unpacked after $SECONDS s"
fi
export PYTHONPATH="$PWD/client:$PWD/server:$site"
if [ ! -d "$model" ]; then
    python3 server/homing_server/local/engine_side/make_model.py "$model.part" --shape 4b --device cuda
    mv "$model.part" "$model"
    echo "model after $SECONDS s"
fi

export SGLANG_IS_FLASHINFER_AVAILABLE=false SGLANG_DISABLED_MODEL_ARCHS
SGLANG_DISABLED_MODEL_ARCHS=$(cat "$site/disabled.txt")
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
shared="1/$replicas of it each, by time slices"
if [ "${MPS:-1}" = 1 ]; then
    export CUDA_MPS_PIPE_DIRECTORY=/tmp/homing-mps/pipe CUDA_MPS_LOG_DIRECTORY=/tmp/homing-mps/log
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
    # Or the one of a run before, which waits for its last client to be gone.
    if nvidia-cuda-mps-control -d || echo get_server_list | timeout 10 nvidia-cuda-mps-control; then
        trap 'echo quit | timeout 20 nvidia-cuda-mps-control || true' EXIT
        export CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=$((100 / replicas))
        if timeout 60 python3 -c 'import torch; torch.ones(1, device="cuda").sum().item()'; then
            shared="$CUDA_MPS_ACTIVE_THREAD_PERCENTAGE % of it each, by MPS"
        else
            echo "MPS does not work here: the replicas share the GPU by time slices"
            echo quit | timeout 20 nvidia-cuda-mps-control || true
            trap - EXIT
            unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY CUDA_MPS_ACTIVE_THREAD_PERCENTAGE
        fi
    else
        unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    fi
fi
echo "starting after $SECONDS s"
code=0
python3 bench/affinity.py --engine sglang --device cuda --model "$model" --replicas "$replicas" --out "$out" \
    --max-total-tokens "$pool" --mem-fraction 0.9 --context-length 32768 \
    --engine-args "--max-running-requests 48 --attention-backend triton --sampling-backend pytorch --grammar-backend none --random-seed 1 --cuda-graph-backend-prefill disabled" \
    --conversations 40 --turns 8 --system-tokens 500 --user-tokens 700 --reply-tokens 96 --think 0.2 0.8 --ramp 2 \
    --repeats "$repeats" --budget "$budget" --machine "$gpu, $shared; SGLang 0.5.14; pool $pool tokens" "$@" || code=$?
if [ -d "$out/logs" ]; then tar -C "$out" -czf "$out/logs.tar.gz" logs && rm -rf "$out/logs"; fi
echo "done after $SECONDS s"
exit "$code"
