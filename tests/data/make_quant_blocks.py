"""Writes quant_blocks.safetensors: random GGUF blocks of each quantised type and the values that the `gguf` package
decodes them to. `python make_quant_blocks.py` with numpy, safetensors and gguf 0.17 or later."""
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T, GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.numpy import save_file

# Byte offsets of the half-precision numbers in a block; all other bytes are random.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}

rng = np.random.default_rng(7)
tensors = {}
for kind, halves in HALVES.items():
    n_blocks = 9
    blocks = rng.integers(0, 256, size=(n_blocks, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in halves:
        scale = rng.normal(size=n_blocks).astype(np.float16)
        scale[0], scale[1] = np.float16(3e-7), np.float16(-0.0)  # a subnormal and a negative zero
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(n_blocks, 2)
    tensors[f"{kind.name}.blocks"] = blocks
    tensors[f"{kind.name}.values"] = np.ascontiguousarray(dequantize(blocks, kind).astype(np.float32))
save_file(tensors, pathlib.Path(__file__).with_name("quant_blocks.safetensors"))
