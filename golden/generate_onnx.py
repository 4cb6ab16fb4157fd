#!/usr/bin/env python3
"""generate_onnx.py OP_TYPE OUTDIR: writes the official ONNX node cases of one operator for a test to read.

Takes every node case of the installed package `onnx` whose model is a single node of that type (the
`_expanded` ones are graphs of other operators and are left out). For each it writes OUTDIR/<name>.safetensors
with `input.I` and `output.I`, I being the place in the operator's signature, absent optional ones left out, and
one entry of OUTDIR/cases.json: opset, attributes, rtol and atol, and each tensor's dtype and shape.
bfloat16 is stored as its bits in uint16; cases.json has the true dtype. Needs onnx, numpy and safetensors.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnx.numpy_helper
import safetensors.numpy
from onnx.backend.test.case.node import collect_testcases


def attribute(value):
    """An attribute as JSON: numbers and lists as they are, bytes as text."""
    return value.decode() if isinstance(value, bytes) else value


def as_array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else numpy.asarray(value)


def tensors(kind, names, values):
    """What to store, and how to describe it, of the inputs or outputs that are there."""
    present = [place for place, name in enumerate(names) if name]
    assert len(present) == len(values), (names, len(values))
    stored, described = {}, {}
    for place, value in zip(present, values):
        array = as_array(value)
        key, dtype = f"{kind}.{place}", array.dtype.name
        described[key] = {"name": names[place], "dtype": dtype, "shape": list(array.shape)}
        stored[key] = array.copy(order="C")
        if dtype == "bfloat16":
            stored[key] = stored[key].view(numpy.uint16)
    return stored, described


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    op_type, target = sys.argv[1], pathlib.Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.safetensors"):
        old.unlink()
    entries = []
    for case in collect_testcases(op_type):
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type != op_type:
            continue
        assert len(case.data_sets) == 1, case.name
        node = nodes[0]
        inputs, outputs = case.data_sets[0]
        stored_in, described_in = tensors("input", node.input, inputs)
        stored_out, described_out = tensors("output", node.output, outputs)
        name = case.name.removeprefix("test_")
        safetensors.numpy.save_file({**stored_in, **stored_out}, target / f"{name}.safetensors")
        entries.append({
            "name": name,
            "opset": next(entry.version for entry in case.model.opset_import if not entry.domain),
            "attributes": {a.name: attribute(onnx.helper.get_attribute_value(a)) for a in node.attribute},
            "rtol": case.rtol,
            "atol": case.atol,
            "tensors": {**described_in, **described_out},
        })
    if not entries:
        sys.exit(f"onnx {onnx.__version__} has no node case of {op_type}")
    entries.sort(key=lambda entry: entry["name"])
    assert len({entry["name"] for entry in entries}) == len(entries)
    document = {"onnx": onnx.__version__, "op_type": op_type, "cases": entries}
    (target / "cases.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(entries)} cases of {op_type} from onnx {onnx.__version__} in {target}")


if __name__ == "__main__":
    main()
