"""Reads a GGUF file that lapidary exported with the `gguf` package, and where transformers reads the family with transformers.
`python gguf_reads.py MODEL.gguf DIRECTORY`: MODEL.gguf is DIRECTORY exported. Tensors must be those of the directory, in the type
that the file says, quantised as gguf quantises; the logits those of the directory's model. With torch, transformers, gguf 0.19."""
import json
import pathlib
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType as T, GGUFReader
from gguf.quants import quantize
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

file, directory = map(pathlib.Path, sys.argv[1:])
config = json.loads((directory / "config.json").read_text())
reader = GGUFReader(file)
arch = reader.get_field("general.architecture").contents()
assert reader.get_field(f"{arch}.block_count").contents() == config["num_hidden_layers"]
assert reader.get_field(f"{arch}.attention.head_count_kv").contents() == config["num_key_value_heads"]
assert len(reader.get_field("tokenizer.ggml.tokens").contents()) == config["vocab_size"]
tensors = load_file(directory / "model.safetensors")
embedding = next(t for t in reader.tensors if t.name == "token_embd.weight")
want = tensors["model.embed_tokens.weight"].float().numpy()
assert np.array_equal(np.asarray(embedding.data), np.asarray(quantize(want, T(embedding.tensor_type)))), "token_embd.weight"
extra = {"rope_freqs.weight"} & {t.name for t in reader.tensors}
assert len(reader.tensors) - len(extra) == len(tensors), (len(reader.tensors), len(tensors))
# transformers 5.24 reads no divisors, takes heads of qwen3 for 128 wide, and does not know mistral's name for itself.
if embedding.tensor_type == T.F32 and config["model_type"] in ["llama", "qwen2"] and not extra:
    ids = torch.arange(5, 45)[None]
    ours = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        a, b = ours(ids).logits, theirs(ids).logits
    error = ((a - b).norm() / b.norm()).item()
    assert error < 1e-5, f"the logits differ by {error}"
    print(f"{arch}: logits within {error:.1e} of the directory's")
print(f"{file.name}: {len(reader.tensors)} tensors, {embedding.tensor_type.name}")
