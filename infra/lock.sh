#!/usr/bin/env bash
# Resolve every requirements file anew, hash-pinned and without addresses. Usage: infra/lock.sh UV
set -euo pipefail
uv=$1
cd "$(dirname "$0")/.."
compile() {
    "$uv" pip compile --quiet --python-version 3.13 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@"
}
compile infra/bootstrap.in -o infra/bootstrap.txt
compile pyproject.toml --group dev -o requirements.txt
compile infra/emulator/requirements.in --exclude-newer 2026-03-05 -o infra/emulator/requirements.txt
compile infra/emulator/runtime.in -o infra/emulator/runtime.txt
# The server needs neither models' libraries nor plots nor containers; they are half of its weight.
unneeded=(scikit-learn scipy joblib threadpoolctl skops prettytable wcwidth docker gunicorn narwhals
    matplotlib contourpy cycler fonttools kiwisolver pillow pyparsing)
compile infra/mlflow/requirements.in "${unneeded[@]/#/--no-emit-package=}" -o infra/mlflow/requirements.txt
compile tests/benchmarks/requirements.in -o tests/benchmarks/requirements.txt
compile infra/spark/requirements.in -o infra/spark/requirements.txt
compile infra/spark/executors.in -c infra/spark/requirements.txt -o infra/spark/executors.txt
for folder in layers/*/; do
    [ -f "$folder/requirements.in" ] || continue
    compile "$folder/requirements.in" --python-platform x86_64-manylinux_2_28 -o "$folder/requirements.txt"
done
