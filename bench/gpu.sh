#!/bin/sh
# Every question to a GPU in one run of eight minutes: bench/gpu.sh --output FOLDER (see --help).
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m bench.gpu_questions "$@"
