#!/usr/bin/env bash
# Fill a graphics card for five minutes: how much of the time our loops are arithmetic, and which ways of computing pay there.
#
#   bash scripts/benchmark_gpu.sh [--quick] [--out FILE]
#
# --quick: about a minute, and fewer ways. --out: the table as JSON. Without CUDA the same commands run in a tiny form on
# the CPU, so that they are known to work. No data set is needed. Another Python: PYTHON=/path/to/python.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
quick=""
out=()
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) quick=yes ;;
        --out) out=(--out "${2:?--out needs a FILE}"); shift ;;
        --help | -h) sed -n '2,7p' "$0" | cut -c3-; exit 0 ;;
        *) echo "benchmark_gpu.sh: $1 is none of --quick, --out FILE" >&2; exit 2 ;;
    esac
    shift
done
export PYTHONPATH="scripts${PYTHONPATH:+:$PYTHONPATH}"
if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "no CUDA device: a tiny form on the CPU"
    size=(--device cpu --image-size 64 --slices 64 --shown 32 --batch-size 8 --repeats 1 --backbones resnet18 --ways bf16)
elif [ -n "$quick" ]; then
    size=(--device cuda --slices 1024 --shown 768 --repeats 3 --seconds 40 --ways batch-x8 compile)
else
    size=(--device cuda --shown 1024 --repeats 5 --seconds 240 --ways batch-x8 contiguous fp32 compile compile-graphs)
fi
exec "$PYTHON" scripts/benchmark_throughput.py "${size[@]}" "${out[@]}"
