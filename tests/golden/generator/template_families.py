"""Writes trainers/src/text/family_prints.txt: what the chat templates that TRL has training versions of print for the probes of
family_probes.json, as hashes. Run with trl 1.16 and transformers 5.24 installed:

    python tests/golden/generator/template_families.py

A template is of a family when it prints the same, whatever its source. What a template refuses counts as the word "refused".
"""
import datetime
import hashlib
import json
import os
from pathlib import Path

import trl
from transformers.utils import chat_template_utils

TEXT = Path(__file__).resolve().parents[3] / "trainers/src/text"
SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}


class FirstDay(datetime.datetime):
    """Templates that print the date are probed on the first of January 1970."""

    @classmethod
    def now(cls, tz=None):
        return cls(1970, 1, 1)


chat_template_utils.datetime = FirstDay


def fingerprint(template: str) -> str:
    shown = []
    for probe in json.loads((TEXT / "family_probes.json").read_text()):
        try:
            text = chat_template_utils.render_jinja_template(
                [probe["messages"]], tools=probe.get("tools"), chat_template=template,
                add_generation_prompt=probe.get("add_generation_prompt", False), **SPECIAL)[0][0]
        except Exception:
            text = "refused"
        shown.append(text)
    return hashlib.sha256("\0".join(shown).encode()).hexdigest()


def main() -> None:
    folder = Path(os.path.dirname(trl.__file__)) / "chat_templates"
    lines = []
    for trained in sorted(folder.glob("*_training.jinja")):
        name = trained.name.removesuffix("_training.jinja")
        lines.append(f"{fingerprint((folder / f'{name}.jinja').read_text())} {name}")
    (TEXT / "family_prints.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
