"""What PEFT makes of each option of LoraConfig: adapters/peft_<case>/ with its files and expected.safetensors.

expected.safetensors: input_ids [10], logits [10, V], loss (mean next-token) and grad.<name> of every tensor that the
adapter trains, under the names of adapter_model.safetensors.
"""
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from . import tiny_models
from .tidy import remove_by_products

ATTENTION = ["q_proj", "v_proj"]
# name: (model, options); rank 4 and alpha 6 where a case says nothing else
CASES = {
    "list": ("llama", dict(target_modules=["q_proj", "mlp.up_proj"])),
    "regex": ("llama", dict(target_modules=r".*layers\.\d\.(self_attn\.[qv]_proj|mlp\.gate_proj)")),
    "exclude": ("llama", dict(target_modules="all-linear", exclude_modules=["k_proj", "layers.1.mlp.up_proj"])),
    "exclude_regex": ("llama", dict(target_modules=ATTENTION, exclude_modules=r".*\.0\..*v_proj")),
    "layers": ("llama", dict(target_modules=ATTENTION, layers_to_transform=[1])),
    "layers_pattern": ("llama", dict(target_modules=ATTENTION, layers_to_transform=0, layers_pattern="layers")),
    "patterns": (
        "llama",
        dict(
            target_modules=["q_proj", "v_proj", "up_proj"],
            rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.up_proj": 6},
            alpha_pattern={"v_proj": 3, "model.layers.0.self_attn.q_proj": 16},
        ),
    ),
    "patterns_rslora": ("llama", dict(target_modules=ATTENTION, rank_pattern={"q_proj": 2}, use_rslora=True)),
    "head": ("llama3", dict(target_modules=["q_proj", "lm_head"])),
    "tied_head": ("llama", dict(target_modules=["q_proj", "lm_head"])),
    "embedding": ("llama3", dict(target_modules=["embed_tokens", "v_proj"])),
    "tied_embedding": ("llama", dict(target_modules=["embed_tokens", "v_proj"])),
    "save_head": ("llama3", dict(target_modules=ATTENTION, modules_to_save=["lm_head"])),
    "save_tied_head": ("llama", dict(target_modules=ATTENTION, modules_to_save=["lm_head"])),
    "save_embedding": ("llama", dict(target_modules=ATTENTION, modules_to_save=["embed_tokens", "norm"])),
    "save_linear": ("qwen2", dict(target_modules=["q_proj"], modules_to_save=["down_proj", "layers.0.self_attn.k_proj"])),
    "bias_all": ("qwen2", dict(target_modules=["q_proj", "up_proj"], bias="all")),
    "bias_lora_only": ("qwen2", dict(target_modules=["q_proj", "up_proj"], bias="lora_only")),
    "lora_bias": ("qwen2", dict(target_modules=["q_proj", "up_proj"], lora_bias=True)),
    "dora": ("llama", dict(target_modules=["q_proj", "up_proj"], use_dora=True)),
    "dora_bias": ("qwen2", dict(target_modules=["q_proj", "down_proj"], use_dora=True, use_rslora=True)),
    "tokens": ("llama3", dict(target_modules=ATTENTION, trainable_token_indices=[9, 40, 7])),
    "tokens_tied": ("llama", dict(target_modules=ATTENTION, trainable_token_indices=[9, 40, 7])),
    "tokens_both": (
        "llama3",
        dict(target_modules=ATTENTION, trainable_token_indices={"embed_tokens": [9, 40], "lm_head": [7, 9, 3]}),
    ),
    "tokens_parted": (
        "llama",
        dict(target_modules=ATTENTION, trainable_token_indices={"embed_tokens": [9, 40], "lm_head": [7, 9, 3]}),
    ),
    "tokens_same": (
        "llama",
        dict(target_modules=ATTENTION, trainable_token_indices={"embed_tokens": [9, 40], "lm_head": [9, 40]}),
    ),
    "tokens_head": ("llama", dict(target_modules=ATTENTION, trainable_token_indices={"lm_head": [40, 9]})),
    "tokens_head_lora": (
        "llama",
        dict(target_modules=["q_proj", "lm_head"], trainable_token_indices=[9, 40, 7], use_rslora=True),
    ),
    "tokens_save_embedding": (
        "llama",
        dict(target_modules=ATTENTION, modules_to_save=["embed_tokens"], trainable_token_indices={"lm_head": [7, 9]}),
    ),
    "tokens_granite": ("granite", dict(target_modules=ATTENTION, trainable_token_indices=[9, 40, 7])),
    "lora_bias_head": ("llama3", dict(target_modules=["q_proj", "lm_head"], lora_bias=True)),
    "lora_bias_tied_head": ("qwen2", dict(target_modules=["q_proj", "lm_head"], lora_bias=True, bias="all")),
    "dora_head": ("llama3", dict(target_modules=["q_proj", "lm_head"], use_dora=True)),
    "dora_tied_head": ("llama", dict(target_modules=["q_proj", "lm_head"], use_dora=True)),
    "dora_embedding": ("llama3", dict(target_modules=["embed_tokens", "v_proj"], use_dora=True)),
    "dora_tied_embedding": ("granite", dict(target_modules=["embed_tokens", "v_proj"], use_dora=True)),
}


def _record(out: Path, seed: int, name: str) -> None:
    base, options = CASES[name]
    directory = out / "adapters" / f"peft_{name}"
    shutil.rmtree(directory, ignore_errors=True)
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", **{**dict(r=4, lora_alpha=6), **options})
    model = get_peft_model(tiny_models.load(out, base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    ids = torch.randint(0, 512, (1, 10))
    ids[0, 2:5] = torch.tensor([40, 9, 7])  # not the padding token, whose row PyTorch keeps from learning
    model.train()
    logits = model(input_ids=ids).logits
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
    loss.backward()
    expected = {"input_ids": ids[0].to(torch.int32), "logits": logits[0].detach(), "loss": loss.detach().reshape(1)}
    # Under the names of the file: PEFT renames what a state dict holds.
    gradients = {n: (p.grad if p.grad is not None else torch.zeros_like(p)) for n, p in model.named_parameters() if p.requires_grad}
    renamed = get_peft_model_state_dict(model, state_dict={**model.state_dict(), **gradients}, save_embedding_layers=False)
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    for key, value in renamed.items():
        if not torch.equal(value, saved[key]):
            expected[f"grad.{key}"] = value.contiguous()
    model.peft_config["default"].base_model_name_or_path = f"models/{base}"
    model.save_pretrained(directory)
    save_file({k: v.contiguous() for k, v in expected.items()}, directory / "expected.safetensors")
    remove_by_products(directory)
    (directory / "README.md").unlink(missing_ok=True)
    print(name, round(loss.item(), 4), len([k for k in expected if k.startswith("grad.")]), flush=True)


def write(out: Path, seed: int, names: list[str]) -> None:
    """Records the named cases, or all."""
    for name in names or CASES:
        _record(out, seed, name)
