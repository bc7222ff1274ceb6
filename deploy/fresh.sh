#!/usr/bin/env bash
# Proves the two promises of the README on an empty Debian 12: clones the last commit into a root file system that has
# Python, make and git and nothing else, and runs `make demo` and `make test` there. Needs root and mmdebstrap.
#
#   deploy/fresh.sh [TARGET…]         what to make; default: demo test
#
# FRESH_BIND names paths of this machine to show inside, read-only, such as a folder of Python packages that pip's
# settings point to. pip's settings in the environment (PIP_*) and in /etc/pip.conf are carried over.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$(mktemp -d)
mounts=()
cleanup() {
  for path in $(printf '%s\n' "${mounts[@]}" | tac); do umount "$path"; done
  rm -rf --one-file-system "$root"
}
trap cleanup EXIT

mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include=python3,make,git,ca-certificates bookworm "$root"
show() { # SOURCE [read-only]
  mkdir -p "$root$1"
  mount --bind "$1" "$root$1" && mounts+=("$root$1")
  [ "${2:-}" != ro ] || mount -o remount,bind,ro "$root$1"
}
mount -t proc proc "$root/proc" && mounts+=("$root/proc")
show /dev
mount -t tmpfs tmpfs "$root/dev/shm" 2>/dev/null && mounts+=("$root/dev/shm")
show /sys ro
for path in ${FRESH_BIND:-}; do show "$path" ro; done
cp /etc/resolv.conf /etc/hosts "$root/etc/"
for path in /etc/pip.conf "$HOME/.config/pip/pip.conf"; do
  [ ! -e "$path" ] || install -D "$path" "$root${path/#$HOME//root}"
done
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
git clone --quiet . "$root/edgewright"

carried=(HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}" LANG=C.UTF-8)
while IFS= read -r variable; do carried+=("$variable"); done < <(env | grep '^PIP_' || true)
for target in "${@:-demo test}"; do
  for name in $target; do
    echo "== make $name, on an empty Debian 12"
    start=$SECONDS
    chroot "$root" env -i "${carried[@]}" make -C /edgewright "$name"
    echo "== make $name: $((SECONDS - start)) s"
  done
done
