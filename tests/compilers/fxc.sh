#!/usr/bin/env bash
# FXC, under Wine, on every NAME.51.hlsl of a directory, each within a minute: a line for each as tests/compilers.rs reads them.
# usage: tests/compilers/fxc.sh COMPILERS DIR [PATTERN]
set -euo pipefail
compilers=$(cd "$1" && pwd)
cd "$2"
export WINEPREFIX=$PWD/wine WINEDEBUG=-all
trap '"$compilers/fxc/usr/lib/wine/wineserver" --kill || true' EXIT
# The first start makes Wine's directory, which takes longer than a kernel.
"$compilers/fxc/usr/lib/wine/wine64" "$compilers/fxc/host.exe" >/dev/null 2>&1 || true
for file in ${3:-*.51.hlsl}; do
  name=${file%.51.hlsl}
  printf 'START\t%s\n' "$name"
  code=0
  said=$(timeout 60 "$compilers/fxc/usr/lib/wine/wine64" "$compilers/fxc/host.exe" \
    "Z:${compilers//\//\\}\\dawn\\dist\\win32-x64\\d3dcompiler_47.dll" "$file" 2>/dev/null) || code=$?
  case $code in
    0) printf 'KERNEL\t%s\t\n' "$name" ;;
    124) printf 'FAILED\t%s\tnot within a minute\n' "$name" ;;
    *) printf 'FAILED\t%s\t%s %s\n' "$name" "$code" "$(tr '\r\n\t' '   ' <<<"$said" | cut -c -400)" ;;
  esac
done
