"""Makes small models of some families with random weights (models/), and writes <family>.gguf of each as llama.cpp's converter
would (llama's and granite's query and key rows interleaved, dimensions innermost first), one layer in mixed types.
The golden models are too narrow for quantised blocks of 32; tokenizer and template are theirs. `python make_gguf.py [family …]` with
torch, transformers and gguf 0.19; values that quantising changes are in <name>.gguf.safetensors under Hugging Face names."""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType as T, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, GraniteConfig, LlamaConfig, Qwen3Config

HERE = pathlib.Path(__file__).parent
MODULES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
SIZES = dict(
    vocab_size=512, hidden_size=64, intermediate_size=144, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=2, pad_token_id=3,
    initializer_range=0.12, tie_word_embeddings=True,
)
CONFIGS = {
    "llama": LlamaConfig(**SIZES, rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
    "granite": GraniteConfig(
        **SIZES, embedding_multiplier=12.0, attention_multiplier=0.0625, residual_multiplier=0.22, logits_scaling=8.0,
    ),
}
INTERLEAVED = ["llama", "granite"]
# Type of each module; 144, the width of the MLP, is not a multiple of a block, so down_proj stays in half precision.
TYPES = {
    "q_proj": T.Q4_0, "k_proj": T.Q8_0, "v_proj": T.Q4_1, "o_proj": T.Q5_0, "gate_proj": T.Q5_1, "up_proj": T.Q8_0,
    "down_proj": T.BF16, "embed_tokens": T.F16,
}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, *module, kind = name.split(".")
    return f"blk.{layer}.{MODULES['.'.join(module)]}.{kind}"


def interleave(w, n_heads):
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def make_model(family):
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(CONFIGS[family], dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    directory = HERE / "models" / family
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
        shutil.copy(HERE.parent / "golden" / "tokenizer" / file, directory)
    return directory


def write(family):
    source = make_model(family)
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tensors = load_file(source / "model.safetensors")
    out = GGUFWriter(HERE / f"{family}.gguf", family)
    out.add_name(f"golden {family}")
    out.add_block_count(config["num_hidden_layers"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    if family in INTERLEAVED:
        out.add_vocab_size(config["vocab_size"])
        out.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    else:
        out.add_key_length(config["head_dim"])
        out.add_value_length(config["head_dim"])
    if family == "granite":
        out.add_embedding_scale(config["embedding_multiplier"])
        out.add_attention_scale(config["attention_multiplier"])
        out.add_residual_scale(config["residual_multiplier"])
        out.add_logit_scale(config["logits_scaling"])
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {t["id"]: t["content"] for t in tokenizer["added_tokens"]}
    tokens = {id: token for token, id in vocabulary} | special
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([tokens[i] for i in range(len(tokens))])
    out.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    out.add_bos_token_id(config["bos_token_id"])
    out.add_eos_token_id(config["eos_token_id"])
    out.add_pad_token_id(config["pad_token_id"])
    out.add_chat_template((source / "chat_template.jinja").read_text())
    expected = {}
    for name, w in tensors.items():
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2])
        stored = interleave(w, heads) if family in INTERLEAVED and heads else w
        # Layer 1's query and key stay exact: the order of rows is then seen bit for bit.
        kind = T.F32 if "layers.1.self_attn" in name else TYPES.get(name.split(".")[-2], T.F32)
        data = quantize(np.ascontiguousarray(stored, dtype=np.float32), kind)
        out.add_tensor(gguf_name(name), data, raw_dtype=kind)
        values = dequantize(data, kind)
        if heads and family in INTERLEAVED:  # back to Hugging Face's order of rows
            values = values.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
        if kind != T.F32:
            expected[name] = np.ascontiguousarray(values.astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    save_file(expected, HERE / f"{family}.gguf.safetensors")


for family in sys.argv[1:] or CONFIGS:
    write(family)
