#!/usr/bin/env python3
"""Writes golden/minilm/: what Hugging Face transformers computes with all-MiniLM-L6-v2 on six texts.

Needs models/all-MiniLM-L6-v2 (scripts/fetch-minilm) and the packages named in golden/README.md.
Runs on the CPU in float32 with eager attention and one thread. It also prints, for each text, how far away
the same model in float64 is, and what the token "it" attends to in the two cat sentences.
"""

import hashlib
import json
import pathlib
import shutil

import numpy
import safetensors
import safetensors.numpy
import tokenizers
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "all-MiniLM-L6-v2"
TARGET = ROOT / "golden" / "minilm"

SOME_HEADS = [(0, 2), (2, 7), (3, 1), (5, 11)]  # layer and head, both from 0
ALL_HEADS = [(layer, head) for layer in range(6) for head in range(12)]

# name, text, heads whose probabilities are kept
TEXTS = [
    ("hi", "Hi", SOME_HEADS),
    ("cat_tired", "The cat sat on the mat because it was tired", ALL_HEADS),
    ("cat_soft", "The cat sat on the mat because it was soft", ALL_HEADS),
    (
        "accents",
        "The naïve café owner wasn't unaffable: \"Déjà vu,\" she said, "
        "re-reading the unputdownable e-mail.",
        SOME_HEADS,
    ),
    (
        "storm",
        "When the storm had passed, the fishermen pulled their boats back onto the beach and counted the "
        "nets. One of them was missing, and nobody could remember who had tied it.",
        SOME_HEADS,
    ),
    (
        "library",
        "The library opened at nine, but Mara was already waiting on the front steps with a list of "
        "questions. She had found an old map folded inside a cookbook, and it showed a road that no longer "
        "existed. The librarian spread it across the table and held the corners down with dictionaries. He "
        "said that the river had moved twice in the last century, and that the village on the map had moved "
        "with it. Mara traced the blue line with her finger. If he was right, her grandmother's house had "
        "not vanished at all; it was simply on the other bank.",
        SOME_HEADS,
    ),
]


def load_tokenizer():
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.no_truncation()  # the file switches on truncation at, and padding to, 128 tokens
    tokenizer.no_padding()
    return tokenizer


def load_model(dtype):
    model = transformers.BertModel.from_pretrained(MODEL, attn_implementation="eager", dtype=dtype)
    return model.eval()


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def byte_offsets(text, offsets):
    """From Python's character positions to positions in the UTF-8 bytes."""
    return [[len(text[:position].encode()) for position in pair] for pair in offsets]


def write_json(document, path):
    """Indented JSON whose lists of numbers and tokens run on, wrapped, so that the file can be read."""
    blocks = {}
    for entry in document["texts"]:
        for key in ("ids", "tokens", "offsets", "char_offsets"):
            marker = f"\0{len(blocks)}\0"
            items = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in entry[key]]
            lines = [8 * " "]
            for item in items:
                if len(lines[-1]) + len(item) > 108:
                    lines.append(8 * " ")
                lines[-1] += item + ", "
            body = "\n".join(line.rstrip() for line in lines).rstrip(",")
            blocks[json.dumps(marker)] = f"[\n{body}\n      ]"
            entry[key] = marker
    text = json.dumps(document, ensure_ascii=False, indent=2)
    for marker, block in blocks.items():
        text = text.replace(marker, block)
    path.write_text(text + "\n", encoding="utf-8")


def run(model, ids):
    with torch.no_grad():
        result = model(input_ids=torch.tensor([ids]), output_attentions=True)
    hidden = result.last_hidden_state[0].numpy()
    probs = numpy.stack([layer[0].numpy() for layer in result.attentions])
    return hidden, probs


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = load_tokenizer()
    model, model64 = load_model(torch.float32), load_model(torch.float64)
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()

    entries, kept = [], {}
    for name, text, heads in TEXTS:
        encoding = tokenizer.encode(text)
        hidden, probs = run(model, encoding.ids)
        hidden64, probs64 = run(model64, encoding.ids)
        assert hidden.dtype == probs.dtype == numpy.float32 and hidden64.dtype == numpy.float64
        assert "[PAD]" not in encoding.tokens
        kept[name] = encoding.tokens, probs

        tensors = {"input_ids": numpy.array(encoding.ids, dtype=numpy.int64), "last_hidden_state": hidden}
        for layer, head in heads:
            tensors[f"probs.L{layer}.H{head}"] = numpy.ascontiguousarray(probs[layer, head])
        path = TARGET / f"{name}.safetensors"
        safetensors.numpy.save_file(tensors, path)
        path.chmod(0o644)

        entries.append({
            "name": name,
            "text": text,
            "ids": encoding.ids,
            "tokens": encoding.tokens,
            "offsets": byte_offsets(text, encoding.offsets),
            "char_offsets": [list(pair) for pair in encoding.offsets],
        })
        print(f"{name}: {len(encoding.ids)} tokens; float32 against float64: hidden states "
              f"{abs(hidden - hidden64).max():.1e} (of {abs(hidden64).max():.1f}), "
              f"probabilities {abs(probs - probs64).max():.1e}")

    document = {
        "provenance": {
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "model_licence": "Apache-2.0",
            "model_safetensors_sha256": sha256_of(MODEL / "model.safetensors"),
            "tokenizer_json_sha256": sha256_of(MODEL / "tokenizer.json"),
            "packages": {
                module.__name__: module.__version__.split("+")[0]
                for module in (torch, transformers, tokenizers, safetensors, numpy)
            },
            "computed": "CPU, float32, eager attention, one thread; truncation and padding off",
            "offsets": "[start, end) of each token: offsets in UTF-8 bytes, char_offsets in characters",
        },
        "texts": entries,
    }
    write_json(document, TARGET / "texts.json")

    for name in ("cat_tired", "cat_soft"):
        tokens, probs = kept[name]
        it, cat, mat = (tokens.index(word) for word in ("it", "cat", "mat"))
        for layer, head in ((3, 1), (5, 11)):
            row, column = probs[layer, head][it], probs[layer, head][:, cat]
            others = numpy.delete(column, [0, cat, it, len(tokens) - 1]).mean()
            print(f"{name} L{layer}.H{head}: it->cat {row[cat]:.4f}, it->mat {row[mat]:.4f}, "
                  f"the other words->cat {others:.4f} on average")


if __name__ == "__main__":
    main()
