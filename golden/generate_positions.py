#!/usr/bin/env python3
"""Writes golden/position/: scaled rotary positions, T5's buckets and ALiBi's slopes, from Hugging Face's code.

transformers computes rotary frequencies in float32. Here its own functions run with float64 in the place of
float32, and how far apart the two are is printed. Needs torch, transformers, numpy and safetensors (versions
in golden/README.md).
"""

import math
import pathlib
import shutil

import numpy
import safetensors.numpy
import torch
import transformers
from transformers import modeling_rope_utils
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.t5.modeling_t5 import T5Attention

TARGET = pathlib.Path(__file__).resolve().parent / "position"

HEAD_DIM = 32
POSITIONS = [0, 1, 17, 4095, 131071, 1000000]

# name, base, partial_rotary_factor, seq_len for which it is asked, the model's rope parameters
SCALINGS = [
    ("none", 10000.0, 1.0, None, {"rope_type": "default"}),
    ("linear", 10000.0, 1.0, None, {"rope_type": "linear", "factor": 2.5}),
    # The static form has no name in transformers: the dynamic one at twice its length has factor f + 1.
    ("ntk_aware", 10000.0, 1.0, 4096, {"rope_type": "dynamic", "factor": 3.0}),
    ("dynamic_short", 10000.0, 1.0, 100, {"rope_type": "dynamic", "factor": 2.0}),
    ("dynamic_long", 10000.0, 1.0, 10000, {"rope_type": "dynamic", "factor": 2.0}),
    ("yarn", 10000.0, 1.0, None,
     {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}),
    ("yarn_partial", 10000.0, 0.75, None,
     {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0,
      "beta_slow": 2.0, "attention_factor": 0.75}),
    ("yarn_untruncated", 150000.0, 1.0, None,  # gpt-oss
     {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}),
    ("yarn_shrunk", 10000.0, 1.0, None,
     {"rope_type": "yarn", "factor": 0.5, "original_max_position_embeddings": 64}),
    ("llama3", 500000.0, 1.0, None,
     {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192}),
]

# bidirectional, num_buckets, max_distance
BUCKETS = [
    (True, 32, 128),
    (False, 32, 128),
    (True, 4, 3),
    (True, 6, 100),
    (False, 2, 2),
    (False, 7, 50),
    (True, 64, 1000),
]
DISTANCES = numpy.concatenate([numpy.arange(-300, 301), [-(10**6), -5000, -999, 999, 5000, 10**6]])


class InDouble:
    """torch, with float64 under the names of float32."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def save(name, tensors):
    path = TARGET / f"{name}.safetensors"
    safetensors.numpy.save_file({key: numpy.ascontiguousarray(value) for key, value in tensors.items()}, path)
    path.chmod(0o644)


def frequencies(base, partial, seq_len, parameters):
    """What transformers computes for a Llama with these rope parameters, as float64 numbers."""
    parameters = {**parameters, "rope_theta": base, "partial_rotary_factor": partial}
    config = transformers.LlamaConfig(
        hidden_size=2 * HEAD_DIM, num_attention_heads=2, head_dim=HEAD_DIM, max_position_embeddings=2048,
        rope_parameters=parameters)
    kind = parameters["rope_type"]
    if kind == "default":
        compute = modeling_llama.LlamaRotaryEmbedding.compute_default_rope_parameters
    else:
        compute = modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind]
    result, attention_factor = compute(config, device=torch.device("cpu"), seq_len=seq_len)
    return result.numpy(), attention_factor


def rotary():
    x = numpy.random.default_rng(7).standard_normal((len(POSITIONS), HEAD_DIM)).astype(numpy.float32)
    tensors = {"input": x, "positions": numpy.array(POSITIONS, dtype=numpy.int64)}
    wide = torch.from_numpy(x).double()[None, :, None, :]  # [batch, seq, head, dim]
    for name, *arguments in SCALINGS:
        single, attention_factor = frequencies(*arguments)
        for module in (modeling_rope_utils, modeling_llama):
            module.torch = InDouble()
        double, same_factor = frequencies(*arguments)
        for module in (modeling_rope_utils, modeling_llama):
            module.torch = torch
        assert single.dtype == numpy.float32 and double.dtype == numpy.float64
        assert attention_factor == same_factor
        print(f"{name}: {len(double)} pairs, attention factor {attention_factor:.6f}, float32 against float64 "
              f"{abs(single / double - 1).max():.1e}")
        angle = torch.tensor(POSITIONS, dtype=torch.float64)[:, None] * torch.from_numpy(double)
        cos, sin = angle.cos() * attention_factor, angle.sin() * attention_factor  # [seq, pair]
        rotated, rest = wide[..., :2 * len(double)], wide[..., 2 * len(double):]
        both = [torch.cat((half, half), dim=-1)[None] for half in (cos, sin)]
        half_split, _ = modeling_llama.apply_rotary_pos_emb(rotated, rotated, *both, unsqueeze_dim=2)
        interleaved = modeling_gptj.apply_rotary_pos_emb(rotated, sin[None], cos[None])
        tensors |= {
            f"{name}.frequencies": double,
            f"{name}.attention_factor": numpy.array([attention_factor]),
            f"{name}.half_split": torch.cat((half_split, rest), dim=-1)[0, :, 0].numpy(),
            f"{name}.interleaved": torch.cat((interleaved, rest), dim=-1)[0, :, 0].numpy(),
        }
    save("rotary", tensors)


def buckets():
    tensors = {"distances": DISTANCES.astype(numpy.int64)}
    for bidirectional, num_buckets, max_distance in BUCKETS:
        found = T5Attention._relative_position_bucket(
            torch.from_numpy(tensors["distances"]), bidirectional=bidirectional, num_buckets=num_buckets,
            max_distance=max_distance)
        form = "bidirectional" if bidirectional else "causal"
        tensors[f"{form}.{num_buckets}.{max_distance}"] = found.numpy()
    for is_decoder, form in ((False, "bidirectional"), (True, "causal")):
        config = transformers.T5Config(
            d_model=12, d_kv=4, num_heads=3, relative_attention_num_buckets=8,
            relative_attention_max_distance=20, is_decoder=is_decoder)
        torch.manual_seed(8)
        layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
        torch.nn.init.normal_(layer.relative_attention_bias.weight)
        with torch.no_grad():
            bias = layer.compute_bias(5, 40, past_seen_tokens=30)[0]
        tensors[f"{form}.embedding"] = layer.relative_attention_bias.weight.detach().numpy()
        tensors[f"{form}.bias"] = bias.numpy()  # [head, query, key], the first query at position 30
    save("t5", tensors)


def slopes(num_heads):
    """Press et al. 2022: 2^(-8/n), 2^(-16/n) and so on; between powers of two, every second of the doubled
    number of heads follows those of the largest power of two."""
    power = 2 ** int(math.log2(num_heads))
    full = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    return full if power == num_heads else full + slopes(2 * power)[0::2][:num_heads - power]


def alibi():
    tensors = {}
    for num_heads in [*range(1, 21), 32, 48]:
        expected = numpy.array(slopes(num_heads))
        # Bloom multiplies the slopes by positions 0 and 1.
        bloom = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1].numpy()
        assert abs(bloom / expected - 1).max() < 1e-6, (num_heads, bloom, expected)
        tensors[f"heads.{num_heads}"] = expected
    save("alibi", tensors)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()  # some of the parameters are unusual on purpose
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    rotary()
    buckets()
    alibi()


if __name__ == "__main__":
    main()
