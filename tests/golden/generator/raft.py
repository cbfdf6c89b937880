"""trajectories/raft*.json: reward-ranked fine-tuning in plain PyTorch, from data/fixed_completions.json.

H. Dong et al., "RAFT: reward ranked finetuning for generative foundation model alignment", 2023 (arXiv 2304.06767),
algorithm 1: of the completions of each prompt the one with the highest reward (the first of equals) is learnt as in
supervised fine-tuning, a mean over the tokens of the step. TRL has no such trainer; nothing of it is used here.
Each sequence goes through the model alone, so there is no padding and no mask.
"""
import json
from pathlib import Path

import torch

from . import chat_tokenizer, tiny_models
from .trajectories import final_l2

COMMON = dict(
    max_steps=8, gradient_checkpointing=False, learning_rate=1e-3, per_device_train_batch_size=8,
    lr_scheduler_type="linear", num_generations=4, max_completion_length=24, gradient_accumulation_steps=1,
    shuffle_dataset=False,
)  # fmt: skip
RUNS = {
    "raft": ("llama", dict()),
    "raft_qwen3": ("qwen3", dict()),
    # two micro-batches a step: the mean is over the tokens of both
    "raft_accumulate": ("llama", dict(gradient_accumulation_steps=2)),
}


def _log_probabilities(model, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """log π of each token of a completion: [T]."""
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]


def _record(out: Path, seed: int, name: str) -> None:
    model_name, changed = RUNS[name]
    options = {**COMMON, "seed": seed, **changed}
    tokenizer = chat_tokenizer.load(out)
    rows = json.loads((out / "data" / "fixed_completions.json").read_text())
    model = tiny_models.load(out, model_name).train()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([p for _, p in named], lr=options["learning_rate"], weight_decay=0.0)
    group, n_steps = options["num_generations"], options["max_steps"]
    n_completions = options["per_device_train_batch_size"] * options["gradient_accumulation_steps"]
    n_prompts = n_completions // group
    steps = {"loss": [], "grad_norm": [], "learning_rate": [], "reward": [], "reward_std": []}
    at = 0
    for step in range(n_steps):
        if at + n_prompts > len(rows):  # the next epoch
            at = 0
        drawn, at = rows[at : at + n_prompts], at + n_prompts
        kept = []
        for row in drawn:
            best = max(range(group), key=lambda i: (row["rewards"][i], -i))
            prompt = tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=True
            )["input_ids"]
            kept.append((prompt, row["completion_ids"][best]))
        rate = options["learning_rate"] * (n_steps - step) / n_steps
        optimizer.zero_grad()
        n_tokens = sum(len(completion) for _, completion in kept)
        loss = -sum(_log_probabilities(model, *pair).sum() for pair in kept) / n_tokens
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        optimizer.step()
        rewards = torch.tensor([r for row in drawn for r in row["rewards"]], dtype=torch.float64)
        for metric, value in (
            ("loss", loss.item()), ("grad_norm", norm.item()), ("learning_rate", rate),
            ("reward", rewards.mean().item()), ("reward_std", rewards.std().item()),
        ):  # fmt: skip
            steps[metric].append(value)
    record = dict(
        trainer="raft", model=f"models/{model_name}", dataset="data/prompts.jsonl",
        completions="data/fixed_completions.json", config=options, steps=steps, final_l2=final_l2(model),
    )  # fmt: skip
    (out / "trajectories" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(name, [round(loss, 4) for loss in steps["loss"]], flush=True)


def write(out: Path, seed: int, names: list[str]) -> None:
    """Records the named runs, or all of them."""
    (out / "trajectories").mkdir(exist_ok=True)
    for name in names or RUNS:
        _record(out, seed, name)
