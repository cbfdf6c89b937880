"""models/<family>/: two-layer models with random weights, their logits, loss and every gradient."""
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GraniteConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from . import chat_tokenizer
from .tidy import remove_by_products

# Sizes are no multiples of what kernels like (48 is not 64, 104 is not 128), and head sizes differ from family to family.
SIZES = dict(
    vocab_size=chat_tokenizer.N_ENTRIES,
    hidden_size=48,
    intermediate_size=104,
    num_hidden_layers=2,
    max_position_embeddings=256,
    bos_token_id=0,
    eos_token_id=2,
    pad_token_id=3,
    initializer_range=0.12,
)
LLAMA3_ROPE = dict(
    rope_type="llama3",
    rope_theta=100000.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
FAMILIES = {
    # tied embeddings, groups of two heads
    "llama": LlamaConfig(
        **SIZES, num_attention_heads=6, num_key_value_heads=3, tie_word_embeddings=True,
        rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
    ),
    # scaled rotary embedding, one key/value head, output layer of its own
    "llama3": LlamaConfig(
        **SIZES, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False,
        rms_norm_eps=1e-6, rope_parameters=LLAMA3_ROPE,
    ),
    # window of 16 tokens; heads × head size is not the hidden size
    "mistral": MistralConfig(
        **SIZES, num_attention_heads=8, num_key_value_heads=2, head_dim=16, sliding_window=16, tie_word_embeddings=False,
    ),
    # biases on q, k, v; groups of three heads
    "qwen2": Qwen2Config(**SIZES, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True),
    # RMSNorm on q and k
    "qwen3": Qwen3Config(**SIZES, num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True),
    # factors on embeddings, attention, residuals and logits; a bias in every linear layer
    "granite": GraniteConfig(
        **SIZES, num_attention_heads=6, num_key_value_heads=3, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
        embedding_multiplier=3.0, attention_multiplier=0.21, residual_multiplier=0.6, logits_scaling=1.75,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0),
    ),
}  # fmt: skip
ROW_LENGTHS = (40, 17, 3)


def directory(out: Path, family: str) -> Path:
    return out / "models" / family


def load(out: Path, family: str):
    return AutoModelForCausalLM.from_pretrained(
        directory(out, family), dtype=torch.float32, attn_implementation="eager"
    )


def _random_model(family: str, seed: int):
    torch.manual_seed(1000 * seed + list(FAMILIES).index(family))
    model = AutoModelForCausalLM.from_config(FAMILIES[family], dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # gains start at 1 and biases at 0, which would hide mistakes
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def _expected(model, seed: int) -> dict[str, torch.Tensor]:
    """Right-padded rows; logits are zeroed where padded; the loss is the mean over all real next tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(ROW_LENGTHS), max(ROW_LENGTHS))
    ids = torch.randint(len(chat_tokenizer.SPECIAL_TOKENS), chat_tokenizer.N_ENTRIES, shape, generator=generator)
    mask = (torch.arange(shape[1]) < torch.tensor(ROW_LENGTHS)[:, None]).long()
    ids = ids.where(mask == 1, 3)
    output = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100))
    output.loss.backward()
    expected = {
        "input_ids": ids.int(),
        "attention_mask": mask.int(),
        "logits": (output.logits * mask[..., None]).detach().contiguous(),
        "loss": output.loss.detach().reshape(1),
    }
    return expected | {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}


def write(out: Path, seed: int, named: list[str]) -> None:
    tokenizer = chat_tokenizer.load(out)
    for family in named or FAMILIES:
        _random_model(family, seed).save_pretrained(directory(out, family))
        tokenizer.save_pretrained(directory(out, family))
        expected = _expected(load(out, family).eval(), seed)
        save_file(expected, directory(out, family) / "expected.safetensors")
        print("models", family, "loss", float(expected["loss"]), flush=True)
    remove_by_products(out / "models")
