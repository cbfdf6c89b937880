"""Writes dora/: a DoRA adapter as PEFT saves it, on q_proj and v_proj of the golden llama, moved off its start values.
`python make_dora.py` with torch, transformers and peft. Lapidary reads such adapters (and refuses to compute them)."""
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(HERE.parent / "golden" / "models" / "llama", dtype=torch.float32)
config = LoraConfig(
    r=4, lora_alpha=16, lora_dropout=0.0, use_dora=True, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
)
model = get_peft_model(model, config)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.02)
        elif "magnitude" in name:
            parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
model.peft_config["default"].base_model_name_or_path = "llama"
model.save_pretrained(HERE / "dora")
(HERE / "dora" / "README.md").unlink(missing_ok=True)
