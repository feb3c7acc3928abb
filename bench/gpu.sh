#!/usr/bin/env bash
# What vidray does on this machine's GPU, in under eight minutes and without network.
#
#     bench/gpu.sh [OUT] [WHEELS] [flags of bench/gpu.py]
#     bench/gpu.sh runs/gpu wheels/
#     bench/gpu.sh runs/gpu "" --parts train tests     # nothing to unpack
#
# WHEELS is a folder of wheels for the packages that the machine lacks (docs/gpu.md names them);
# a wheel whose large files were taken out is fine. OUT (runs/gpu if not given) gets gpu.json,
# gpu.md and gpu.log. The same command again goes on with what is missing.
# Without a GPU it fails.
set -u
began=$EPOCHSECONDS
cd "$(dirname "$0")/.." || exit 1
out=${1:-runs/gpu}
wheels=${2:-}
shift $(($# < 2 ? $# : 2))
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# GPU 0 is then the same one for PyTorch and for nvidia-smi.
export CUDA_DEVICE_ORDER=PCI_BUS_ID

unpack() {
    # pip keeps what is executable so: Ray's servers are.
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    export PYTHONPATH="$PYTHONPATH:$site" PATH="$site/bin:$PATH"
    for wheel in "$wheels"/*.whl; do
        python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
            --disable-pip-version-check --upgrade --target "$site" "$wheel" ||
            echo "$wheel cannot be unpacked: what needs it is left out"
    done
}

if [ -n "$wheels" ]; then
    [ -d "$wheels" ] || { echo "error: no folder $wheels" >&2; exit 2; }
    unpack
fi
{
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    python3 bench/gpu.py --out "$out" --began "$began" "$@"
} 2>&1 | tee -a "$out/gpu.log"
exit "${PIPESTATUS[0]}"
