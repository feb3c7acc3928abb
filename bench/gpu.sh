#!/usr/bin/env bash
# What vidray does on this machine's GPU: versions, the tests that need one, then the figures.
#
#     bench/gpu.sh [OUT] [flags of bench/gpu.py]      # all of it: a quarter of an hour on an H200
#     bench/gpu.sh runs/gpu --parts speed label       # some of it
#
# OUT (runs/gpu if not given) gets gpu.json and the log of each test run. Without a GPU it fails:
# VIDRAY_REQUIRE_GPU=1 turns tests that would be left out into failures. Ray is needed by the last
# part only, which says so where it is missing.
set -u
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
shift || true
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
failed=0
with_ray=$(grep -lE 'mark\.gpu' -r tests/jobs --include='test_*.py')
without_ray=$(grep -lE 'mark\.gpu' -r tests --include='test_*.py' | grep -v '^tests/jobs/')
run_tests() {
    # shellcheck disable=SC2086  # One word a file.
    VIDRAY_REQUIRE_GPU=1 timeout 300 python -m pytest -q -m gpu --durations=3 $2 2>&1 \
        | tee "$out/$1.log" | tail -n 25
    [ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
}
run_tests tests "$without_ray"
python bench/gpu.py --out "$out" "$@" || failed=1
if python -c 'import ray' 2>/dev/null; then
    run_tests tests-of-jobs "$with_ray"
else
    echo "Ray is not installed: the tests of jobs and the part jobs are left out"
fi
exit $failed
