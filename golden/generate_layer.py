#!/usr/bin/env python3
"""Writes golden/layer/: torch.nn.MultiheadAttention, rotary and sinusoidal positions, computed in float64.

Inputs and weights are float32; the expected outputs and gradients are float64, computed from exactly those
values. Needs torch, numpy and safetensors (versions in golden/README.md). Every attention case is checked here
against the textbook formula in numpy, and its gradients against differences of that formula, before it is
written.
"""

import pathlib
import shutil

import numpy
import safetensors.numpy
import torch

TARGET = pathlib.Path(__file__).resolve().parent / "layer"


def save(name, tensors):
    path = TARGET / f"{name}.safetensors"
    safetensors.numpy.save_file({key: numpy.ascontiguousarray(value) for key, value in tensors.items()}, path)
    path.chmod(0o644)


def textbook(state, query, key, value, num_heads, keep):
    """The layer in numpy, float64; `keep` [batch, s_q, s_kv] is true where a query may attend."""
    model_dim = query.shape[-1]
    head_dim = model_dim // num_heads
    bias = state.get("in_proj_bias", numpy.zeros(3 * model_dim))
    projected = []
    for part, (name, x) in enumerate(zip("qkv", (query, key, value))):
        rows = slice(part * model_dim, (part + 1) * model_dim)
        # three matrices where keys and values have a size of their own
        weight = state["in_proj_weight"][rows] if "in_proj_weight" in state else state[f"{name}_proj_weight"]
        y = x @ weight.T + bias[rows]
        projected.append(y.reshape(*y.shape[:2], num_heads, head_dim).swapaxes(1, 2))
    q, k, v = projected
    scores = numpy.where(keep[:, None], q @ k.swapaxes(-1, -2) / numpy.sqrt(head_dim), -numpy.inf)
    probs = numpy.exp(scores - scores.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    joined = (probs @ v).swapaxes(1, 2).reshape(query.shape)
    return joined @ state["out_proj.weight"].T + state.get("out_proj.bias", 0.0), probs


def gradients(layer, query, memory, options, cotangent):
    """Of the sum of output times cotangent; a layer without `memory` attends to its own query."""
    query = query.double().requires_grad_()
    memory = memory if memory is None else memory.double().requires_grad_()
    key = query if memory is None else memory
    output, _ = layer(query, key, key, need_weights=False, **options)
    (output * cotangent.double()).sum().backward()
    found = {f"grad.{key}": x.grad.numpy() for key, x in layer.named_parameters()}
    found["grad.query"] = query.grad.numpy()
    if memory is not None:
        found["grad.memory"] = memory.grad.numpy()
    return found


def check_gradients(found, wide, cross, num_heads, keep, cotangent):
    """Against a central difference of the textbook along one random direction for each gradient."""
    rng = numpy.random.default_rng(0)
    step, worst = 1e-5, 0.0
    for key, gradient in found.items():
        direction = rng.standard_normal(gradient.shape)
        direction /= numpy.linalg.norm(direction)
        sums = []
        for sign in (1, -1):
            moved = dict(wide)
            # in self-attention one tensor is query, key and value; in cross-attention memory is the last two
            names = {"grad.query": ["query"] if cross else ["query", "key", "value"],
                     "grad.memory": ["key", "value"]}.get(key, [key.removeprefix("grad.")])
            for part in names:
                moved[part] = moved[part] + sign * step * direction
            output, _ = textbook(moved, moved["query"], moved["key"], moved["value"], num_heads, keep)
            sums.append((output * cotangent).sum())
        expected = (gradient * direction).sum()
        worst = max(worst, abs((sums[0] - sums[1]) / (2 * step) - expected) / max(1.0, abs(gradient).max()))
    return worst


def attention(name, seed, model_dim, num_heads, lengths, *,
              bias=True, cross=False, causal=False, key_lengths=None, memory_dim=None):
    """`lengths` is (s_q, s_kv); the batch has two sequences."""
    torch.manual_seed(seed)
    layer = torch.nn.MultiheadAttention(model_dim, num_heads, bias=bias, batch_first=True,
                                        kdim=memory_dim, vdim=memory_dim).eval()
    if bias:  # PyTorch starts them at zero, which would hide a forgotten bias
        torch.nn.init.normal_(layer.in_proj_bias, std=0.5)
        torch.nn.init.normal_(layer.out_proj.bias, std=0.5)
    # larger than PyTorch starts them, so that the probabilities are far from uniform
    for key, weight in layer.named_parameters():
        if key.endswith("_proj_weight"):
            torch.nn.init.normal_(weight, std=1.5 / weight.shape[1]**0.5)
    s_q, s_kv = lengths
    query = torch.randn(2, s_q, model_dim)
    key = torch.randn(2, s_kv, memory_dim or model_dim) if cross else query
    value = key
    inputs = {"query": query, "key": key, "value": value}
    tensors = {key: x.detach().numpy() for key, x in {**layer.state_dict(), **inputs}.items()}

    keep = numpy.ones((2, s_q, s_kv), dtype=bool)
    options = {}  # in PyTorch a mask is true where a query may NOT attend
    if causal:
        keep &= numpy.tri(s_q, s_kv, dtype=bool)
        options["attn_mask"] = torch.from_numpy(~numpy.tri(s_q, s_kv, dtype=bool))
    if key_lengths:
        allowed = numpy.arange(s_kv)[None, :] < numpy.array(key_lengths)[:, None]
        keep &= allowed[:, None, :]
        options["key_padding_mask"] = torch.from_numpy(~allowed)

    layer = layer.double()
    with torch.no_grad():
        output, probs = layer(query.double(), key.double(), value.double(), need_weights=True,
                              average_attn_weights=False, **options)
    wide = {key: x.astype(numpy.float64) for key, x in tensors.items()}
    expected = textbook(wide, wide["query"], wide["key"], wide["value"], num_heads, keep)
    difference = max(abs(output.numpy() - expected[0]).max(), abs(probs.numpy() - expected[1]).max())
    assert difference < 1e-13, (name, difference)
    print(f"{name}: output within {abs(output).max():.2f}, largest probability {probs.max():.2f}, "
          f"PyTorch against the textbook {difference:.1e}")

    # drawn last, so that the tensors above stay what they are
    cotangent = torch.randn(2, s_q, model_dim)
    found = gradients(layer, query, key if cross else None, options, cotangent)
    difference = check_gradients(found, wide, cross, num_heads, keep, cotangent.double().numpy())
    assert difference < 1e-8, (name, difference)
    print(f"{name}: {len(found)} gradients against differences of the textbook {difference:.1e}")
    tensors = {**tensors, **found, "cotangent": cotangent.numpy()}

    tensors["num_heads"] = numpy.array([num_heads], dtype=numpy.int64)
    if key_lengths:
        tensors["key_lengths"] = numpy.array(key_lengths, dtype=numpy.int64)
    save(name, {**tensors, "output": output.numpy(), "probs": probs.numpy()})


def rotary():
    """RoFormer (arXiv:2104.09864), equation 34: x * cos(m theta) + rotated(x) * sin(m theta), position m."""
    head_dim, base = 8, 10000.0
    x = numpy.random.default_rng(6).standard_normal((7, head_dim)).astype(numpy.float32)
    theta = base ** (-2.0 * numpy.arange(head_dim // 2) / head_dim)
    tensors = {"input": x}
    for offset in (0, 100):
        angle = (offset + numpy.arange(7.0))[:, None] * theta  # [position, pair]
        cos, sin = numpy.cos(angle), numpy.sin(angle)
        for form in ("interleaved", "half_split"):
            # pair i is (2i, 2i + 1) in the paper, (i, i + head_dim/2) in Llama
            if form == "interleaved":
                first, second = slice(0, None, 2), slice(1, None, 2)
            else:
                first, second = slice(0, head_dim // 2), slice(head_dim // 2, None)
            a, b = x[:, first].astype(numpy.float64), x[:, second].astype(numpy.float64)
            y = numpy.empty(x.shape)
            y[:, first] = a * cos - b * sin
            y[:, second] = b * cos + a * sin
            tensors[f"{form}.offset{offset}"] = y
    save("rotary", tensors)


def sinusoidal():
    """Vaswani et al. 2017, section 3.5: sin(pos / 10000^(2i/d)) at 2i, the cosine of the same at 2i + 1."""
    model_dim, num_positions = 10, 12
    table = numpy.empty((num_positions, model_dim))
    wavelength = 10000.0 ** (numpy.arange(0, model_dim, 2) / model_dim)  # without the factor 2 pi
    angle = numpy.arange(float(num_positions))[:, None] / wavelength
    table[:, 0::2], table[:, 1::2] = numpy.sin(angle), numpy.cos(angle)
    save("sinusoidal", {"positions": table})


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mha.set_fastpath_enabled(False)
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    attention("self_attention", 1, 48, 4, (7, 7))
    attention("self_attention_no_bias", 2, 48, 4, (7, 7), bias=False)
    attention("cross_attention", 3, 32, 2, (5, 9), cross=True)
    attention("cross_attention_kdim", 7, 32, 4, (5, 9), cross=True, memory_dim=20)
    attention("causal", 4, 24, 3, (7, 7), causal=True)
    attention("key_padding", 5, 24, 4, (7, 7), key_lengths=(7, 4))
    rotary()
    sinusoidal()


if __name__ == "__main__":
    main()
