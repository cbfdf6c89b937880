#!/usr/bin/env python3
"""evaluation/: task files of lm-evaluation-harness on small made-up rows, and what lm-eval 0.4.13 finds on the tiny llama (float32, CPU).

    generator/evaluation.py TESTS_GOLDEN_DIR

Writes the rows and expected.json beside the task files, which are written by hand. Needs lm_eval, transformers, PyTorch.
"""
import json
import os
import random
import sys
from pathlib import Path

TASKS = ["choices", "choices_fewshot", "inputs", "last_word", "rolling", "answers"]


def rows(seed: int) -> dict[str, list[dict]]:
    rng = random.Random(seed)
    animals = ["otter", "falcon", "maple", "lantern", "harbour", "violet", "copper", "meadow"]
    questions = []
    for _ in range(24):
        chosen = rng.sample(animals, rng.choice([2, 3, 4]))
        answer = rng.randrange(len(chosen))
        questions.append({"question": f"Which of these has {len(chosen[answer])} letters?", "choices": chosen, "answer": answer})
    sums = []
    for _ in range(12):
        a, b = rng.randrange(20), rng.randrange(20)
        sums.append({"question": f"What is {a} + {b}?", "answer": str(a + b)})
    texts = [{"text": " ".join(rng.choice(animals) for _ in range(n)) + end} for n, end in [(3, "."), (40, "\n"), (120, " é."), (1, "")]]
    blanks = []
    for _ in range(8):
        a, b = rng.sample(animals, 2)
        blanks.append({"sentence": f"The {a} is near the _.", "option1": a, "option2": b, "answer": str(rng.choice([1, 2])), "rest": "and stays there"})
    return {"questions": questions, "sums": sums, "texts": texts, "blanks": blanks}


def main() -> None:
    golden = Path(sys.argv[1]).resolve()
    out = golden / "evaluation"
    for name, data in rows(7).items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data))
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.chdir(out)
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(out), include_defaults=False)
    expected = {}
    for model in ["llama", "qwen3"]:
        lm = HFLM(pretrained=str(golden / "models" / model), tokenizer=str(golden / "tokenizer"), device="cpu", dtype="float32", batch_size=3)
        found = lm_eval.simple_evaluate(model=lm, tasks=TASKS, task_manager=manager, log_samples=True, bootstrap_iters=100, confirm_run_unsafe_code=False)
        expected[model] = {
            task: {
                "results": {k: v for k, v in found["results"][task].items() if isinstance(v, float) or isinstance(v, int)},
                "samples": [
                    {"arguments": [list(arg.values())[:2] for arg in s["arguments"].values()] if isinstance(s["arguments"], dict) else s["arguments"], "resps": s["resps"], "filtered_resps": s["filtered_resps"], "filter": s["filter"], "doc_id": s["doc_id"]}
                    for s in found["samples"][task]
                ],
            }
            for task in TASKS
        }
    (out / "expected.json").write_text(json.dumps(expected, indent=1, default=str) + "\n")


main()
