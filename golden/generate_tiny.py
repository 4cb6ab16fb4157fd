#!/usr/bin/env python3
"""Writes golden/tiny/: a tiny model of each layout with random weights, and what Hugging Face transformers computes with it.

Needs the packages named in golden/README.md. Runs on the CPU in float32 with eager attention and one thread.
"""

import copy
import json
import pathlib
import shutil

import gguf
import numpy
import safetensors.numpy
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "golden" / "tiny"

CORPUS = [
    "The cat sat on the mat because it was tired.",
    "The capital of France is the city of Paris.",
    "The café owner sat in the city; it was unable to sleep.",
]
PIECES = ("[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on mat because it was un ##able tire ##d dog slept . , "
          "capital of france is city paris cafe owner in to sleep soft hard big small a b c ##s ##ing").split()
PLAIN_TEXT = "The cat sat on the mat because it was tired"
# A character of several bytes, digits, a character that no training text has.
BYTES_TEXT = "It was 42 °C in the café 😀, unable"


def word_pieces():
    """BERT's own steps. The vocabulary is fixed: training it breaks ties in another order each time."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(
        {piece: number for number, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(PIECES[:5])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def byte_pairs(special, post_processor=None, alphabet=()):
    """Byte-level BPE as in GPT-2; without an alphabet only the bytes of the corpus."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=len(alphabet) + 100, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False))
    if post_processor:
        tokenizer.post_processor = post_processor
    return tokenizer


def roberta_tokenizer():
    post = processors.RobertaProcessing(sep=("</s>", 2), cls_token=("<s>", 0), add_prefix_space=False)
    return byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], post)


def randomise(model, seed):
    """Weights large enough that attention is not uniform, biases and norms that are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name.lower() or "ln_" in name
            numbers = 1 + 0.1 * numbers if is_norm and name.endswith("weight") else 0.3 * numbers
            parameter.copy_(numbers.half())  # the files hold f16, and the model runs with what they hold
    return model.eval()


def expected(model, ids, mask):
    with torch.no_grad():
        result = model(input_ids=torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
    positions = [position for position, token in enumerate(ids) if token == mask] + [len(ids) - 1]
    tensors = {
        "input_ids": numpy.array(ids, dtype=numpy.int64),
        "positions": numpy.array(positions, dtype=numpy.int64),
        "logits": result.logits[0].numpy()[positions],
    }
    for number, hidden in enumerate(result.hidden_states):
        tensors[f"hidden.{number}"] = hidden[0].numpy()
    for layer, probs in enumerate(result.attentions):
        tensors[f"probs.{layer}"] = probs[0].numpy()
    return {name: numpy.ascontiguousarray(numbers) for name, numbers in tensors.items()}


def write(name, model, tokenizer, text):
    folder = TARGET / name
    # A copy, because the model's rotary frequencies are to stay f32.
    copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # json.dumps, because the library's own form is indented and several times as long.
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))
    finish(folder, model, tokenizer, text)


def finish(folder, model, tokenizer, text):
    encoding = tokenizer.encode(text)
    assert model.config._attn_implementation == "eager"
    mask = tokenizer.token_to_id("[MASK]") or tokenizer.token_to_id("<mask>")
    tensors = expected(model, encoding.ids, mask)
    safetensors.numpy.save_file(tensors, folder / "expected.safetensors", metadata={"text": text})
    for path in folder.iterdir():
        path.chmod(0o644)
    print(f"{folder.name}: {len(encoding.ids)} tokens, {sum(p.stat().st_size for p in folder.iterdir())} bytes")


def bert():
    tokenizer = word_pieces()
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=20, max_position_embeddings=32, attn_implementation="eager")
    model = randomise(transformers.BertForMaskedLM(config), 1)
    write("bert", model, tokenizer, "The cat sat on the [MASK] because it was tired")


def distilbert():
    tokenizer = word_pieces()
    config = transformers.DistilBertConfig(
        vocab_size=tokenizer.get_vocab_size(), dim=16, n_layers=2, n_heads=2, hidden_dim=20,
        max_position_embeddings=32, attn_implementation="eager")
    model = randomise(transformers.DistilBertForMaskedLM(config), 2)
    write("distilbert", model, tokenizer, "The [MASK] sat on the mat because it was [MASK]")


def roberta():
    tokenizer = roberta_tokenizer()
    config = transformers.RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=20, max_position_embeddings=40, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, layer_norm_eps=1e-5, attn_implementation="eager")
    model = randomise(transformers.RobertaForMaskedLM(config), 3)
    # A padding token in the middle stands at its own position.
    write("roberta", model, tokenizer, "The cat sat<pad> on the<mask> because it was tired")


def gpt2():
    tokenizer = byte_pairs(["<|endoftext|>"], alphabet=pre_tokenizers.ByteLevel.alphabet())
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_embd=16, n_layer=2, n_head=4, n_positions=48, n_inner=20,
        bos_token_id=0, eos_token_id=0, attn_implementation="eager")
    write("gpt2", randomise(transformers.GPT2LMHeadModel(config), 4), tokenizer, BYTES_TEXT)


def gpt2_scaled():
    tokenizer = byte_pairs(["<|endoftext|>"])
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_embd=16, n_layer=2, n_head=2, n_positions=48, n_inner=20,
        bos_token_id=0, eos_token_id=0, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False, attn_implementation="eager")
    write("gpt2_scaled", randomise(transformers.GPT2LMHeadModel(config), 5), tokenizer, PLAIN_TEXT)


def llama_config(vocab_size, **more):
    sizes = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
                 attn_implementation="eager")
    return transformers.LlamaConfig(vocab_size=vocab_size, **{**sizes, **more})


def llama(name, seed, **more):
    tokenizer = byte_pairs(["<|endoftext|>"])
    config = llama_config(tokenizer.get_vocab_size(), **more)
    write(name, randomise(transformers.LlamaForCausalLM(config), seed), tokenizer, PLAIN_TEXT)


def to_pairs(weight, heads):
    """Rows of each head from halves (i, i + d/2) to pairs (2i, 2i + 1): the order that GGUF files have."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def to_halves(weight, heads):
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    name = name.replace("model.layers.", "blk.")
    for theirs, ours in GGUF_NAMES.items():
        name = name.replace(theirs, ours)
    return name


def llama_gguf():
    """Every storage type that is read, in one file; the model runs with what they hold."""
    tokenizer = byte_pairs(["<|endoftext|>"], alphabet=pre_tokenizers.ByteLevel.alphabet())
    vocabulary = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    config = llama_config(len(tokens), hidden_size=32, intermediate_size=64, rope_theta=100000.0,
                          rms_norm_eps=1e-5, tie_word_embeddings=True)
    model = randomise(transformers.LlamaForCausalLM(config), 9)
    folder = TARGET / "llama_gguf"
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges([" ".join(pair) for pair in vocabulary["merges"]])
    writer.add_add_bos_token(False)
    types = gguf.GGMLQuantizationType
    kinds = [types.Q4_1, types.Q4_0, types.Q8_0, types.F16, types.BF16, types.F32]
    state = model.state_dict()
    quantised = 0
    for name, parameter in model.named_parameters():
        numbers = parameter.detach().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:
            numbers = to_pairs(numbers, heads)
        kind = types.F32
        if numbers.ndim == 2:
            kind = kinds[quantised % len(kinds)]
            quantised += 1
        data = gguf.quants.quantize(numbers, kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=kind)
        stored = gguf.quants.dequantize(data, kind).reshape(numbers.shape)
        if heads:
            stored = to_halves(stored, heads)
        state[name].copy_(torch.from_numpy(stored.copy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    finish(folder, model, tokenizer, BYTES_TEXT)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    bert()
    distilbert()
    roberta()
    gpt2()
    gpt2_scaled()
    llama("llama", 6, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=8,
        low_freq_factor=1.0, high_freq_factor=4.0))
    # Longer than its positions; sizes of heads that do not follow from the hidden size; biases.
    llama("llama_dynamic", 7, head_dim=6, attention_bias=True, mlp_bias=True, max_position_embeddings=8,
          rope_parameters=dict(rope_type="dynamic", rope_theta=500.0, factor=3.0))
    llama("llama_yarn", 8, num_key_value_heads=1, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16))
    llama_gguf()
    total = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    versions = {module.__name__: module.__version__.split("+")[0]
                for module in (torch, transformers, tokenizers, safetensors, numpy)}
    print(f"{total} bytes in all; {versions}")


if __name__ == "__main__":
    main()
