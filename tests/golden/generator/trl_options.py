"""Every option that TRL's stable trainers have, with its default: what `trl <command> --config FILE` understands."""
import dataclasses
import enum
import json
from pathlib import Path

from trl import (
    DPOConfig, GRPOConfig, KTOConfig, ModelConfig, RewardConfig, RLOOConfig, ScriptArguments, SFTConfig,
)
from trl.scripts.utils import DatasetMixtureConfig

COMMANDS = {
    "sft": SFTConfig, "dpo": DPOConfig, "grpo": GRPOConfig, "rloo": RLOOConfig, "kto": KTOConfig, "reward": RewardConfig,
}


def plain(value):
    """A default as JSON has it."""
    if isinstance(value, enum.Enum):
        return value.value
    return value if isinstance(value, (bool, int, float, str, type(None), list, dict)) else str(value)


def defaults(config):
    """Field by field of a dataclass: what it is where nobody gives it."""
    fields = {}
    for field in dataclasses.fields(config):
        if not field.init:
            continue
        if field.default_factory is not dataclasses.MISSING:
            fields[field.name] = plain(field.default_factory())
        else:
            fields[field.name] = None if field.default is dataclasses.MISSING else plain(field.default)
    return fields


def write(root: Path):
    """tests/golden/trl_options.json: {command: {option: default}}; `script`: those that all of them share."""
    shared = defaults(ScriptArguments) | defaults(DatasetMixtureConfig) | defaults(ModelConfig)
    every = {"script": shared} | {command: defaults(config) for command, config in COMMANDS.items()}
    (root / "trl_options.json").write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[1])
