"""Learning rates of every schedule of transformers, step by step: schedules.json."""
import json
from pathlib import Path

import torch
from transformers import get_scheduler

# (name, lr_scheduler_kwargs, learning rate, steps of warm-up, steps in all)
CASES = [
    ("linear", {}, 1e-3, 0, 7),
    ("linear", {}, 2e-5, 3, 20),
    ("linear", {}, 1e-3, 9, 6),
    ("cosine", {}, 1e-3, 2, 9),
    ("cosine", {"num_cycles": 1.5}, 3e-4, 0, 23),
    ("cosine_with_restarts", {}, 1e-3, 2, 9),
    ("cosine_with_restarts", {"num_cycles": 3}, 3e-4, 4, 31),
    ("polynomial", {}, 1e-3, 2, 9),
    ("polynomial", {"lr_end": 1e-5, "power": 2.5}, 3e-4, 0, 23),
    ("constant", {}, 1e-3, 3, 5),
    ("constant", {}, 3e-4, 0, 4),
    ("constant_with_warmup", {}, 1e-3, 3, 6),
    ("constant_with_warmup", {}, 7e-6, 7, 12),
    ("inverse_sqrt", {}, 1e-3, 3, 15),
    ("inverse_sqrt", {}, 1e-3, 0, 9),
    ("inverse_sqrt", {"timescale": 77}, 3e-4, 5, 23),
    ("cosine_with_min_lr", {"min_lr": 1e-5}, 1e-3, 2, 9),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.7}, 3e-4, 0, 23),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-5}, 1e-3, 3, 11),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1, "warmup_lr_rate": 0.03}, 3e-4, 5, 23),
    ("warmup_stable_decay", {"num_decay_steps": 4}, 1e-3, 3, 12),
    ("warmup_stable_decay", {"num_decay_steps": 7, "decay_type": "1-sqrt", "min_lr_ratio": 0.1}, 3e-4, 5, 23),
    (
        "warmup_stable_decay",
        {"num_decay_steps": 7, "num_stable_steps": 4, "warmup_type": "cosine", "decay_type": "linear"},
        3e-4, 5, 19,
    ),
    (
        "warmup_stable_decay",
        {"num_decay_steps": 7, "warmup_type": "1-sqrt", "min_lr_ratio": 0.03, "num_cycles": 0.4},
        3e-4, 5, 19,
    ),
]  # fmt: skip


def rates(name, kwargs, learning_rate, warmup, total):
    """The learning rate of each step, in the fewest digits that give it back."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    schedule = get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=total, scheduler_specific_kwargs=kwargs
    )
    found = []
    for step in range(total):
        found.append(repr(float(optimizer.param_groups[0]["lr"])))
        optimizer.step()
        if step + 1 < total:
            schedule.step()
    return found


def write(out: Path) -> None:
    """One case an entry; numbers that must be exact are texts."""
    cases = [
        {
            "name": name, "kwargs": kwargs, "learning_rate": repr(learning_rate), "warmup": warmup, "total": total,
            "rates": rates(name, kwargs, learning_rate, warmup, total),
        }
        for name, kwargs, learning_rate, warmup, total in CASES
    ]  # fmt: skip
    lines = ",\n".join(json.dumps(case) for case in cases)
    (out / "schedules.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[1])
