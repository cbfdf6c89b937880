#!/usr/bin/env bash
# Puts the chat templates that TRL ships (Apache-2.0) into a directory: LAPIDARY_TRL of trainers/tests/template_families.rs.
# They come from the PyPI package trl, of which nothing else is unpacked and nothing is installed.
# usage: tests/fetch-templates.sh DIR
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
[ -s "$1/qwen3.jinja" ] && exit 0
mkdir -p "$1"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
python3 -m pip download --quiet --no-deps --dest "$unpacked" trl==1.16.0
python3 - "$unpacked"/trl-1.16.0-*.whl "$1" <<'PYTHON'
import pathlib, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
for name in wheel.namelist():
    if name.startswith("trl/chat_templates/") and name.endswith(".jinja"):
        pathlib.Path(sys.argv[2], pathlib.Path(name).name).write_bytes(wheel.read(name))
PYTHON
