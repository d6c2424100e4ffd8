#!/usr/bin/env bash
# Packs what a GPU machine without a network needs beside its own PyTorch to run SGLang 0.5.14:
# about 45 MB, .cache/gpu/site.tar.xz. No GPU needed here; Python 3.12, 3 GB of disk, 650 MB to download.
#
#   PYTHON=python3.12 bench/gpu/site.sh
#
# 0.5.14 because it runs on the torch 2.11 and CUDA 13 of such images. Left out of its kernels:
# FlashAttention (1.7 GB), which --attention-backend triton does not use, and other GPUs' builds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$(cd "$here/../.." && pwd)/.cache/gpu}
python=${PYTHON:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wheels=${WHEELS:-$work/wheels}
if [ ! -d "$wheels" ]; then
    "$python" -m pip download -q --no-deps --only-binary :all: -d "$wheels" sglang==0.5.14 sglang-kernel==0.4.4
fi
mkdir -p "$work/site" "$out"
"$python" -m pip install -q --no-deps --no-compile --only-binary :all: --target "$work/site" -r "$here/requirements.txt"
unzip -q "$wheels"/sglang-0.5.14-*.whl -x 'sglang/multimodal_gen/test/*' 'sglang/test/*' -d "$work/site"
unzip -q "$wheels"/sglang_kernel-0.4.4-*.whl -d "$work/site" \
    -x 'sgl_kernel/flash_ops.abi3.so' 'sgl_kernel/flashmla_ops.abi3.so' 'sgl_kernel/sm100/*' 'triton_kernels/*'
cp -r "$here/flashinfer" "$work/site/"
rm -rf "$work/site/bin" "$work/site/share"
# SGLang imports every model file at the start: all but those that are served are switched off.
ls "$work/site/sglang/srt/models" | sed -n 's/\.py$//p' | grep -vxE 'qwen2|qwen3|llama|utils|__init__' | paste -sd, > "$work/site/disabled.txt"
find "$work/site" -name __pycache__ -type d -prune -exec rm -rf {} +
tar -C "$work" -cf - site | xz -T2 -1 > "$out/site.tar.xz.part"
mv "$out/site.tar.xz.part" "$out/site.tar.xz"
ls -l "$out/site.tar.xz"
