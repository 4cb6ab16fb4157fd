#!/usr/bin/env python3
"""Writes golden/trained/: what Hugging Face transformers computes with models that `regard-train` has trained: the built-in
one (crates/regard-lens/builtin), and a tiny Llama, golden/trained/llama, which is made so:

    cargo run --release -p regard-train -- fit --objective causal --sentences 1 --layers 2 --heads 4 --kv-heads 2 --dim 16 \\
        --vocab 700 --positions 64 --seq-len 32 --steps 60 --out target/trained-llama
    mkdir -p golden/trained/llama && cp target/trained-llama/*.safetensors target/trained-llama/{config,tokenizer}.json golden/trained/llama

transformers loads both directories as they are, and must neither miss a parameter nor find one too many. Needs the
packages named in golden/README.md. Runs on the CPU in float32 with eager attention and one thread.
"""

import pathlib

import safetensors.numpy
import torch
import transformers

from generate_tiny import expected

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "golden" / "trained"
MODELS = [
    ("builtin", ROOT / "crates" / "regard-lens" / "builtin", transformers.BertForMaskedLM,
     "The cat sat on the [MASK] because it was tired, and the unaffable café owner laughed."),
    ("llama", TARGET / "llama", transformers.LlamaForCausalLM, "The cat sat on the mat because it was tired."),
]


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    for name, folder, kind, text in MODELS:
        model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        wrong = {what: found for what, found in info.items() if found}
        assert not wrong, wrong
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        ids = tokenizer(text)["input_ids"]
        mask = tokenizer.convert_tokens_to_ids("[MASK]") if name == "builtin" else None
        tensors = expected(model.eval(), ids, mask)
        (TARGET / name).mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(tensors, TARGET / name / "expected.safetensors", metadata={"text": text})
        print(f"{name}: {type(model).__name__}, {len(ids)} tokens, {sum(p.numel() for p in model.parameters())} parameters")
        if name == "builtin":
            words = model(input_ids=torch.tensor([ids])).logits[0, ids.index(mask)].topk(5).indices
            print("the mask:", tokenizer.convert_ids_to_tokens(words))


if __name__ == "__main__":
    main()
