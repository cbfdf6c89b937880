"""trajectories/<name>.json: what TRL's SFTTrainer reports step by step, and adapters/ where LoRA runs start and end."""
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import torch
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from . import chat_tokenizer, data, tiny_models
from .packing import check_packing
from .tidy import tidy_adapter

# Options that are written into every trajectory; what is not named there is TRL's default.
COMMON = dict(
    max_steps=8,
    gradient_checkpointing=False,
    train_sampling_strategy="sequential",  # rows in file order
    learning_rate=1e-3,
    per_device_train_batch_size=4,
    lr_scheduler_type="linear",
    max_length=128,
)
# How the run is carried out and watched; no part of what is computed.
EXECUTION = dict(
    use_cpu=True, bf16=False, logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to=[],
    disable_tqdm=True,
)  # fmt: skip
ALL_LINEAR = dict(target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
QUERY_VALUE = dict(target_modules=["q_proj", "v_proj"], lora_dropout=0.0, task_type="CAUSAL_LM")


@dataclass
class Run:
    """One trajectory: the data set, the model, LoRA's options if any, and options that differ from COMMON's."""

    dataset: str
    model: str = "llama"
    lora: dict | None = None
    options: dict = field(default_factory=dict)
    eval_dataset: str | None = None


RUNS = {
    "sft_text": Run("text"),
    "sft_prompt_completion": Run("prompt_completion"),
    "sft_messages": Run("messages"),
    "sft_assistant_only": Run("messages_multi_turn", options=dict(assistant_only_loss=True)),
    "sft_accumulate": Run(
        "messages_multi_turn", options=dict(assistant_only_loss=True, gradient_accumulation_steps=3)
    ),
    "sft_warmup_decay_clip": Run(
        "text", model="qwen2", options=dict(warmup_steps=3, weight_decay=0.1, max_grad_norm=0.5)
    ),
    "sft_cosine": Run("text", options=dict(lr_scheduler_type="cosine", warmup_steps=2)),
    "sft_dft": Run("prompt_completion", options=dict(loss_type="dft")),
    "sft_qwen3": Run("messages", model="qwen3"),
    "sft_granite": Run("messages", model="granite"),
    # rows of two to eight times the window of 16 tokens
    "sft_mistral_long": Run("messages_multi_turn", model="mistral"),
    # prompts that fill max_length: those rows are dropped; most others lose their end, and with it the final EOS
    "sft_truncated": Run("prompt_completion", options=dict(max_length=13)),
    # two epochs of ten batches, the last one of three rows
    "sft_epochs": Run("text", options=dict(max_steps=-1, num_train_epochs=2, per_device_train_batch_size=5)),
    # the same, four micro-batches a step: the third step of an epoch has two, and the last of them three rows
    "sft_epochs_accumulate": Run(
        "text",
        options=dict(
            max_steps=-1, num_train_epochs=2, per_device_train_batch_size=5, gradient_accumulation_steps=4
        ),
    ),
    # ten rows, four at a time, after every fourth step
    "sft_evaluate": Run(
        "text",
        eval_dataset="text_eval",
        options=dict(eval_strategy="steps", eval_steps=4, per_device_eval_batch_size=4),
    ),
    "sft_packing": Run("messages", options=dict(packing=True, max_length=96, per_device_train_batch_size=2)),
    "sft_packing_mistral": Run(
        "messages", model="mistral", options=dict(packing=True, max_length=96, per_device_train_batch_size=2)
    ),
    "sft_lora": Run("messages", lora=dict(r=4, lora_alpha=16, **ALL_LINEAR)),
    "sft_rslora": Run("messages", lora=dict(r=8, lora_alpha=8, use_rslora=True, **QUERY_VALUE)),
}


def add_adapter(model, lora: dict, seed: int, b_scale: float):
    """A LoRA model whose B is not zero, so that the first step already has a gradient in A."""
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(**lora))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(b_scale * torch.randn_like(parameter))
    return model


def save_adapter(model, directory: Path, base_model: str) -> None:
    model.save_pretrained(directory)
    tidy_adapter(directory, base_model)


def metric_lists(log_history: list[dict], of: str = "loss") -> dict[str, list]:
    """The records of TRL's log that have the metric `of`, turned into one list per metric; times are left out."""
    records = [record for record in log_history if of in record]
    names = sorted(n for n in set().union(*records) if not n.endswith(("_runtime", "_per_second")))
    return {name: [record[name] for record in records] for name in names}


def final_l2(model) -> dict[str, float]:
    return {n: float(p.detach().double().norm()) for n, p in model.named_parameters() if p.requires_grad}


def train(model, tokenizer, options: dict, rows: list[dict], eval_rows: list[dict] | None = None) -> SFTTrainer:
    """An SFTTrainer after training."""
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(output_dir=scratch, **EXECUTION, **options),
            train_dataset=datasets.Dataset.from_list(rows),
            eval_dataset=datasets.Dataset.from_list(eval_rows) if eval_rows else None,
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        if options.get("packing"):
            check_packing(trainer)
        trainer.train()
    return trainer


def _record(out: Path, seed: int, name: str, run: Run) -> None:
    base = f"models/{run.model}"
    options = {**COMMON, "seed": seed, **run.options}
    model = tiny_models.load(out, run.model)
    record = dict(trainer="sft", model=base, dataset=f"data/{run.dataset}.jsonl", config=options)
    if run.lora:
        model = add_adapter(model, run.lora, seed, b_scale=0.02)
        save_adapter(model, out / "adapters" / name, base)
        record["initial_adapter"] = f"adapters/{name}"

    eval_rows = None
    if run.eval_dataset:
        eval_rows = data.read(out, run.eval_dataset)
        record["eval_dataset"] = f"data/{run.eval_dataset}.jsonl"

    trainer = train(model, chat_tokenizer.load(out), options, data.read(out, run.dataset), eval_rows)

    record["steps"] = metric_lists(trainer.state.log_history)
    if run.eval_dataset:
        record["evaluations"] = metric_lists(trainer.state.log_history, of="eval_loss")
    record["final_l2"] = final_l2(trainer.model)
    if options.get("packing"):
        record["packed_lengths"] = list(trainer.train_dataset["seq_lengths"])
    if run.lora:
        save_adapter(trainer.model, out / "adapters" / f"{name}-final", base)
    file = out / "trajectories" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(name, [round(loss, 4) for loss in record["steps"]["loss"]], flush=True)


def write(out: Path, seed: int, names: list[str]) -> None:
    """Records the named runs, or all of them."""
    for name in names or RUNS:
        _record(out, seed, name, RUNS[name])
