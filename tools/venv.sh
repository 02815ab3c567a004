#!/usr/bin/env bash
# Makes .venv with the first Python here that the mesh runs on: 3.11 or 3.12, with its venv module.
# PYTHON=<command> tries that one first.
set -euo pipefail

suits='import sys, ensurepip, ssl, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
for python in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 /usr/bin/python3.12 /usr/bin/python3.11; do
  if "$python" -c "$suits" 2>/dev/null; then
    echo "setup: .venv with $("$python" --version)"
    "$python" -m venv .venv && exit
    rm -rf .venv # half of one would pass for a whole one next time
  fi
done

if command -v uv >/dev/null; then
  echo "setup: .venv with a Python from uv"
  exec uv venv --quiet --seed --python '>=3.11,<3.13' .venv
fi

cat >&2 <<'MESSAGE'
setup: no Python that the mesh runs on was found.
       It needs Python 3.11 or 3.12 with the venv module. On Debian and Ubuntu: apt install python3 python3-venv
       If one is installed elsewhere: make PYTHON=/path/to/python3.12 ...
MESSAGE
exit 1
