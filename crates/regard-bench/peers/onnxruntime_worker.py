#!/usr/bin/env python3
"""ONNX Runtime on the CPU: one operator in one model, run by a session.

MultiHeadAttention of com.microsoft, which it optimises most (rows of all heads side by side, as it wants them),
where it has the mask and as many key heads as query heads; else Attention of ONNX's own opset 23."""

import protocol

try:
    import numpy as np
    import onnx
    import onnxruntime

    missing = None
except ImportError:
    onnxruntime, missing = None, "ONNX Runtime (with onnx and numpy) is missing"

ONNX_OPSET, CONTRIB_OPSET, IR_VERSION = 23, 1, 10
session_threads = 1


def session(node, feeds):
    helper = onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in feeds.items()
    ]
    element = helper.np_dtype_to_tensor_dtype(feeds["query"].dtype)
    output = helper.make_tensor_value_info("output", element, None)
    opsets = [helper.make_opsetid("", ONNX_OPSET), helper.make_opsetid("com.microsoft", CONTRIB_OPSET)]
    graph = helper.make_graph([node], "attention", inputs, [output])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = session_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def allowed(request):
    """[seq_q, seq_kv] of booleans that say where a query may attend, of a window."""
    query, key = np.arange(request["seq_q"])[:, None], np.arange(request["seq_kv"])[None, :]
    return (key <= query) & (key > query - protocol.window(request))


def prepare(request):
    if request["op"] not in ("forward", "decode") or request["dtype"] == "bf16":
        raise protocol.Refused(f"ONNX Runtime does not do {request['op']} in {request['dtype']} here")
    element = np.float16 if request["dtype"] == "f16" else np.float32
    shapes = {"query": protocol.query_shape(request)}
    shapes |= {name: protocol.key_shape(request) for name in ("key", "value")}
    feeds = {
        name: protocol.tensor(request, number, shapes[name]).astype(element)
        for number, name in ((protocol.QUERY, "query"), (protocol.KEY, "key"), (protocol.VALUE, "value"))
    }
    mask, heads = request["mask"], request["heads"]
    level = request["seq_q"] == request["seq_kv"]
    contrib = heads == request["kv_heads"] and (mask in ("none", "lengths") or (mask == "causal" and level))
    names = list(feeds)
    if contrib:
        feeds = {name: side_by_side(x) for name, x in feeds.items()}
        if mask == "lengths":
            names += ["", "lengths"]  # no bias of the projections
            feeds["lengths"] = np.array(protocol.key_lengths(request), dtype=np.int32)
        options = {"domain": "com.microsoft", "num_heads": heads, "unidirectional": int(mask == "causal")}
        node = onnx.helper.make_node("MultiHeadAttention", names, ["output"], **options)
    else:
        if protocol.window(request) is not None:
            names.append("mask")
            feeds["mask"] = allowed(request)
        elif mask == "lengths":
            names.append("mask")
            keys = np.arange(request["seq_kv"]) < np.array(protocol.key_lengths(request))[:, None]
            shape = (request["batch"], 1, request["seq_q"], request["seq_kv"])
            feeds["mask"] = np.ascontiguousarray(np.broadcast_to(keys[:, None, None, :], shape))
        node = onnx.helper.make_node("Attention", names, ["output"], is_causal=int(mask == "causal"))
    running = session(node, feeds)

    def results(outputs):
        output = outputs[0]
        if contrib:
            batch, _, seq, dim = shapes["query"]
            output = output.reshape(batch, seq, heads, dim).transpose(0, 2, 1, 3)
        return {"output": output.astype(np.float32).reshape(-1)}

    return lambda: running.run(None, feeds), results


def side_by_side(x):
    """[batch, heads, seq, dim] to [batch, seq, heads · dim]."""
    batch, heads, seq, dim = x.shape
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(batch, seq, heads * dim)


def set_threads(threads):
    global session_threads
    session_threads = threads


if __name__ == "__main__":
    name = "ONNX Runtime" if missing else f"ONNX Runtime {onnxruntime.__version__}"
    protocol.serve(name, prepare, set_threads, missing)
