#!/usr/bin/env bash
# Set everything up, draw the demo data set and run the whole chain on it. Further flags go to run_all.sh (--list, --force ...).
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

set_up
bash "$repository/scripts/run_all.sh" --dataset demo "$@"
