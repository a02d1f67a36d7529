#!/usr/bin/env bash
# Makes .venv and installs the pinned requirements. Run it as often as you like: it does nothing where nothing changed.
#
#   ./setup.sh          what train.py, sample.py and compare.py need
#   ./setup.sh --dev    that, and what the tests and checks need
#
# PYTHON=python3.12 ./setup.sh picks another interpreter for a new .venv (3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")"

wanted=requirements.txt
case "${1:-}" in
  "") ;;
  --dev) wanted=requirements-dev.txt ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "setup.sh: unknown option '$1'; use ./setup.sh or ./setup.sh --dev" >&2; exit 2 ;;
esac

python=.venv/bin/python
if ! "$python" -c "" 2>/dev/null; then
  base=${PYTHON:-python3}
  if ! command -v "$base" >/dev/null; then
    echo "setup.sh: no '$base' found; install Python 3.11 or newer, or name one: PYTHON=/path/to/python ./setup.sh" >&2
    exit 2
  fi
  if ! "$base" -c "import sys; sys.exit(sys.version_info < (3, 11))"; then
    echo "setup.sh: '$base' is $("$base" --version), Headcount needs 3.11 or newer; name one: PYTHON=/path/to/python ./setup.sh" >&2
    exit 2
  fi
  if ! "$base" -c "import venv, ensurepip" 2>/dev/null; then
    echo "setup.sh: '$base' cannot make virtual environments; install its venv package (Debian: apt install python3-venv)" >&2
    exit 2
  fi
  "$base" -m venv --clear .venv
fi

# The stamp holds what was installed. A .venv made with --dev satisfies a plain set-up of the same pins too.
fingerprint() { cat "$@" | cksum | tr -d ' '; }
plain=$(fingerprint requirements.txt)
dev=$(fingerprint requirements.txt requirements-extras.txt requirements-dev.txt)
have=$(cat .venv/installed 2>/dev/null || true)
if [ "$wanted" = requirements.txt ] && { [ "$have" = "$plain" ] || [ "$have" = "$dev" ]; }; then exit 0; fi
if [ "$wanted" = requirements-dev.txt ] && [ "$have" = "$dev" ]; then exit 0; fi

echo "setup.sh: installing $wanted into .venv"
"$python" -m pip install --quiet --disable-pip-version-check -r "$wanted"
if [ "$wanted" = requirements.txt ]; then echo "$plain" >.venv/installed; else echo "$dev" >.venv/installed; fi
