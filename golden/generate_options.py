#!/usr/bin/env python3
"""Writes golden/options/: attention under 60 combinations of options, with all gradients, in float64.

Inputs are float32. The attention is written out below and differentiated by PyTorch; before a case is written,
its output and log-sum-exp are compared with PyTorch's own flex_attention and, where there is no softcap, output
and gradients with scaled_dot_product_attention, to 1e-12; and all gradients with finite differences. Needs torch,
numpy and safetensors (versions in golden/README.md).
"""

import json
import pathlib
import shutil
import warnings

import numpy
import safetensors.numpy
import torch
from torch.nn.attention.flex_attention import flex_attention

TARGET = pathlib.Path(__file__).resolve().parent / "options"
INF = float("inf")

# Sizes: batch, heads, kv heads, queries, keys, head_dim, value_head_dim.
# Options: causal, window (left, right), position ("top_left", "bottom_right", an offset or one per sequence),
# key_lengths, keep and bias (which of the axes batch, heads, queries, keys are there: "b.qk" has one head for all;
# an upper-case name makes some rows hopeless or holds -inf), alibi, relative (left, right), softcap, sinks, scale,
# lse (a cotangent on the log-sum-exp), spread (of the queries).
CASES = {
    "plain": ((2, 2, 2, 9, 9, 8, 8), {}),
    "cross": ((1, 2, 2, 7, 19, 8, 8), {"lse": True}),
    "one_query": ((2, 3, 3, 1, 37, 16, 16), {"lse": True}),
    "causal_top_left": ((2, 2, 2, 11, 11, 8, 8), {"causal": True}),
    "causal_bottom_right": ((1, 2, 2, 6, 17, 8, 8), {"causal": True, "position": "bottom_right"}),
    "causal_bottom_right_empty_rows": (
        (1, 2, 2, 13, 5, 8, 8), {"causal": True, "position": "bottom_right", "lse": True}),
    "causal_offset": ((1, 2, 2, 6, 12, 8, 8), {"causal": True, "position": 3, "lse": True}),
    "causal_negative_offset": ((1, 2, 2, 9, 9, 8, 8), {"causal": True, "position": -4, "lse": True}),
    "causal_offset_per_sequence": (
        (3, 2, 2, 7, 10, 8, 8), {"causal": True, "position": [0, -3, 5], "key_lengths": [10, 10, 8]}),
    "window": ((1, 2, 2, 14, 14, 8, 8), {"window": (3, 2)}),
    "window_bottom_right_key_lengths": (
        (2, 2, 2, 9, 15, 8, 8), {"window": (4, 1), "position": "bottom_right", "key_lengths": [15, 7]}),
    "window_causal": ((1, 2, 2, 20, 20, 8, 8), {"window": (5, 2), "causal": True, "lse": True}),
    "window_past_the_keys": ((1, 2, 2, 12, 8, 8, 8), {"window": (2, 0), "position": 3, "lse": True}),
    "key_lengths_one_empty": ((3, 2, 2, 6, 11, 8, 8), {"key_lengths": [11, 0, 4], "lse": True}),
    "key_length_for_all": ((2, 2, 2, 5, 13, 8, 8), {"key_lengths": [9]}),
    "causal_bottom_right_key_lengths": (
        (3, 2, 2, 6, 12, 8, 8),
        {"causal": True, "position": "bottom_right", "key_lengths": [12, 6, 3], "lse": True}),
    "keep_padding": ((2, 2, 2, 6, 12, 8, 8), {"keep": "b..k"}),
    "keep_shared": ((2, 2, 2, 8, 10, 8, 8), {"keep": "..qk", "lse": True}),
    "keep_all_axes_empty_rows": ((2, 3, 3, 7, 9, 8, 8), {"keep": "BHQK", "lse": True}),
    "keep_per_head_causal": ((2, 3, 3, 9, 9, 8, 8), {"keep": ".hqk", "causal": True}),
    "bias_bhqk": ((2, 2, 2, 6, 9, 8, 8), {"bias": "BHQK", "lse": True}),
    "bias_hqk": ((2, 3, 3, 7, 7, 8, 8), {"bias": ".HQK", "causal": True}),
    "bias_bqk": ((2, 3, 3, 5, 11, 8, 8), {"bias": "B.QK"}),
    "bias_bhk": ((2, 3, 3, 5, 11, 8, 8), {"bias": "BH.K", "lse": True}),
    "bias_bhq": ((2, 3, 3, 6, 8, 8, 8), {"bias": "BHQ.", "lse": True}),
    "bias_qk": ((2, 2, 2, 9, 9, 8, 8), {"bias": "..qk", "window": (3, 3), "softcap": 2.5}),
    "bias_hk_gqa": ((2, 4, 2, 6, 10, 8, 8), {"bias": ".h.k", "lse": True}),
    "bias_hq": ((2, 2, 2, 6, 10, 8, 8), {"bias": ".HQ.", "lse": True}),
    "bias_bk": ((3, 2, 2, 6, 10, 8, 8), {"bias": "B..K", "sinks": True, "lse": True}),
    "bias_bq": ((2, 2, 2, 7, 9, 8, 8), {"bias": "b.q.", "causal": True, "lse": True}),
    "bias_bh": ((2, 2, 2, 5, 9, 8, 8), {"bias": "bh..", "sinks": True}),
    "bias_b_one_forbidden": ((3, 2, 2, 5, 9, 8, 8), {"bias": "B...", "lse": True}),
    "bias_h": ((2, 3, 3, 5, 9, 8, 8), {"bias": ".h..", "lse": True}),
    "bias_q": ((2, 2, 2, 8, 8, 8, 8), {"bias": "..Q.", "sinks": True, "lse": True}),
    "bias_k": ((2, 2, 2, 6, 14, 8, 8), {"bias": "...K", "softcap": 1.5}),
    "bias_scalar": ((2, 2, 2, 5, 9, 8, 8), {"bias": "....", "lse": True}),
    "alibi_causal": ((2, 4, 4, 12, 12, 8, 8), {"alibi": True, "causal": True}),
    "alibi_both_sides_offset": ((2, 2, 2, 7, 15, 8, 8), {"alibi": True, "position": [4, -2], "lse": True}),
    "relative": ((2, 2, 2, 12, 12, 8, 8), {"relative": (4, 3), "lse": True}),
    "relative_causal_bottom_right": (
        (2, 3, 3, 6, 14, 8, 8),
        {"relative": (5, 0), "causal": True, "position": "bottom_right", "key_lengths": [14, 9]}),
    "softcap": ((2, 2, 2, 9, 9, 8, 8), {"softcap": 1.5, "spread": 3.0, "lse": True}),
    "softcap_alibi_negative_scale": (
        (1, 2, 2, 9, 12, 8, 8), {"softcap": 2.0, "alibi": True, "scale": -0.5, "position": "bottom_right"}),
    "sinks": ((2, 3, 3, 7, 9, 8, 8), {"sinks": True, "lse": True}),
    "sinks_empty_rows": (
        (2, 2, 2, 9, 5, 8, 8), {"sinks": True, "causal": True, "position": "bottom_right", "lse": True}),
    "sinks_softcap": ((1, 2, 2, 9, 9, 8, 8), {"sinks": True, "softcap": 2.0, "spread": 3.0, "causal": True}),
    "grouped": ((2, 4, 2, 7, 9, 8, 8), {"lse": True}),
    "multi_query_value_dim": ((1, 4, 1, 8, 10, 8, 13), {"causal": True, "position": "bottom_right", "lse": True}),
    "scale_zero": ((1, 2, 2, 6, 9, 8, 5), {"scale": 0.0, "alibi": True, "lse": True}),
    "scale_negative_grouped": ((1, 6, 2, 8, 8, 16, 8), {"scale": -0.75, "causal": True, "spread": 0.5}),
    "everything": (
        (2, 4, 2, 13, 18, 12, 7),
        {"causal": True, "window": (9, 4), "position": "bottom_right", "key_lengths": [18, 11], "keep": "B.QK",
         "bias": "BHQK", "alibi": True, "relative": (6, 2), "softcap": 3.0, "sinks": True, "scale": 0.4,
         "lse": True}),
    # longer than the blocks in which kernels work
    "long_plain": ((1, 1, 1, 256, 256, 16, 16), {"lse": True, "spread": 2.0}),
    "long_causal_sinks_grouped": ((1, 2, 1, 150, 150, 16, 16), {"causal": True, "sinks": True, "lse": True}),
    "long_window_sinks_softcap": (
        (1, 2, 1, 140, 140, 16, 16),
        {"causal": True, "window": (32, 0), "sinks": True, "softcap": 4.0, "spread": 3.0, "lse": True}),
    "long_alibi_causal": ((1, 2, 2, 133, 133, 16, 16), {"alibi": True, "causal": True, "lse": True}),
    "long_relative": ((1, 2, 2, 65, 170, 16, 16), {"relative": (40, 24), "position": "bottom_right", "lse": True}),
    "long_bias_key": ((2, 2, 1, 49, 139, 16, 16), {"bias": "B..K", "lse": True, "spread": 2.0}),
    "long_bias_head_query_key": ((1, 2, 2, 67, 131, 16, 16), {"bias": ".HQK", "softcap": 5.0, "lse": True}),
    "long_keep_empty_rows": ((1, 2, 2, 101, 137, 16, 16), {"keep": "..QK", "sinks": True, "lse": True}),
    "long_lengths_causal_wide": (
        (2, 1, 1, 70, 140, 64, 20),
        {"causal": True, "position": "bottom_right", "key_lengths": [140, 93], "alibi": True, "lse": True}),
    "long_decode_everything": (
        (2, 6, 2, 1, 200, 32, 24),
        {"causal": True, "position": "bottom_right", "key_lengths": [200, 131], "alibi": True, "softcap": 3.0,
         "sinks": True, "relative": (100, 0), "bias": "B..K", "spread": 2.0, "lse": True}),
}


def axes(pattern, full):
    """The shape that a pattern such as "b.qk" leaves of the full one."""
    return tuple(1 if letter == "." else size for letter, size in zip(pattern, full))


def draw(rng, sizes, options):
    """The inputs, float32 (and bool)."""
    b, h, h_kv, s_q, s_kv, d, d_v = sizes
    normal = lambda *shape: rng.standard_normal(shape).astype(numpy.float32)
    inputs = {
        "query": normal(b, h, s_q, d) * numpy.float32(options.get("spread", 1.0)),
        "key": normal(b, h_kv, s_kv, d),
        "value": normal(b, h_kv, s_kv, d_v),
        "d_output": normal(b, h, s_q, d_v),
    }
    if options.get("lse"):
        inputs["d_log_sum_exp"] = normal(b, h, s_q)
    if "keep" in options:
        pattern = options["keep"]
        keep = rng.random(axes(pattern, (b, h, s_q, s_kv))) < 0.6
        if pattern.replace(".", "").isupper():
            keep[..., keep.shape[2] // 2, :] = False  # one row of each head may attend to nothing
        inputs["keep"] = keep
    if "bias" in options:
        pattern = options["bias"]
        bias = normal(*axes(pattern, (b, h, s_q, s_kv)))
        if pattern.replace(".", "").isupper():
            bias[rng.random(bias.shape) < 0.3] = -INF
            bias.flat[0], bias.flat[-1] = -INF, 0.25  # both kinds are there
        inputs["attention_bias"] = bias
    if options.get("alibi"):  # Press et al. 2021: 2^(-8/h), 2^(-16/h), ...
        inputs["alibi_slopes"] = (2.0 ** (-8.0 * numpy.arange(1, h + 1) / h)).astype(numpy.float32)
    if "relative" in options:
        inputs["relative_bias"] = normal(h, sum(options["relative"]) + 1)
    if options.get("sinks"):
        inputs["sinks"] = normal(h) + numpy.float32(1.0)
    return inputs


def structure(sizes, options):
    """Which keys causality, window and lengths allow, [b, 1, s_q, s_kv], and j - p, [b, s_q, s_kv]."""
    b, _, _, s_q, s_kv, _, _ = sizes
    lengths = torch.tensor(options.get("key_lengths", [s_kv])).expand(b)
    position = options.get("position", "top_left")
    if position == "top_left":
        offset = torch.zeros(b, dtype=torch.int64)
    elif position == "bottom_right":
        offset = lengths - s_q
    else:
        offset = torch.tensor(position).expand(b)
    p = torch.arange(s_q)[None, :] + offset[:, None]
    distance = torch.arange(s_kv)[None, None, :] - p[:, :, None]  # j - p
    allowed = (torch.arange(s_kv) < lengths[:, None])[:, None, :].expand(b, s_q, s_kv)
    if options.get("causal"):
        allowed = allowed & (distance <= 0)
    if "window" in options:
        left, right = options["window"]
        allowed = allowed & (distance >= -left) & (distance <= right)
    return allowed[:, None], distance


def terms(x, sizes, options):
    """What is added to the capped scores (-inf entries of the bias as 0), and what may be attended to."""
    b, h, _, s_q, s_kv, _, _ = sizes
    allowed, distance = structure(sizes, options)
    added = torch.zeros(b, h, s_q, s_kv, dtype=torch.float64)
    if "alibi_slopes" in x:
        added = added - x["alibi_slopes"][None, :, None, None] * distance.abs()[:, None]
    if "relative_bias" in x:
        left, right = options["relative"]
        index = distance.clamp(-left, right) + left
        added = added + x["relative_bias"][:, index].transpose(0, 1)
    if "attention_bias" in x:
        forbidden = x["attention_bias"] == -INF
        added = added + torch.where(forbidden, 0.0, x["attention_bias"])
        allowed = allowed & ~forbidden
    if "keep" in x:
        allowed = allowed & x["keep"]
    return added, allowed.expand(b, h, s_q, s_kv)


def attention(x, added, allowed, scale, softcap):
    """Output and log-sum-exp, written out so that rows without an allowed key have gradients of exactly 0."""
    group = x["query"].shape[1] // x["key"].shape[1]
    key, value = (x[name].repeat_interleave(group, 1) for name in ("key", "value"))
    scores = scale * x["query"] @ key.transpose(-1, -2)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores + added
    any_allowed = allowed.any(-1, keepdim=True)
    # the largest exponent is no function of the inputs as far as the result goes
    largest = torch.where(allowed, scores, -INF).amax(-1, keepdim=True).detach()
    largest = torch.where(any_allowed, largest, 0.0)
    e = torch.where(allowed, torch.exp(torch.where(allowed, scores - largest, 0.0)), 0.0)
    total = torch.where(any_allowed, e.sum(-1, keepdim=True), 1.0)
    log_sum_exp = torch.where(any_allowed, largest + torch.log(total), -INF).squeeze(-1)
    if "sinks" in x:
        sink = torch.exp(x["sinks"][None, :, None, None] - largest)
        total = torch.where(any_allowed, total + sink, 1.0)
    return (e / total) @ value, log_sum_exp


def run(function, x, with_lse):
    """Output, log-sum-exp, and the gradients of the sum of each times its cotangent."""
    leaves = {name: tensor for name, tensor in x.items() if tensor.requires_grad}
    output, log_sum_exp = function()
    loss = (output * x["d_output"]).sum()
    if with_lse and "d_log_sum_exp" in x:
        loss = loss + torch.where(log_sum_exp > -INF, log_sum_exp * x["d_log_sum_exp"], 0.0).sum()
    gradients = torch.autograd.grad(loss, leaves.values(), retain_graph=True)
    return output.detach(), log_sum_exp, {f"d_{name}": g for name, g in zip(leaves, gradients)}


def flex(query, key, value, added, allowed, scale, softcap):
    """PyTorch's flex_attention and its log-sum-exp; it knows every option, but no backward on a CPU."""
    added = added.detach()
    cap = torch.tensor(softcap or 1.0, dtype=torch.float64)

    def score_mod(score, b, h, i, j):
        if softcap is not None:
            score = cap * torch.tanh(score / cap)
        return torch.where(allowed[b, h, i, j], score + added[b, h, i, j], -INF)

    torch.compiler.reset()  # nothing is kept from case to case
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled
        return flex_attention(query.detach(), key.detach(), value.detach(), score_mod=score_mod, scale=scale,
                              enable_gqa=query.shape[1] != key.shape[1], return_lse=True)


def check(name, x, options, scale, added, allowed):
    """Asserts that PyTorch's own attention functions agree; returns the largest difference."""
    query, key, value, softcap = x["query"], x["key"], x["value"], options.get("softcap")
    ours = lambda: attention(x, added, allowed, scale, softcap)
    output, log_sum_exp, gradients = run(ours, x, with_lse=False)
    their_added, their_allowed = added, allowed
    if "sinks" in x:  # a sink is one more key whose score is the sink and whose value is 0
        key, value = (torch.cat([t, torch.zeros_like(t[:, :, :1])], 2) for t in (key, value))
        sink = x["sinks"][None, :, None, None].expand(*added.shape[:3], 1)
        their_added = torch.cat([added, sink], 3)
        their_allowed = torch.cat([allowed, allowed.any(-1, keepdim=True)], 3)

    pairs = []
    flex_output, flex_lse = flex(query, key, value, their_added, their_allowed, scale, softcap)
    assert flex_output.dtype == flex_lse.dtype == torch.float64
    pairs.append((output, flex_output))
    if "sinks" not in x:  # theirs would include it
        finite = log_sum_exp > -INF
        assert torch.equal(finite, flex_lse > -INF), name
        pairs.append((log_sum_exp[finite], flex_lse[finite]))

    if softcap is None:
        if set(options) <= {"causal", "lse", "spread", "scale"}:
            mask = {"is_causal": options.get("causal", False)}
        else:
            mask = {"attn_mask": torch.where(their_allowed, their_added, -INF)}
        theirs = lambda: (torch.nn.functional.scaled_dot_product_attention(
            query, key, value, scale=scale, enable_gqa=query.shape[1] != key.shape[1], **mask), None)
        sdpa_output, _, sdpa_gradients = run(theirs, x, with_lse=False)
        pairs.append((output, sdpa_output))
        pairs += [(gradients[key], sdpa_gradients[key]) for key in gradients]
    difference = max((a - b).abs().max().item() for a, b in pairs)
    assert difference < 1e-12, (name, difference)
    return difference


def check_gradients(x, sizes, options, scale):
    """Asserts that the gradients agree with finite differences, by PyTorch's own comparison."""
    learned = [name for name, tensor in x.items() if tensor.requires_grad]

    def function(*tensors):
        moved = {**x, **dict(zip(learned, tensors))}
        added, allowed = terms(moved, sizes, options)
        output, log_sum_exp = attention(moved, added, allowed, scale, options.get("softcap"))
        return output, torch.where(log_sum_exp > -INF, log_sum_exp, 0.0)

    assert torch.autograd.gradcheck(function, [x[name] for name in learned], fast_mode=True)


def write(seed, name, sizes, options):
    """One case; returns its line of cases.json and the largest difference from PyTorch's own functions."""
    inputs = draw(numpy.random.default_rng(seed), sizes, options)
    learned = ("query", "key", "value", "attention_bias", "relative_bias", "sinks")
    x = {}
    for key, array in inputs.items():
        x[key] = torch.from_numpy(array)
        if array.dtype == numpy.float32:
            x[key] = x[key].double().requires_grad_(key in learned)
    # numbers as an f32 interface takes them; the default is 1/sqrt(head_dim) itself
    narrow = {key: float(numpy.float32(options[key])) for key in ("scale", "softcap") if key in options}
    options = {**options, **narrow}
    scale = options.get("scale", sizes[5] ** -0.5)
    added, allowed = terms(x, sizes, options)
    difference = check(name, x, options, scale, added, allowed)
    check_gradients(x, sizes, options, scale)
    output, log_sum_exp, gradients = run(
        lambda: attention(x, added, allowed, scale, options.get("softcap")), x, with_lse=True)
    expected = {"output": output, "log_sum_exp": log_sum_exp.detach(), **gradients}
    empty = ~allowed.any(-1)
    assert (output[empty] == 0).all() and (gradients["d_query"][empty] == 0).all()
    assert not any(torch.isnan(tensor).any() for tensor in expected.values()), name
    # where size matters, rounded to f32
    dtype = numpy.float32 if name.startswith("long_") else numpy.float64
    stored = {**inputs, **{key: tensor.numpy().astype(dtype) for key, tensor in expected.items()}}
    path = TARGET / f"{name}.safetensors"
    safetensors.numpy.save_file({key: numpy.ascontiguousarray(array) for key, array in stored.items()}, path)
    path.chmod(0o644)
    kept = ("causal", "window", "position", "key_lengths", "relative", "softcap", "scale")
    line = {"name": name, **{key: options[key] for key in kept if key in options}}
    return line, difference, int(empty.sum())


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    assert len(CASES) == 60, len(CASES)
    lines, worst, empty_rows = [], 0.0, 0
    for seed, (name, (sizes, options)) in enumerate(CASES.items()):
        line, difference, empty = write(seed, name, sizes, options)
        lines.append(json.dumps(line))
        worst = max(worst, difference)
        empty_rows += empty
    (TARGET / "cases.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in TARGET.iterdir())
    print(f"{len(lines)} cases, {empty_rows} rows without an allowed key, {size} bytes; "
          f"PyTorch's own functions within {worst:.1e}")


if __name__ == "__main__":
    main()
