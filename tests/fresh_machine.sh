#!/usr/bin/env bash
# What the README promises, on a machine that has what the README names and nothing else: a bare Debian root with
# Python 3.11, make and git, in which a clone of the last commit runs `make demo` and `make test`.
#   tests/fresh_machine.sh [--only demo|test] [--run COMMAND] [--cache] [--again] [FOLDER]
#     FOLDER          where the root is made (15 GB), empty or new; it stays; default: a folder of its own in TMPDIR
#     --only STEP     one of both
#     --run COMMAND   this instead, in the clone, such as 'make lint'
#     --cache         share this machine's download cache of uv: the same packages, sooner
#     --again         go on in FOLDER as it is, with the last commit: to look for a fault, not to prove that there is none
# As root, on Debian, with mmdebstrap; Debian's sources are those of this machine, and the settings of pip and uv go along.
# With COHORTMORPH_DATA, that folder is there as well, read-only. Prints minutes and pytest's counts; fails where anything
# fails, and where a test is skipped for another reason than that there are no real data.
set -euo pipefail
SUITE=bookworm # whose Python is 3.11
PROJECT=$(cd "$(dirname "$0")/.." && pwd)
steps=("make demo" "make test") cache="" again="" folder=""
while [ $# -gt 0 ]; do
  case $1 in
    --only) steps=("make $2"); shift ;;
    --run) steps=("$2"); shift ;;
    --cache) cache=${UV_CACHE_DIR:-$HOME/.cache/uv} ;;
    --again) again=yes ;;
    -*) sed -n 2,14p "$0"; exit 2 ;;
    *) folder=$1 ;;
  esac
  shift
done
folder=$(realpath -m "${folder:-$(mktemp -d)}")
root=$folder/root clone=$folder/root/root/cohortmorph

refuse() { echo "$*" >&2; exit 1; }

# One line a source, for the release that the root gets; a machine's other sources are none of the root's.
sources() {
  apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
    | awk -v suite="$SUITE" '$2 ~ "^" suite && $3 == "main" && !seen[$0]++ { print "deb", $1, $2, $3 }'
}

make_root() {
  [ "$(id -u)" = 0 ] || refuse "Mounting and making a root need root."
  command -v mmdebstrap > /dev/null || refuse "mmdebstrap is missing: apt-get install mmdebstrap"
  [ -z "$(ls -A "$folder" 2> /dev/null)" ] || refuse "$folder is not empty; --again goes on in it."
  local found; found=$(sources)
  [ -n "$found" ] || refuse "No source of $SUITE among this machine's apt sources: is it Debian, and has 'apt-get update' run?"
  local options=() file
  for file in $(grep -lsE '^ *Acquire' /etc/apt/apt.conf /etc/apt/apt.conf.d/*); do options+=("--aptopt=$file"); done
  mkdir -p "$folder"
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,make,git "${options[@]}" "$SUITE" "$root" - <<< "$found"
  # How packages are had here; where they are had elsewhere, none of these files exist.
  local place
  for place in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf /etc/uv; do
    [ ! -e $place ] || { mkdir -p "$root$(dirname $place)" && cp -rL --remove-destination $place "$root$(dirname $place)"; }
  done
  for place in pip uv; do
    [ ! -e "$HOME/.config/$place" ] || { mkdir -p "$root/root/.config" && cp -rL "$HOME/.config/$place" "$root/root/.config"; }
  done
  git clone --quiet --no-hardlinks "$PROJECT" "$clone"
}

# Runs a command in the root, in namespaces of its own: mounts and processes end with it. Not by chroot: in one, the
# kernel forbids the user namespaces in which the tests' HTCondor pool runs.
inside() {
  local settings=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI=true
    UV_LINK_MODE=copy PYTEST_ADDOPTS=-rs) name
  for name in $(compgen -e); do
    [[ ! $name =~ ^(PIP_|UV_INDEX|UV_DEFAULT_INDEX|UV_NATIVE_TLS|SSL_CERT_|REQUESTS_CA_BUNDLE|OPENBLAS_|(.*_)?proxy$|.*_PROXY$) ]] \
      || settings+=("$name=${!name}")
  done
  [ -z "${COHORTMORPH_DATA:-}" ] || settings+=(COHORTMORPH_DATA=/data)
  unshare --mount --pid --fork --kill-child bash -euc '
    root=$1 cache=$2 data=$3; shift 3
    mount --bind "$root" "$root"
    cd "$root"
    mkdir -p .old data root/.cache/uv
    mount -t proc proc proc
    mount --rbind /dev dev
    mount --rbind /sys sys
    cat /etc/resolv.conf > etc/resolv.conf
    cat /etc/hosts > etc/hosts
    [ -z "$cache" ] || mount --bind "$cache" root/.cache/uv
    [ -z "$data" ] || { mount --bind "$data" data; mount -o remount,ro,bind data; }
    pivot_root . .old
    umount -l .old
    cd /root/cohortmorph
    exec env -i "$@"' fresh "$root" "$cache" "${COHORTMORPH_DATA:-}" "${settings[@]}" bash -c "$1"
}

# Says what pytest counted, and what may not be.
judge() {
  local log=$1
  local closing; closing=$(grep -E '^(=+ )?([0-9]+ (passed|failed|skipped|error)|no tests ran).* in [0-9.]+s' "$log" || true)
  echo "$closing"
  [ -n "$closing" ] || { echo "pytest did not come to its end."; return 1; }
  local skipped; skipped=$(grep -E '^SKIPPED ' "$log" || true)
  [ -n "${COHORTMORPH_DATA:-}" ] || skipped=$(grep -v COHORTMORPH_DATA <<< "$skipped" || true)
  [ -z "$skipped" ] || { echo "Skipped on a fresh machine:"; echo "$skipped"; return 1; }
  ! grep -E '(failed|errors?|no tests ran)\b' <<< "$closing"
}

[ -z "$cache" ] || mkdir -p "$cache"
[ -z "$(git -C "$PROJECT" status --porcelain)" ] || echo "Note: what is not committed does not take part."
if [ -n "$again" ]; then
  git -C "$clone" fetch --quiet "$PROJECT" HEAD
  git -C "$clone" reset --quiet --hard FETCH_HEAD
else
  make_root
fi
echo "Commit $(git -C "$clone" rev-parse --short HEAD) in $root"
wrong=0
for step in "${steps[@]}"; do
  log=$folder/$(tr -cs "[:alnum:]\n" - <<< "$step" | cut -c-40).log
  echo "$step …  (says: $log)"
  SECONDS=0 code=0
  inside "$step" > "$log" 2>&1 < /dev/null || code=$?
  echo "$step: $((SECONDS / 60)) min $((SECONDS % 60)) s, exit code $code"
  [ "$code" = 0 ] || { wrong=1; tail -40 "$log"; }
  [[ $step != *test* ]] || judge "$log" || wrong=1
done
exit $wrong
