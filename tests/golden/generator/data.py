"""data/*.jsonl: one data set in each of TRL's formats for supervised fine-tuning."""
import json
import random
from pathlib import Path

from .text import SYSTEM_PROMPTS, question_and_answer

N_ROWS = 48
N_EVAL_ROWS = 10


def path(out: Path, name: str) -> Path:
    return out / "data" / f"{name}.jsonl"


def read(out: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in path(out, name).read_text().splitlines()]


def write_rows(file: Path, rows: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def turns(*pairs: tuple[str, str]) -> list[dict]:
    return [
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def write(out: Path, seed: int) -> None:
    rng = random.Random(f"data {seed}")

    def pair() -> tuple[str, str]:
        return question_and_answer(rng)

    def system() -> list[dict]:  # in a third of the rows
        return [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}] if rng.random() < 1 / 3 else []

    sets = {
        "text": [{"text": "\n".join(pair())} for _ in range(N_ROWS)],
        "prompt_completion": [{"prompt": q + "\n", "completion": a} for q, a in (pair() for _ in range(N_ROWS))],
        "messages": [{"messages": system() + turns(pair())} for _ in range(N_ROWS)],
        "messages_multi_turn": [
            {"messages": system() + turns(*(pair() for _ in range(rng.randint(1, 3))))} for _ in range(N_ROWS)
        ],
        "text_eval": [{"text": "\n".join(pair())} for _ in range(N_EVAL_ROWS)],
    }
    for name, rows in sets.items():
        write_rows(path(out, name), rows)
    print("data", ", ".join(sets), flush=True)
