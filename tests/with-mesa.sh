#!/usr/bin/env bash
# Runs a program on the Mesa of Debian's unstable suite, whose software Vulkan has cooperative matrices (8 x 8), on an older
# Debian: the driver and every library that it needs are unpacked below DIR, nothing is installed, and the program is started
# by the dynamic loader that came with them. Packages come from the mirror that apt is set up with, checked by apt.
# usage: tests/with-mesa.sh DIR [PROGRAM [ARGUMENT…]]
#   DIR is filled once (40 MB to fetch, 330 MB on disk) and then used again; without a PROGRAM it is only filled.
# For cargo's tests: cargo test --config "target.'cfg(unix)'.runner = ['$PWD/tests/with-mesa.sh', '$PWD/target/mesa']" …
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 DIR [PROGRAM [ARGUMENT…]]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

fail() { echo "$0: $*" >&2; exit 1; }

# What apt knows of unstable, beside and not in what it knows of this machine.
unstable() {
  apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/none" -o Dir::Etc::Preferences=/dev/null \
    -o Dir::Etc::PreferencesParts="$work/none" -o Dir::State="$work/state" -o Dir::State::Status="$work/status" \
    -o Dir::Cache="$work/cache" -o Dir::Cache::Archives="$work/archives" -o APT::Sandbox::User= -o APT::Get::List-Cleanup=0 \
    -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

fill() {
  { command -v apt-get && command -v dpkg-deb; } >/dev/null || fail "apt-get and dpkg-deb are needed to get Mesa from Debian's unstable suite"
  find_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' |
      awk 'NR == 1'
  }
  mirror=$(find_mirror)
  if [ -z "$mirror" ] && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    mirror=$(find_mirror)
  fi
  [ -n "$mirror" ] || fail "apt has no list of a Debian mirror's packages: is this Debian, and was apt-get update run?"
  work=$(mktemp -d "$dir/part.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{none,state/lists/partial,cache,archives/partial,root}
  : >"$work/status"
  echo "deb $mirror sid main" >"$work/sources.list"
  unstable update -o APT::Update::Error-Mode=any || fail "apt cannot read Debian's unstable suite (sid) from the mirror that this machine's apt is set up with"
  unstable install --yes --download-only --no-install-recommends mesa-vulkan-drivers libvulkan1 libgcc-s1 mesa-drm-shim libdrm-dev >"$work/log" ||
    { cat "$work/log" >&2; fail "apt cannot get mesa-vulkan-drivers of Debian's unstable suite"; }
  for package in "$work"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/root" --no-same-owner
  done
  # The description of the driver names the library where it would be installed.
  local icd=("$work"/root/usr/share/vulkan/icd.d/lvp_icd*.json)
  sed 's|"library_path": *".*/|"library_path": "|' "${icd[0]}" >"$work/root/lvp_icd.json"
  for package in "$work"/archives/mesa-vulkan-drivers_*.deb; do
    dpkg-deb --field "$package" Version >"$work/root/mesa-version"
  done
  rm -rf "$dir/root"
  mv "$work/root" "$dir/root"
}

[ -s "$dir/root/mesa-version" ] || fill
[ $# -ge 1 ] || { echo "Mesa $(cat "$dir/root/mesa-version") is in $dir"; exit 0; }

program=$(command -v -- "$1") || fail "no program $1"
shift
libraries=$(echo "$dir"/root/usr/lib/*-linux-gnu)
loader=$(ls "$dir"/root/usr/lib*/ld-linux-*.so.* "$libraries"/ld-linux-*.so.* 2>/dev/null | head -n 1)
[ -n "$loader" ] || fail "no dynamic loader below $dir/root"
export VK_DRIVER_FILES="$dir/root/lvp_icd.json"
exec "$loader" --inhibit-cache --library-path "$libraries" "$program" "$@"
