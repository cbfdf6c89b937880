#!/usr/bin/env python3
"""Loads what lapidary wrote with transformers or PEFT, and compares the logits.

    interop.py DIR EXPECTED.json [--base MODEL_DIR] [--tolerance 1e-4]

DIR is a model in Hugging Face layout, or a PEFT adapter (it has an adapter_config.json), which --base MODEL_DIR goes
under. EXPECTED.json, or a list of such objects:

    {"ids": [1, 2, 3], "logits_last": [0.1, …]}

`ids` are the tokens of one sequence, `logits_last` the V logits after its last token. The optional "text" is what the
directory's tokenizer must turn into those ids, and the optional "messages" are a chat that its template must render
and tokenise into them, the generation prompt included.

Exit status: 0 equal; 1 different (every difference is named on stderr); 2 what was passed cannot be compared.
"""
import argparse
import json
import os
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("expected", metavar="EXPECTED.json", type=Path)
    parser.add_argument("--base", metavar="MODEL_DIR", type=Path, help="the model that an adapter belongs to")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of ‖difference‖ / ‖expected‖ (default: 1e-4)")
    args = parser.parse_args()
    args.is_adapter = (args.directory / "adapter_config.json").is_file()
    if not args.is_adapter and not (args.directory / "config.json").is_file():
        parser.error(f"{args.directory} has neither config.json nor adapter_config.json")
    if args.is_adapter and not args.base:
        parser.error(f"{args.directory} is an adapter: name its model with --base MODEL_DIR")
    return args


def load_model(directory: Path) -> tuple[object, list[str]]:
    """The model, and what is wrong with its weights: a missing tensor would silently be random."""
    import torch
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = [f"{directory}: {kind}: {sorted(map(str, names))}" for kind, names in report.items() if names]
    return model, problems


def load_adapter(directory: Path, base: Path) -> tuple[object, list[str]]:
    import warnings

    from peft import PeftModel

    model, problems = load_model(base)
    with warnings.catch_warnings(record=True) as caught:  # PEFT only warns about tensors that it misses
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(model, directory)
    problems += [f"{directory}: {w.message}" for w in caught if "adapter keys" in str(w.message)]
    return model, problems


def compare_tokens(tokenizer, case: dict) -> list[str]:
    found = {}
    if "text" in case:
        found["text"] = tokenizer(case["text"])["input_ids"]
    if "messages" in case:
        chat = tokenizer.apply_chat_template(case["messages"], add_generation_prompt=True, return_dict=True)
        found["messages"] = chat["input_ids"]
    return [f"{what} gives ids {ids}, expected {case['ids']}" for what, ids in found.items() if ids != case["ids"]]


def compare_logits(model, case: dict, tolerance: float) -> list[str]:
    import torch

    with torch.no_grad():
        found = model(input_ids=torch.tensor([case["ids"]])).logits[0, -1].double()
    expected = torch.tensor(case["logits_last"], dtype=torch.float64)
    if found.shape != expected.shape:
        return [f"{len(found)} logits, expected {len(expected)}"]
    error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    print(f"logits after {len(case['ids'])} tokens: relative error {error:.2e}")
    if error <= tolerance:  # false for NaN too
        return []
    worst = int((found - expected).abs().argmax())
    return [f"logits: relative error {error:.2e}; token {worst}: {found[worst]:.6f}, expected {expected[worst]:.6f}"]


def main() -> int:
    args = arguments()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    cases = json.loads(args.expected.read_text())
    cases = cases if isinstance(cases, list) else [cases]
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        print(f"interop.py needs torch, transformers and peft: {error}", file=sys.stderr)
        return 2

    if args.is_adapter:
        model, problems = load_adapter(args.directory, args.base)
        tokenizer_dir = args.directory if (args.directory / "tokenizer.json").is_file() else args.base
    else:
        model, problems = load_model(args.directory)
        tokenizer_dir = args.directory
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    for case in cases:
        problems += compare_tokens(tokenizer, case)
        problems += compare_logits(model, case, args.tolerance)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
