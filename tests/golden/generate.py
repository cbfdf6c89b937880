#!/usr/bin/env python3
"""Writes the golden data: what PyTorch, transformers, TRL and PEFT compute on tiny models and on SmolLM2.

    generate.py OUT_DIR [--seed 1] [--only PART[,PART…]] [--gguf FILE]

Parts build on those before them and read them from OUT_DIR: tokenizer, models, data, trajectories, preferences,
prompts, policy_gradient, online, data_files, adapters, smollm2.
`--only models/qwen3,trajectories/sft_lora,preferences/kto` redoes single families and trajectories. The part smollm2 needs --gguf, the
file that tests/fetch-smollm2.sh fetches. The same seed on the same machine writes the same bytes.
"""
import argparse
import json
import os
from pathlib import Path

PARTS = (
    "tokenizer", "models", "data", "trajectories", "preferences", "prompts", "policy_gradient", "online",
    "data_files", "adapters", "smollm2",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT_DIR", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of weights, data and adapters (default: 1)")
    parser.add_argument("--only", metavar="PARTS", help="comma-separated parts, or trajectories/NAME")
    parser.add_argument("--gguf", metavar="FILE", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf, for the part smollm2")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (default: 1)")
    args = parser.parse_args()
    args.parts = args.only.split(",") if args.only else [p for p in PARTS if p != "smollm2" or args.gguf]
    unknown = [p for p in args.parts if p.split("/")[0] not in PARTS]
    if unknown:
        parser.error(f"no part named {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    if "smollm2" in args.parts and not args.gguf:
        parser.error("the part smollm2 needs --gguf FILE (tests/fetch-smollm2.sh DIR fetches it)")
    return args


def main() -> None:
    args = arguments()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TQDM_DISABLE"] = "1"

    import peft
    import torch
    import transformers
    import trl

    from generator import (
        adapters, chat_tokenizer, data, data_files, online, policy_gradient, preferences, smollm2, tiny_models, trajectories,
    )  # fmt: skip

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    args.out.mkdir(parents=True, exist_ok=True)

    if "tokenizer" in args.parts:
        chat_tokenizer.write(args.out, args.seed)
    named = [p.split("/")[1] for p in args.parts if p.startswith("models/")]
    if named or "models" in args.parts:
        tiny_models.write(args.out, args.seed, named)
    if "data" in args.parts:
        data.write(args.out, args.seed)
    named = [p.split("/")[1] for p in args.parts if p.startswith("trajectories/")]
    if named or "trajectories" in args.parts:
        trajectories.write(args.out, args.seed, named)
    if "prompts" in args.parts:
        policy_gradient.write_data(args.out, args.seed)
    named = [p.split("/")[1] for p in args.parts if p.startswith("policy_gradient/")]
    if named or "policy_gradient" in args.parts:
        policy_gradient.write(args.out, args.seed, named)
    named = [p.split("/")[1] for p in args.parts if p.startswith("online/")]
    if named or "online" in args.parts:
        online.write(args.out, args.seed, named)
    named = [p.split("/")[1] for p in args.parts if p.startswith("preferences/")]
    if named or "preferences" in args.parts:
        preferences.write(args.out, args.seed, named)
    if "data_files" in args.parts:
        data_files.write(args.out, args.seed)
    named = [p.split("/")[1] for p in args.parts if p.startswith("adapters/")]
    if named or "adapters" in args.parts:
        adapters.write(args.out, args.seed, named)
    if "smollm2" in args.parts:
        smollm2.write(args.out, args.seed, args.gguf)

    versions = {m.__name__: m.__version__ for m in (torch, transformers, trl, peft)}
    (args.out / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
