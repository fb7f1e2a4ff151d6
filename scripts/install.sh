#!/usr/bin/env bash
# install.sh PYTHON ARGUMENTS...: `pip install ARGUMENTS` at the versions of constraints.txt, by uv where it works, else by pip.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
if "$python" -m pip --disable-pip-version-check --quiet install -c constraints.txt uv \
    && "$python" -m uv pip install --python "$python" --quiet -c constraints.txt "$@"; then
  exit 0
fi
echo "uv could not install $*; trying pip" >&2
exec "$python" -m pip --disable-pip-version-check --quiet install -c constraints.txt "$@"
