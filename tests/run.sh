#!/usr/bin/env bash
# Install what the tests need into the active environment, then run every check.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pip install --quiet -c constraints.txt -e '.[test]'
ruff check .
ruff format --check .
mypy
# One thread for each of the two test processes: more would only stand in line.
OMP_NUM_THREADS=1 python -m pytest -n 2 -q
