//! A Llama as a GGUF file describes it.

use std::path::Path;

use regard::position::{RotaryPairs, RotaryScaling};

use super::Architecture;
use super::fields::{FEED_FORWARD_DIMS, Fields, HEADS, LAYERS, MODEL_DIMS, VOCABULARIES};
use super::llama::{LlamaConfig, Names};
use super::rope::Rope;
use crate::error::LensError;
use crate::gguf::{Metadata, OtherType};
use crate::transformer::Activation;

static NAMES: Names = Names {
    prefix: "",
    words: "token_embd",
    layers: "blk",
    num_layers: "llama.block_count",
    attention_norm: "attn_norm",
    query: "attn_q",
    key: "attn_k",
    value: "attn_v",
    output: "attn_output",
    feed_forward_norm: "ffn_norm",
    gate: "ffn_gate",
    up: "ffn_up",
    down: "ffn_down",
    final_norm: "output_norm",
    decoder: "output",
};

impl Architecture {
    /// What a GGUF file describes by its metadata, and by whether it has a decoder of its own; `path` is named in
    /// errors.
    pub(crate) fn from_gguf(
        path: &Path,
        metadata: &Metadata,
        has_tensor: impl Fn(&str) -> bool,
    ) -> Result<Self, LensError> {
        let has_decoder = has_tensor(&format!("{}.weight", NAMES.decoder));
        let file = File { fields: Fields { path }, metadata, has_decoder };
        let architecture = file.text("general.architecture")?;
        if architecture != Some("llama") {
            let found = format!("{:?}", architecture.unwrap_or("none"));
            return Err(file.fields.refuse("general.architecture", "\"llama\"", found));
        }
        file.llama().map(Self::Llama)
    }
}

/// The metadata with the errors of a configuration.
struct File<'a> {
    fields: Fields<'a>,
    metadata: &'a Metadata,
    has_decoder: bool,
}

impl File<'_> {
    fn llama(&self) -> Result<LlamaConfig, LensError> {
        let fields = self.fields;
        let size = |key, allowed| {
            let number = self.integer(key)?.ok_or_else(|| fields.refuse(key, "a number", "none"))?;
            fields.size(key, number, allowed)
        };
        let model_dim = size("llama.embedding_length", MODEL_DIMS)?;
        let num_heads = size("llama.attention.head_count", HEADS)?;
        let num_kv_heads = match self.integer("llama.attention.head_count_kv")? {
            Some(heads) => fields.size("llama.attention.head_count_kv", heads, HEADS)?,
            None => num_heads,
        };
        fields.divisible(
            ("llama.attention.head_count", num_heads),
            ("llama.attention.head_count_kv", num_kv_heads),
        )?;
        let head_dim = match self.integer("llama.attention.key_length")? {
            Some(head_dim) => fields.size("llama.attention.key_length", head_dim, 1..=4096)?,
            None => {
                let heads = ("llama.attention.head_count", num_heads);
                fields.divisible(("llama.embedding_length", model_dim), heads)?;
                model_dim / num_heads
            }
        };
        self.expect_size("llama.attention.value_length", head_dim)?;
        self.expect_size("llama.rope.dimension_count", head_dim)?;
        let vocabulary_size = match self.integer("llama.vocab_size")? {
            Some(size) => size,
            None => self.metadata.num_texts("tokenizer.ggml.tokens").unwrap_or(0) as u64,
        };
        let eps = "llama.attention.layer_norm_rms_epsilon";
        let norm_eps = self.float(eps)?.ok_or_else(|| fields.refuse(eps, "a number", "none"))?;
        Ok(LlamaConfig {
            model_dim,
            num_layers: size("llama.block_count", LAYERS)?,
            num_heads,
            num_kv_heads,
            head_dim,
            feed_forward_dim: size("llama.feed_forward_length", FEED_FORWARD_DIMS)?,
            vocabulary_size: fields.size("llama.vocab_size", vocabulary_size, VOCABULARIES)?,
            max_tokens: size("llama.context_length", 1..=1 << 24)?,
            norm_eps: fields.eps(eps, norm_eps)?,
            activation: Activation::Silu,
            rope: self.rope()?,
            attention_bias: false,
            feed_forward_bias: false,
            is_tied: !self.has_decoder,
            names: &NAMES,
        })
    }

    fn rope(&self) -> Result<Rope, LensError> {
        let kind = "llama.rope.scaling.type";
        let factor = "llama.rope.scaling.factor";
        let scaling = match self.text(kind)?.unwrap_or("none") {
            "none" => RotaryScaling::None,
            "linear" => RotaryScaling::Linear {
                factor: self.float(factor)?.ok_or_else(|| self.fields.refuse(factor, "a number", "none"))?,
            },
            other => {
                return Err(self.fields.refuse(kind, "\"none\" or \"linear\"", format!("{other:?}")));
            }
        };
        let base = self.float("llama.rope.freq_base")?.unwrap_or(10_000.0);
        // The converters turn the rows of queries and keys from halves to pairs.
        Ok(Rope { base, pairs: RotaryPairs::Interleaved, scaling })
    }

    /// Refuses a size that differs from one that is known, if it is given.
    fn expect_size(&self, key: &'static str, expected: usize) -> Result<(), LensError> {
        match self.integer(key)? {
            Some(found) if found != expected as u64 => Err(self.fields.refuse(key, expected, found)),
            _ => Ok(()),
        }
    }

    fn integer(&self, key: &'static str) -> Result<Option<u64>, LensError> {
        self.metadata.integer(key).map_err(|other| self.other(key, other))
    }

    fn float(&self, key: &'static str) -> Result<Option<f64>, LensError> {
        self.metadata.float(key).map_err(|other| self.other(key, other))
    }

    fn text(&self, key: &'static str) -> Result<Option<&str>, LensError> {
        self.metadata.text(key).map_err(|other| self.other(key, other))
    }

    fn other(&self, key: &'static str, OtherType { expected, found }: OtherType) -> LensError {
        self.fields.refuse(key, expected, found)
    }
}
