#!/usr/bin/env bash
# Makes .venv with everything edgewright's developers need, and the Debian packages beside it. Run it as often as you
# like: what is there already is left alone. WITH_PACKAGES names further Debian packages, such as chromium for the tests
# that look at pages.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
STAMP=$VENV/.ready
start=$SECONDS

say() { printf '[%3d s] %s\n' $((SECONDS - start)) "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

debian_packages() {
  local missing=() package
  command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
  "$PYTHON" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  for package in ${WITH_PACKAGES:-}; do command -v "$package" >/dev/null || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Debian packages: ${missing[*]}"
    apt-get -qq update
    # On a machine with a service manager Debian would start a broker for the whole machine; ours is a child of the
    # registry. A policy that is already there is the machine's own and is kept.
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then policy=""; else printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; fi
    local log
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
      { cat "$log" >&2 && fail "apt-get could not install ${missing[*]}"; }
    rm -f "$log"
    [ -z "$policy" ] || rm -f "$policy"
  else
    fail "needs Debian packages; run: sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
}

python_packages() {
  local total log=$VENV/setup.log
  total=$(grep -c == constraints.txt)
  [ -x "$VENV/bin/pip" ] || "$PYTHON" -m venv "$VENV"
  say "Python packages: about $total, 3 GB on disk (details in $log)"
  "$VENV/bin/pip" install --disable-pip-version-check --no-input --progress-bar off \
    -c constraints.txt -e '.[all,dev,tensorrt-rtx]' 2>&1 | tee "$log" | show_pip "$total"
}

# What pip is at: one line that changes at a terminal, one in 25 packages elsewhere.
show_pip() { # TOTAL
  local total=$1 count=0 line name
  while IFS= read -r line; do
    read -r _ name _ <<<"$line"
    case $line in
      Collecting\ *) count=$((count + 1)) ;;
      "Installing collected"*) name="installing, a minute or two" ;;
      ERROR*) printf '\n%s\n' "$line" && continue ;;
      *) continue ;;
    esac
    if [ -t 1 ]; then
      printf '\r\033[K  %d/%d  %.70s' "$count" "$total" "$name"
    elif [ $((count % 25)) = 0 ] || [[ $name == installing* ]]; then
      printf '  %d/%d  %.70s\n' "$count" "$total" "$name"
    fi
  done
  [ ! -t 1 ] || printf '\r\033[K'
}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "needs Python 3.11 or newer as '$PYTHON'; run: sudo apt-get install python3 (or set PYTHON=/path/to/python3.11)"
debian_packages
if [ -e "$STAMP" ] && [ "$STAMP" -nt pyproject.toml ] && [ "$STAMP" -nt constraints.txt ]; then
  exit 0
fi
python_packages
touch "$STAMP"
say "ready: $VENV/bin/edgewright --help"
