"""What the Python workers share: the protocol, the inputs, the clock. The words are those of `regard-bench`'s
documentation, and so are the definitions."""

import argparse
import functools
import json
import math
import statistics
import struct
import sys
import time

try:
    import numpy as np
except ImportError:
    np = None

HINT = "pip install -r crates/regard-bench/peers/requirements.txt"

QUERY, KEY, VALUE, COTANGENT, INPUT = range(5)
WEIGHTS, BIASES, LAYER_COTANGENT = range(5, 9), range(9, 13), 13

OPS = (
    "forward",
    "forward_backward",
    "decode",
    "layer_forward",
    "layer_forward_backward",
    "statistics",
    "statistics_received",
    "sgemm",
)
SIZES = ("batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim")
FIELDS = {"op", *SIZES, "mask", "dtype", "threads", "seconds", "seed"}
LOADING_LEN = 64


class Refused(Exception):
    """Why a request is not answered by a time."""


def hashed(seed, tensor, first, count):
    """Elements `first` to `first + count` of a tensor, as float32."""
    index = np.arange(count, dtype=np.uint64)
    index += np.uint64((first + 1) % 2**64)
    index *= np.uint64(0x94D049BB133111EB)
    index += np.uint64((seed * 0x9E3779B97F4A7C15 + (tensor + 1) * 0xBF58476D1CE4E5B9) % 2**64)
    z = index
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    fields = z.view(np.uint16).reshape(count, 4).astype(np.float32)
    total = fields[:, 0] + fields[:, 1] + fields[:, 2] + fields[:, 3]  # below 2^24: exact
    return (total - np.float32(131070)) * np.float32(math.sqrt(3) / 65536)


@functools.lru_cache(maxsize=4)
def values(seed, tensor, count):
    """The first `count` elements of a tensor. Kept for the next round of the same case."""
    out = np.empty(count, dtype=np.float32)
    for first in range(0, count, 1 << 20):
        part = min(1 << 20, count - first)
        out[first : first + part] = hashed(seed, tensor, first, part)
    return out


def tensor(request, number, shape):
    """A tensor of inputs."""
    return values(request["seed"], number, math.prod(shape)).reshape(shape)


def layer_parameters(request):
    """[(weight, bias)] of query, key, value and output; weights are (out, in)."""
    dim = model_dim(request)
    scale = np.float32(1 / math.sqrt(dim))
    return [
        (tensor(request, w, (dim, dim)) * scale, tensor(request, b, (dim,)) * np.float32(0.1))
        for w, b in zip(WEIGHTS, BIASES)
    ]


def model_dim(request):
    return request["heads"] * request["head_dim"]


def query_shape(request):
    return tuple(request[name] for name in ("batch", "heads", "seq_q", "head_dim"))


def key_shape(request):
    return tuple(request[name] for name in ("batch", "kv_heads", "seq_kv", "head_dim"))


def key_lengths(request):
    """Valid keys of each sequence."""
    batch, seq = request["batch"], request["seq_kv"]
    return [seq - b * seq // (2 * batch) for b in range(batch)]


def window(request):
    """W of the mask window:W, else None."""
    name, _, width = request["mask"].partition(":")
    return int(width) if name == "window" else None


def sample_positions(total):
    return [(2 * k + 1) * total // 32 for k in range(16)]


def check(request):
    """Raises Refused where no worker could answer."""
    if not isinstance(request, dict) or set(request) != FIELDS:
        raise Refused(f"not a request: expected an object with exactly {sorted(FIELDS)}")
    integers = [request[name] for name in SIZES] + [request["threads"], request["seed"]]
    if not all(type(number) is int and number >= 0 for number in integers):
        raise Refused("not a request: sizes, threads and seed are whole numbers")
    if 0 in integers[:-1]:
        raise Refused("every size must be at least 1")
    if request["op"] not in OPS or request["dtype"] not in ("f32", "f16", "bf16"):
        raise Refused("not a request: unknown op or dtype")
    if not isinstance(request["seconds"], (int, float)) or not 0 <= request["seconds"] <= 3600:
        raise Refused("seconds must be from 0 to 3600")
    name, _, width = str(request["mask"]).partition(":")
    if name == "window":
        if not width.isdigit() or int(width) == 0:
            raise Refused("mask: window:W needs W from 1")
    elif request["mask"] not in ("none", "causal", "lengths"):
        raise Refused("mask: unknown")
    if request["heads"] % request["kv_heads"]:
        raise Refused("kv_heads does not divide heads")
    if request["op"].startswith("layer") and request["seq_q"] != request["seq_kv"]:
        raise Refused("a layer attends to its own input: seq_kv must be seq_q")
    if request["op"] == "sgemm":
        if request["mask"] != "none" or request["dtype"] != "f32":
            raise Refused("sgemm is f32 and has no mask")
        if [request[name] for name in ("batch", "heads", "kv_heads")] != [1, 1, 1]:
            raise Refused("sgemm is of two matrices: batch, heads and kv_heads must be 1")


def status_kib(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1])
    raise OSError(field)


def timed(seconds, call):
    """One untimed call, then timed ones; the rules are those of timing.rs. Returns the measurement and the last
    result."""
    before = None
    try:
        with open("/proc/self/clear_refs", "w") as record:
            record.write("5")
        before = status_kib("VmRSS:")
    except OSError:
        pass
    start = time.perf_counter()
    result = call()
    first = time.perf_counter() - start
    extra = None if before is None else max(0, status_kib("VmHWM:") - before) * 1024
    fewest = 1 if first > 4 * seconds else 3
    times = []
    begun = time.perf_counter()
    while len(times) < fewest or (fewest > 1 and time.perf_counter() - begun < seconds):
        result = None  # freed before the next call, as by a caller that has used it
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    measurement = {
        "median_s": statistics.median(times),
        "min_s": min(times),
        "runs": len(times),
        "peak_extra_bytes": extra,
    }
    return measurement, result


def measure(prepare, request):
    """`prepare(request)` returns (call, results): `call()` computes, `results(what it returned)` is a dict of flat
    float32 arrays in the protocol's order of elements."""
    call, results = prepare(request)
    measurement, result = timed(request["seconds"], call)
    samples = {}
    for name, array in results(result).items():
        numbers = [float(array[at]) for at in sample_positions(len(array))]
        if not all(map(math.isfinite, numbers)):
            raise Refused(f"{name} is not finite")
        samples[name] = numbers
    return measurement | {"samples": samples}


def value(seed, number, index):
    """One element, as the definition says it, in whole numbers."""
    z = seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xBF58476D1CE4E5B9 + (index + 1) * 0x94D049BB133111EB
    z %= 2**64
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 % 2**64
    z ^= z >> 27
    z = z * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    fields = sum(z >> shift & 0xFFFF for shift in (0, 16, 32, 48))
    (unit,) = struct.unpack("f", struct.pack("f", math.sqrt(3) / 65536))
    # The product of an 18-bit and a 24-bit number is exact in 64 bits; this rounds it once.
    return struct.unpack("f", struct.pack("f", (fields - 131070) * unit))[0]


def self_test():
    """The constants that inputs.rs checks too, and, with numpy, the arrays that workers use."""
    for seed, number, index, bits in GOLDEN:
        (expected,) = struct.unpack("f", struct.pack("I", bits))
        assert value(seed, number, index) == expected, (seed, number, index)
        assert np is None or float(hashed(seed, number, index, 1)[0]) == expected, (seed, number, index)
    if np is not None:
        several = hashed(1, VALUE, 12_340, 10)
        assert all(float(x) == value(1, VALUE, 12_340 + i) for i, x in enumerate(several))
    assert sample_positions(3200)[:3] == [100, 300, 500]
    assert key_lengths({"batch": 4, "seq_kv": 10}) == [10, 9, 8, 7]


GOLDEN = [
    (0, QUERY, 0, 0x3F74D930),
    (1, QUERY, 0, 0xBF93BDED),
    (1, VALUE, 12_345, 0xBEFA0D22),
    (7, LAYER_COTANGENT, 1 << 33, 0xC019E98F),
    (2**64 - 1, 12, 2**64 - 1, 0xBF207DFA),
]


def serve(engine, prepare, set_threads, missing=None):
    """Answers every line of stdin. `engine` is a name and version; `missing`, what keeps it from working."""
    parser = argparse.ArgumentParser(description=f"regard-bench worker: {engine}")
    parser.add_argument("--self-test", action="store_true", help="check the inputs' hash and exit")
    if parser.parse_args().self_test:
        self_test()
        print("ok")
        return
    threads = None
    for line in sys.stdin.buffer:
        try:
            if missing or np is None:
                raise Refused(f"{missing or 'numpy is missing'}: {HINT}")
            try:
                request = json.loads(line)
            except ValueError as error:
                raise Refused(f"not a request: {error}") from error
            check(request)
            if threads != request["threads"]:
                threads = request["threads"]
                set_threads(threads)
            small = {name: min(request[name], LOADING_LEN) for name in ("seq_q", "seq_kv")}
            measure(prepare, request | small | {"seconds": 0})  # loads code
            answer = measure(prepare, request) | {"engine": engine}
        except Refused as error:
            answer = {"error": str(error)}
        except Exception as error:  # a peer that raises has said no, in its way
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(answer), flush=True)
