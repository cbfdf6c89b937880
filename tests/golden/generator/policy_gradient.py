"""data/prompts.jsonl, data/fixed_completions.json, and the trajectories grpo_* and rloo_*.

The completions and their rewards are fixed ahead, so that no sampler takes part: what is compared is the step.
"""
import json
import random
import tempfile
from pathlib import Path

import datasets
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from . import chat_tokenizer, data, tiny_models
from .text import question_and_answer
from .trajectories import EXECUTION, final_l2

N_PROMPTS = 48
GROUP = 4
MAX_LENGTH = 24
# Options that are written into every trajectory; what is not named there is TRL's default.
COMMON = dict(
    max_steps=8, gradient_checkpointing=False, learning_rate=1e-3, per_device_train_batch_size=8,
    lr_scheduler_type="linear", num_generations=GROUP, max_completion_length=MAX_LENGTH,
    gradient_accumulation_steps=1, shuffle_dataset=False,
)  # fmt: skip
TWICE = dict(num_iterations=2, steps_per_generation=1)
THRICE = dict(num_iterations=3, steps_per_generation=1)

RUNS = {
    "grpo_dapo": dict(),
    "grpo_qwen3": dict(),
    "grpo_scale_batch": dict(scale_rewards="batch"),
    "grpo_scale_none": dict(scale_rewards="none"),
    "grpo_mask_truncated": dict(mask_truncated_completions=True),
    "grpo_top_entropy": dict(top_entropy_quantile=0.5),
    "grpo_kl": dict(beta=0.1, **TWICE),
    "grpo_clip_higher": dict(epsilon=0.2, epsilon_high=0.28, **THRICE),
    "grpo_delta": dict(delta=1.5, **THRICE),
    "grpo_gspo": dict(
        importance_sampling_level="sequence", loss_type="grpo", epsilon=0.02, epsilon_high=0.04, **THRICE
    ),
    **{f"grpo_loss_{t}": dict(loss_type=t, **TWICE) for t in ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo")},
    **{
        f"grpo_loss_{t}": dict(loss_type=t, importance_sampling_level="sequence", **TWICE) for t in ("luspo", "vespo")
    },
    # two micro-batches a step, each half a generation: the mean is over the tokens of both
    "grpo_accumulate": dict(gradient_accumulation_steps=2, per_device_train_batch_size=4),
    "rloo_kl0": dict(beta=0.0),
    "rloo_iterations": dict(normalize_advantages=True, **TWICE),
    "rloo_accumulate": dict(gradient_accumulation_steps=2, per_device_train_batch_size=4),
}


def write_data(out: Path, seed: int) -> None:
    rng = random.Random(f"prompts {seed}")
    tokenizer = chat_tokenizer.load(out)
    rows, seen = [], set()
    while len(rows) < N_PROMPTS:
        question, answer = question_and_answer(rng)
        if question not in seen:
            seen.add(question)
            rows.append(dict(prompt=data.turns((question, answer))[:1], answer=answer))
    data.write_rows(data.path(out, "prompts"), rows)

    def completion(answer: str) -> tuple[list[int], float]:
        text = answer if rng.random() < 0.4 else question_and_answer(rng)[1]
        end = tokenizer.eos_token if rng.random() < 0.8 else ""
        ids = tokenizer(text + end)["input_ids"][:MAX_LENGTH]
        shown = tokenizer.decode(ids)
        return ids, round(sum(c in "aeiou0123456789" for c in shown) / 10 + (1.0 if answer in shown else 0.0), 3)

    fixed = []
    for row in rows:
        ids, rewards = zip(*(completion(row["answer"]) for _ in range(GROUP)), strict=True)
        fixed.append({**row, "completion_ids": ids, "rewards": rewards})
    (out / "data" / "fixed_completions.json").write_text(json.dumps(fixed, indent=1) + "\n")


class Fixed:
    """Completions and rewards of each prompt, one after another."""

    def __init__(self, out: Path, tokenizer) -> None:
        self.tokenizer = tokenizer
        rows = json.loads((out / "data" / "fixed_completions.json").read_text())
        self.of_prompt = {json.dumps(row["prompt"]): row for row in rows}
        self.of_ids = {tuple(self.ids(row["prompt"])): row for row in rows}

    def ids(self, prompt: list[dict]) -> list[int]:
        return self.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]

    def completions(self, rows: list[dict]) -> list[list[int]]:
        """Each row's first completion, its second where it comes again, and so on."""
        taken, found = {}, []
        for row in rows:
            key = json.dumps(row["prompt"])
            found.append(row["completion_ids"][taken.get(key, 0) % GROUP])
            taken[key] = taken.get(key, 0) + 1
        return found

    def reward_fn(self, prompts, completion_ids, **_):
        def reward(prompt, ids):
            row = self.of_prompt[json.dumps(prompt)]
            return row["rewards"][row["completion_ids"].index(list(ids))]

        return [reward(p, ids) for p, ids in zip(prompts, completion_ids, strict=True)]


class FixedGRPO(GRPOTrainer):
    fixed: Fixed

    def _generate_single_turn(self, prompt_ids, *_, **__):
        return self.fixed.completions([self.fixed.of_ids[tuple(ids)] for ids in prompt_ids]), None


class FixedRLOO(RLOOTrainer):
    fixed: Fixed

    def _generate_single_turn(self, prompt_ids, *_, **__):
        return self.fixed.completions([self.fixed.of_ids[tuple(ids)] for ids in prompt_ids])


def metric_lists(log_history: list[dict]) -> dict[str, list]:
    """One list per metric, null where a step did not log it (rewards are logged when completions are drawn)."""
    records = [record for record in log_history if "loss" in record]
    names = sorted(n for n in set().union(*records) if "time" not in n and not n.startswith("sampling/"))
    return {name: [record.get(name) for record in records] for name in names}


def _record(out: Path, seed: int, name: str, changed: dict) -> None:
    kind, model = name.split("_")[0], "qwen3" if name.endswith("qwen3") else "llama"
    trainer_class, config_class = {"grpo": (FixedGRPO, GRPOConfig), "rloo": (FixedRLOO, RLOOConfig)}[kind]
    options = {**COMMON, "seed": seed, **changed}
    tokenizer = chat_tokenizer.load(out)
    fixed = Fixed(out, tokenizer)

    def reward_fn(prompts, completion_ids, **columns):
        return fixed.reward_fn(prompts, completion_ids, **columns)

    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_class(
            model=tiny_models.load(out, model),
            reward_funcs=reward_fn,
            args=config_class(output_dir=scratch, **EXECUTION, **options),
            train_dataset=datasets.Dataset.from_list(data.read(out, "prompts")),
            processing_class=tokenizer,
        )
        trainer.fixed = fixed
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    record = dict(
        trainer=kind, model=f"models/{model}", dataset="data/prompts.jsonl",
        completions="data/fixed_completions.json", config=options,
        steps=metric_lists(trainer.state.log_history), final_l2=final_l2(trainer.model),
    )  # fmt: skip
    (out / "trajectories" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(name, [round(loss, 4) for loss in record["steps"]["loss"]], flush=True)


def write(out: Path, seed: int, names: list[str]) -> None:
    """Records the named runs, or all of them."""
    for name in names or RUNS:
        _record(out, seed, name, RUNS[name])
