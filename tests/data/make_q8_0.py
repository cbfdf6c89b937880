"""Writes q8_0.safetensors: weights, and the Q8_0 blocks that the `gguf` package makes of them. `python make_q8_0.py` with numpy,
safetensors and gguf 0.19."""
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import quantize
from safetensors.numpy import save_file

rng = np.random.default_rng(11)
weights = rng.normal(size=(64, 32)).astype(np.float32)
weights *= np.exp2(rng.integers(-30, 12, size=(64, 1))).astype(np.float32)
weights[0] = 0  # no scale
weights[1] = np.arange(-16, 16) / 2  # halves: rounded away from zero
weights[2] = np.where(np.arange(32) % 2, 127.5, -63.5)
weights[3, 1:] = 0  # one weight
weights[4] = -0.0
weights[5] = 1.5e-6  # its scale is a subnormal float16
weights[6] = np.float32(0.1) * np.arange(1, 33)
save_file(
    {"weights": weights.reshape(-1), "blocks": np.ascontiguousarray(quantize(weights, T.Q8_0).reshape(-1))},
    pathlib.Path(__file__).with_name("q8_0.safetensors"),
)
