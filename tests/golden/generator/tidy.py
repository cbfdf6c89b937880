"""Removes from what the libraries wrote all that is not data: cards, by-products, paths of the machine."""
import json
from pathlib import Path

BY_PRODUCTS = ("README.md", "generation_config.json", "training_args.bin")


def remove_by_products(directory: Path) -> None:
    for name in BY_PRODUCTS:
        for file in directory.rglob(name):
            file.unlink()


def tidy_adapter(directory: Path, base_model: str) -> None:
    """Names the base model instead of its place, and sorts what PEFT keeps as a set."""
    remove_by_products(directory)
    file = directory / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = base_model
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
