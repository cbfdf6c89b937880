#!/usr/bin/env python3
"""Recomputes the SFT trajectories in plain PyTorch, without TRL: what their numbers mean, line by line.

    replay.py GOLDEN_DIR [NAME …]

Sequences go through the model one by one, without padding or packing. Prints the largest relative difference to what TRL
recorded, and fails above 1e-5.
"""
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from generator import chat_tokenizer, tiny_models

IGNORED = -100
DEFAULTS = dict(
    gradient_accumulation_steps=1, weight_decay=0.0, warmup_steps=0, max_grad_norm=1.0, loss_type="nll",
    assistant_only_loss=False, packing=False,
)  # fmt: skip


@dataclass
class Sequence:
    """Token ids, and the same again with IGNORED where nothing is learnt."""

    ids: list[int]
    labels: list[int]


def tokenise(row: dict, tokenizer, options: dict) -> Sequence:
    end = tokenizer.eos_token
    if "text" in row:
        ids = tokenizer(row["text"] + end)["input_ids"]
        return Sequence(ids, ids)
    if "prompt" in row:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = tokenizer(row["prompt"] + row["completion"] + end)["input_ids"]
        n = next((i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt))
        return Sequence(ids, [IGNORED] * n + ids[n:])
    chat = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = chat["input_ids"], chat["assistant_masks"]
    if not options["assistant_only_loss"]:
        return Sequence(ids, ids)
    return Sequence(ids, [token if learnt else IGNORED for token, learnt in zip(ids, mask, strict=True)])


def sequences(file: Path, tokenizer, options: dict) -> list[Sequence]:
    """The rows cut at max_length, without those that have nothing left to learn."""
    cut, kept = options["max_length"], []
    for line in file.read_text().splitlines():
        s = tokenise(json.loads(line), tokenizer, options)
        s = Sequence(s.ids[:cut], s.labels[:cut])
        if any(label != IGNORED for label in s.labels):
            kept.append(s)
    return kept


def pack(rows: list[Sequence], capacity: int) -> list[list[Sequence]]:
    """Best fit decreasing: each into the fullest bin that still has room; of equally full ones, the one so full longest."""
    bins_by_room: dict[int, list[list[Sequence]]] = {}
    bins = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):  # equal lengths stay in file order
        room = min((r for r, some in bins_by_room.items() if some and r >= len(row.ids)), default=None)
        if room is None:
            room = capacity
            bins.append([])
            packed = bins[-1]
        else:
            packed = bins_by_room[room].pop(0)
        packed.append(row)
        bins_by_room.setdefault(room - len(row.ids), []).append(packed)
    return bins


def learning_rate(step: int, n_steps: int, options: dict) -> float:
    warmup, peak = options["warmup_steps"], options["learning_rate"]
    if step < warmup:
        return peak * step / warmup
    rest = (step - warmup) / (n_steps - warmup)
    return peak * {"linear": 1 - rest, "cosine": 0.5 * (1 + math.cos(math.pi * rest))}[options["lr_scheduler_type"]]


def score(model, batch: list[Sequence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every learnt token of the batch: log-probability, entropy of its distribution, whether it was the likeliest."""
    scores = []
    for s in batch:
        logp = model(input_ids=torch.tensor([s.ids])).logits[0, :-1].log_softmax(-1)
        targets = torch.tensor(s.labels[1:])
        logp, targets = logp[targets != IGNORED], targets[targets != IGNORED]
        entropy = -(logp.exp() * logp).sum(-1)
        scores.append((logp.gather(1, targets[:, None])[:, 0], entropy, (logp.argmax(-1) == targets).float()))
    return tuple(torch.cat(of_all) for of_all in zip(*scores, strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def train_step(model, optimiser, micro_batches: list[list[Sequence]], options: dict) -> dict[str, float]:
    n_learnt = sum(label != IGNORED for batch in micro_batches for s in batch for label in s.labels[1:])
    loss, entropies, accuracies = 0.0, [], []
    for batch in micro_batches:
        logp, entropy, correct = score(model, batch)
        weight = logp.detach().exp() if options["loss_type"] == "dft" else 1.0
        part = -(weight * logp).sum() / n_learnt  # by all tokens of the step
        part.backward()
        loss += part.item()
        entropies.append(entropy.mean().item())  # by the tokens of the micro-batch
        accuracies.append(correct.mean().item())
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    grad_norm = torch.nn.utils.clip_grad_norm_(parameters, options["max_grad_norm"]).item()
    optimiser.step()
    optimiser.zero_grad()
    return dict(loss=loss, grad_norm=grad_norm, entropy=mean(entropies), mean_token_accuracy=mean(accuracies))


@torch.no_grad()
def evaluate(model, rows: list[Sequence], options: dict) -> dict[str, float]:
    n = options["per_device_eval_batch_size"]
    batches = [rows[i : i + n] for i in range(0, len(rows), n)]
    scores = [score(model, batch) for batch in batches]
    return dict(
        eval_loss=sum(len(b) * -logp.mean().item() for b, (logp, _, _) in zip(batches, scores)) / len(rows),
        eval_entropy=mean([entropy.mean().item() for _, entropy, _ in scores]),
        eval_mean_token_accuracy=mean([correct.mean().item() for _, _, correct in scores]),
    )


class Differences:
    """The largest relative difference seen of each metric."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def add(self, metric: str, found: float, recorded: float) -> None:
        difference = abs(found - recorded) / max(abs(recorded), 1e-3)
        self.largest[metric] = max(difference, self.largest.get(metric, 0.0))


def optimiser_of(model, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW that decays everything but norms and biases."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    spared = [p for name, p in trained if "norm" in name or "bias" in name]
    decayed = [p for name, p in trained if not ("norm" in name or "bias" in name)]
    groups = [dict(params=decayed, weight_decay=weight_decay), dict(params=spared, weight_decay=0.0)]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)


def replay(golden: Path, name: str) -> dict[str, float]:
    record = json.loads((golden / "trajectories" / f"{name}.json").read_text())
    options = DEFAULTS | record["config"]
    model = tiny_models.load(golden, Path(record["model"]).name)
    if "initial_adapter" in record:
        model = PeftModel.from_pretrained(model, golden / record["initial_adapter"], is_trainable=True)
    tokenizer = chat_tokenizer.load(golden)
    rows = sequences(golden / record["dataset"], tokenizer, options)
    rows = pack(rows, options["max_length"]) if options["packing"] else [[row] for row in rows]
    if options["packing"] and [[len(s.ids) for s in row] for row in rows] != record["packed_lengths"]:
        raise SystemExit(f"{name}: packed otherwise")

    n = options["per_device_train_batch_size"]
    micro_batches = [[s for row in rows[i : i + n] for s in row] for i in range(0, len(rows), n)]
    n_micro = options["gradient_accumulation_steps"]
    steps_per_epoch = math.ceil(len(micro_batches) / n_micro)
    n_steps = options["max_steps"] if options["max_steps"] > 0 else steps_per_epoch * options["num_train_epochs"]
    optimiser = optimiser_of(model, options["weight_decay"])
    differences, n_tokens = Differences(), 0
    for step in range(n_steps):
        epoch, in_epoch = divmod(step, steps_per_epoch)
        of_step = micro_batches[in_epoch * n_micro : (in_epoch + 1) * n_micro]  # fewer at the end of an epoch
        rate = learning_rate(step, n_steps, options)
        for group in optimiser.param_groups:
            group["lr"] = rate
        found = train_step(model, optimiser, of_step, options)
        n_tokens += sum(len(s.ids) for batch in of_step for s in batch)
        done = in_epoch * n_micro + len(of_step)
        found |= dict(learning_rate=rate, num_tokens=n_tokens, epoch=epoch + done / len(micro_batches), step=step + 1)
        for metric, recorded in record["steps"].items():
            differences.add(metric, found[metric], recorded[step])
        if "evaluations" in record and step + 1 in record["evaluations"]["step"]:
            at = record["evaluations"]["step"].index(step + 1)
            rows_held_out = sequences(golden / record["eval_dataset"], tokenizer, options)
            for metric, value in evaluate(model, rows_held_out, options).items():
                differences.add(metric, value, record["evaluations"][metric][at])
    norms = {name: p.detach().double().norm().item() for name, p in model.named_parameters() if p.requires_grad}
    for parameter, recorded in record["final_l2"].items():
        differences.add("final_l2", norms[parameter], recorded)
    return differences.largest


def main() -> int:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    golden = Path(sys.argv[1])
    names = sys.argv[2:] or sorted(file.stem for file in (golden / "trajectories").glob("sft_*.json"))
    torch.set_num_threads(1)
    failed = False
    for name in names:
        largest = replay(golden, name)
        failed |= not max(largest.values()) < 1e-5
        print(name, *(f"{metric} {value:.0e}" for metric, value in largest.items()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
