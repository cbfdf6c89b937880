"""data/fixed_pairs.json and the trajectories online_dpo_*.

As in policy_gradient.py the completions and their rewards are fixed ahead: two a prompt, one of them better.
"""
import json
import tempfile
from pathlib import Path

import datasets
import torch
from transformers import PrinterCallback
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from . import chat_tokenizer, data, tiny_models
from .policy_gradient import MAX_LENGTH, metric_lists
from .trajectories import EXECUTION, final_l2

COMMON = dict(
    max_steps=8, gradient_checkpointing=False, learning_rate=1e-3, per_device_train_batch_size=4,
    lr_scheduler_type="linear", max_new_tokens=MAX_LENGTH, gradient_accumulation_steps=1,
    train_sampling_strategy="sequential",
)  # fmt: skip

RUNS = {
    "online_dpo_sigmoid": dict(),
    "online_dpo_ipo": dict(loss_type="ipo"),
    "online_dpo_beta": dict(beta=0.5, missing_eos_penalty=1.0),
    "online_dpo_accumulate": dict(gradient_accumulation_steps=2, per_device_train_batch_size=2),
    "online_dpo_qwen3": dict(),
}


def tie(one: tuple, other: tuple) -> bool:
    """Equal rewards, before or after the penalty of 1 for a missing EOS (token 2): TRL then takes the first, lapidary neither."""
    (ids, r), (other_ids, other_r) = one, other
    return r == other_r or abs((r - (ids[-1] != 2)) - (other_r - (other_ids[-1] != 2))) < 1e-6


def write_data(out: Path) -> None:
    rows = json.loads((out / "data" / "fixed_completions.json").read_text())
    pairs = []
    for row in rows:
        both = list(zip(row["completion_ids"], row["rewards"], strict=True))
        other = next((both[i] for i in range(1, len(both)) if not tie(both[0], both[i])), ([*both[0][0], *both[0][0]], both[0][1] - 0.5))
        ids, rewards = zip(both[0], other, strict=True)
        pairs.append({**row, "completion_ids": ids, "rewards": rewards})
    (out / "data" / "fixed_pairs.json").write_text(json.dumps(pairs, indent=1) + "\n")


class FixedOnlineDPO(OnlineDPOTrainer):
    pairs: dict

    def _generate(self, model, prompts, images=None):
        tokenizer = self.processing_class
        rows = [self.pairs[json.dumps(prompt)] for prompt in prompts]
        prompt_ids = [
            tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
            for p in prompts
        ]
        completions = [row["completion_ids"][k] for k in range(2) for row in rows]
        left, right = max(map(len, prompt_ids)), max(map(len, completions))
        pad = tokenizer.pad_token_id
        prompts_padded = [[pad] * (left - len(ids)) + ids for ids in prompt_ids] * 2
        prompt_mask = [[0] * (left - len(ids)) + [1] * len(ids) for ids in prompt_ids] * 2
        completions_padded = [ids + [pad] * (right - len(ids)) for ids in completions]
        mask = [[1] * len(ids) + [0] * (right - len(ids)) for ids in completions]
        return *(torch.tensor(x) for x in (prompts_padded, prompt_mask, completions_padded, mask)), None


def _record(out: Path, seed: int, name: str, changed: dict) -> None:
    model = "qwen3" if name.endswith("qwen3") else "llama"
    options = {**COMMON, "seed": seed, **changed}
    tokenizer = chat_tokenizer.load(out)
    pairs = {json.dumps(row["prompt"]): row for row in json.loads((out / "data" / "fixed_pairs.json").read_text())}

    def reward_fn(prompts, completion_ids, **_):
        def reward(prompt, ids):
            row = pairs[json.dumps(prompt)]
            fits = [list(ids[: len(known)]) == known for known in row["completion_ids"]]
            longest = max((len(k), i) for i, k in enumerate(row["completion_ids"]) if fits[i])[1]
            return row["rewards"][longest]

        return [reward(p, ids) for p, ids in zip(prompts, completion_ids, strict=True)]

    with tempfile.TemporaryDirectory() as scratch:
        trainer = FixedOnlineDPO(
            model=tiny_models.load(out, model),
            ref_model=tiny_models.load(out, model),
            reward_funcs=reward_fn,
            args=OnlineDPOConfig(output_dir=scratch, **EXECUTION, **options),
            train_dataset=datasets.Dataset.from_list(data.read(out, "prompts")),
            processing_class=tokenizer,
        )
        trainer.pairs = pairs
        trainer.remove_callback(PrinterCallback)
        # The trainer rounds the loss that it logs to four places.
        losses, training_step = [], trainer.training_step

        def recorded(*args, **kwargs):
            loss = training_step(*args, **kwargs)
            losses.append(loss.item())
            return loss

        trainer.training_step = recorded
        trainer.train()
    n = options["gradient_accumulation_steps"]
    steps = metric_lists(trainer.state.log_history)
    steps["loss"] = [sum(losses[i : i + n]) for i in range(0, len(losses), n)]
    record = dict(
        trainer="online-dpo", model=f"models/{model}", dataset="data/prompts.jsonl",
        completions="data/fixed_pairs.json", config=options, steps=steps, final_l2=final_l2(trainer.model),
    )  # fmt: skip
    (out / "trajectories" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(name, [round(loss, 4) for loss in record["steps"]["loss"]], flush=True)


def write(out: Path, seed: int, names: list[str]) -> None:
    """Records the named runs, or all of them."""
    write_data(out)
    for name in names or RUNS:
        _record(out, seed, name, RUNS[name])
