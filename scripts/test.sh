#!/usr/bin/env bash
# Set everything up, then run the tests: style, the floors of the house (pyproject.toml), the whole chain on a tiny
# phantom among them; no network is used after the installation. Further flags go to pytest: -k train; -m "not slow" runs
# also the tests that take some seconds each, see tests/long_tests.py.
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

set_up
export HF_HUB_OFFLINE=1 YOLO_OFFLINE=1 YOLO_AUTOINSTALL=0
export OMP_NUM_THREADS=1 # two workers side by side: more threads than cores make both slower
cd -- "$repository"
# the chain, the longest file by far, begins: last it would leave one worker idle
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/steps/test_chain.py tests "$@"
