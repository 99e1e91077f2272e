#!/usr/bin/env bash
# Run Python 3.13 with the arguments given, wherever this machine keeps it.
set -euo pipefail
is_313() { "$@" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1; }

for candidate in "${PYTHON:-}" python3.13 python3 python; do
    if [ -n "$candidate" ] && is_313 "$candidate"; then exec "$candidate" "$@"; fi
done
if command -v uv >/dev/null 2>&1 && found=$(uv python find 3.13 2>/dev/null) && is_313 "$found"; then
    exec "$found" "$@"
fi
echo "marquee: Python 3.13 was not found; install it (pyenv install 3.13, or uv python install 3.13)" \
    "or name it: make PYTHON=/path/to/python3.13" >&2
exit 1
