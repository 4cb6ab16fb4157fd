#!/usr/bin/env python3
"""PyTorch on the CPU: scaled_dot_product_attention, nn.MultiheadAttention, and torch.mm.

Called as its users call it: no gradients recorded in a forward, masks as booleans that exist before the call,
grouped heads by enable_gqa, need_weights=False, the layer in evaluation mode for a forward."""

import protocol

try:
    import torch

    missing = None
    DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
except ImportError:
    torch, missing = None, "PyTorch is missing"


def tensor(request, number, shape):
    return torch.from_numpy(protocol.tensor(request, number, shape)).to(DTYPES[request["dtype"]])


def allowed(request):
    """[seq_q, seq_kv] of booleans that say where a query may attend, of causal or window."""
    query = torch.arange(request["seq_q"]).unsqueeze(1)
    key = torch.arange(request["seq_kv"]).unsqueeze(0)
    keep = key <= query
    width = protocol.window(request)
    if width is not None:
        keep &= key > query - width
    return keep


def valid(request):
    """[batch, seq_kv] of booleans: keys within their sequence's length."""
    return torch.arange(request["seq_kv"]) < torch.tensor(protocol.key_lengths(request)).unsqueeze(1)


def attention(request):
    query, key, value = (
        tensor(request, number, shape)
        for number, shape in (
            (protocol.QUERY, protocol.query_shape(request)),
            (protocol.KEY, protocol.key_shape(request)),
            (protocol.VALUE, protocol.key_shape(request)),
        )
    )
    options = {}
    if request["mask"] == "causal":
        options["is_causal"] = True
    elif request["mask"] == "lengths":
        options["attn_mask"] = valid(request)[:, None, None, :]
    elif request["mask"] != "none":
        options["attn_mask"] = allowed(request)
    if request["heads"] != request["kv_heads"]:
        options["enable_gqa"] = True
    attend = torch.nn.functional.scaled_dot_product_attention
    if request["op"] != "forward_backward":

        def forward():
            with torch.inference_mode():
                return [attend(query, key, value, **options)]

        return forward, named("output")
    inputs = [x.requires_grad_() for x in (query, key, value)]
    cotangent = tensor(request, protocol.COTANGENT, protocol.query_shape(request))

    def both():
        output = attend(*inputs, **options)
        return [output, *torch.autograd.grad(output, inputs, cotangent)]

    return both, named("output", "d_query", "d_key", "d_value")


def layer(request):
    if request["heads"] != request["kv_heads"] or request["dtype"] != "f32":
        raise protocol.Refused("nn.MultiheadAttention is timed in f32, with as many key heads as query heads")
    dim, heads = protocol.model_dim(request), request["heads"]
    mha = torch.nn.MultiheadAttention(dim, heads, batch_first=True)
    *inner, (out_weight, out_bias) = protocol.layer_parameters(request)
    with torch.no_grad():
        mha.in_proj_weight.copy_(torch.cat([torch.from_numpy(weight) for weight, _ in inner]))
        mha.in_proj_bias.copy_(torch.cat([torch.from_numpy(bias) for _, bias in inner]))
        mha.out_proj.weight.copy_(torch.from_numpy(out_weight))
        mha.out_proj.bias.copy_(torch.from_numpy(out_bias))
    shape = (request["batch"], request["seq_q"], dim)
    x = tensor(request, protocol.INPUT, shape)
    # Here True forbids.
    options = {"need_weights": False}
    if request["mask"] == "lengths":
        options["key_padding_mask"] = ~valid(request)
    elif request["mask"] != "none":
        options["attn_mask"] = ~allowed(request)
        options["is_causal"] = request["mask"] == "causal"
    if request["op"] == "layer_forward":
        mha.eval()

        def forward():
            with torch.inference_mode():
                return [mha(x, x, x, **options)[0]]

        return forward, named("output")
    x.requires_grad_()
    cotangent = tensor(request, protocol.LAYER_COTANGENT, shape)
    inputs = [x, mha.in_proj_weight, mha.out_proj.weight, mha.in_proj_bias, mha.out_proj.bias]

    def both():
        output = mha(x, x, x, **options)[0]
        d_input, d_inner, d_out, _, _ = torch.autograd.grad(output, inputs, cotangent)
        return [output, d_input, *d_inner.chunk(3), d_out]

    names = (f"d_{name}_weight" for name in ("query", "key", "value", "output"))
    return both, named("output", "d_input", *names)


def product(request):
    left = tensor(request, protocol.QUERY, (request["seq_q"], request["head_dim"]))
    right = tensor(request, protocol.KEY, (request["head_dim"], request["seq_kv"]))

    def multiply():
        with torch.inference_mode():
            return [torch.mm(left, right)]

    return multiply, named("output")


def named(*names):
    """Turns the tensors that a call returned into flat arrays by name."""

    def results(tensors):
        return {name: x.detach().float().reshape(-1).numpy() for name, x in zip(names, tensors)}

    return results


def prepare(request):
    if request["op"] in ("forward", "decode", "forward_backward"):
        return attention(request)
    if request["op"].startswith("layer"):
        return layer(request)
    if request["op"] == "sgemm":
        return product(request)
    raise protocol.Refused(f"PyTorch does not do {request['op']}")


if __name__ == "__main__":
    name = "PyTorch" if missing else f"PyTorch {torch.__version__}"
    protocol.serve(name, prepare, lambda threads: torch.set_num_threads(threads), missing)
