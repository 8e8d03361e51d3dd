#!/usr/bin/env bash
# Debian's Chromium, and of what it and Playwright need that which this machine lacks, unpacked into a folder: nothing is
# installed.
#   chromium.sh FOLDER [STATUS]   STATUS: what is installed, as dpkg writes it down
set -euo pipefail
FOLDER=$1
STATUS=${2:-/var/lib/dpkg/status}
[ "$FOLDER/.done" -nt "$0" ] && exit
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
mkdir -p "$W"/{lists/partial,cache/archives/partial,debs}
# The machine's own sources, with lists and a cache of their own.
A=(-o Dir::State::lists="$W/lists" -o Dir::State::status="$STATUS" -o Dir::State::extended_states="$W/ext"
  -o Dir::Cache="$W/cache" -o Debug::NoLocking=1 -o APT::Install-Recommends=false -o Acquire::Languages=none
  -o APT::Sandbox::User=root -o Acquire::Retries=3)
apt-get "${A[@]}" -qq update
PACKAGES=$(apt-get "${A[@]}" -s install chromium libatomic1 | awk '/^Inst/{print $2}')
(cd "$W/debs" && apt-get "${A[@]}" -qq download $PACKAGES)
rm -rf "$FOLDER" && mkdir -p "$FOLDER"
for package in "$W"/debs/*.deb; do dpkg-deb -x "$package" "$FOLDER"; done
touch "$FOLDER/.done"
