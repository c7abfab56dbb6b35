#!/usr/bin/env bash
# Everything that is asked of a GPU, in one command that ends by itself: checks that CUDA gives what the CPU gives,
# training rates beside the transformers library, then runs of paper size for the time that is left.
#
#     OUT=results/gpu bash benchmarks/gpu.sh                      # nine minutes on one GPU
#     OUT=/tmp/try QUICK="--device cpu --quick" LIMIT=100 bash benchmarks/gpu.sh    # the same in small, on a CPU
#
# With ROOT=FOLDER the runs are kept there, and the same command continues them.
# Whatever is finished lies in $OUT at every moment: a run that is cut short loses at most the last ten seconds.
set -u
LIMIT=${LIMIT:-530}          # seconds in all
BENCH=${BENCH:-150}          # of these, for checks and rates
OUT=${OUT:?where results go}
PYTHON=${PYTHON:-python3}
QUICK=${QUICK:-}
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here/../src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TORCHINDUCTOR_COMPILE_THREADS=4
mkdir -p "$OUT"
began=$(date +%s)
elapsed() { echo $(($(date +%s) - began)); }
gpu() { # gpu SECONDS PART [OPTIONS]: one part, stopped after so many seconds
    local limit=$1
    shift
    # shellcheck disable=SC2086  # QUICK holds several options
    timeout -k 5 "$limit" "$PYTHON" "$here/gpu.py" "$@" $QUICK --out "$OUT"
}

gpu 60 environment || exit 1
# Rates need the GPU to themselves: contenders get ready beside the checks, and begin once these are done.
rm -f "$OUT/checked" "$OUT/checks.jsonl"
gpu "$BENCH" bench --after "$OUT/checked" --limit "$((BENCH - 10))" >"$OUT/bench.log" 2>&1 &
bench=$!
checks=()
for part in 0 1 2; do
    gpu "$((BENCH * 6 / 10))" checks --part "$part/3" >>"$OUT/checks.log" 2>&1 &
    checks+=($!)
done
wait "${checks[@]}"
touch "$OUT/checked"
echo "$(elapsed) s: checks done"
cat "$OUT/checks.jsonl"
wait $bench
echo "$(elapsed) s: rates done"
tail -n 40 "$OUT/bench.log"
gpu "$((LIMIT - $(elapsed)))" runs --limit "$((LIMIT - $(elapsed) - 8))" ${ROOT:+--root "$ROOT"}
echo "$(elapsed) s: done"
