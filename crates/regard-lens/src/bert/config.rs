//! `config.json` of a BERT model.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use super::activation::Activation;
use crate::error::LensError;

/// Sizes and choices of a BERT model, within bounds that keep every product of two of them far from overflow.
/// What is larger than its weights is found when the tensors are read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BertConfig {
    pub(crate) model_dim: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) feed_forward_dim: usize,
    pub(crate) vocabulary_size: usize,
    pub(crate) num_positions: usize,
    pub(crate) num_token_types: usize,
    pub(crate) layer_norm_eps: f64,
    pub(crate) activation: Activation,
}

/// The fields as Hugging Face names them; defaults are those of its `BertConfig`.
#[derive(Deserialize)]
struct ConfigFile {
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    intermediate_size: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    #[serde(default = "default_type_vocab_size")]
    type_vocab_size: u64,
    #[serde(default = "default_layer_norm_eps")]
    layer_norm_eps: f64,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn default_type_vocab_size() -> u64 {
    2
}

fn default_layer_norm_eps() -> f64 {
    1e-12
}

impl BertConfig {
    /// Parses `config.json`; `path` is named in errors.
    pub(crate) fn parse(path: &Path, json: &[u8]) -> Result<Self, LensError> {
        let config_error = |field, expected: &str, found: String| LensError::Config {
            path: path.to_owned(),
            field,
            expected: expected.to_owned(),
            found,
        };
        let json_error = |source| LensError::Json { path: path.to_owned(), source };
        // The kind of model first: another kind lacks the fields below, and that is not what is wrong with it.
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let kind: Kind = serde_json::from_slice(json).map_err(json_error)?;
        match kind.model_type.as_deref() {
            Some("bert") => {}
            Some(other) => {
                return Err(config_error(
                    "model_type",
                    "\"bert\", the family that runs so far",
                    format!("{other:?}"),
                ));
            }
            None => return Err(config_error("model_type", "\"bert\"", "none".to_owned())),
        }
        let file: ConfigFile = serde_json::from_slice(json).map_err(json_error)?;

        let positions = file.position_embedding_type.as_deref().unwrap_or("absolute");
        if positions != "absolute" {
            return Err(config_error("position_embedding_type", "\"absolute\"", format!("{positions:?}")));
        }
        if file.is_decoder {
            return Err(config_error("is_decoder", "false (an encoder)", "true".to_owned()));
        }
        let activation = file.hidden_act.as_deref().unwrap_or("gelu");
        let Some(activation) = Activation::by_name(activation) else {
            let expected = format!("one of {:?}", Activation::NAMES);
            return Err(config_error("hidden_act", &expected, format!("{activation:?}")));
        };
        if !(file.layer_norm_eps.is_finite() && file.layer_norm_eps >= 0.0) {
            let found = file.layer_norm_eps.to_string();
            return Err(config_error("layer_norm_eps", "a finite number, not negative", found));
        }
        let size = |field, value: u64, allowed: RangeInclusive<u64>| match usize::try_from(value) {
            Ok(size) if allowed.contains(&value) => Ok(size),
            _ => {
                let expected = format!("{} to {}", allowed.start(), allowed.end());
                Err(config_error(field, &expected, value.to_string()))
            }
        };
        let config = Self {
            model_dim: size("hidden_size", file.hidden_size, 1..=65_536)?,
            num_layers: size("num_hidden_layers", file.num_hidden_layers, 1..=1024)?,
            num_heads: size("num_attention_heads", file.num_attention_heads, 1..=1024)?,
            feed_forward_dim: size("intermediate_size", file.intermediate_size, 1..=1 << 20)?,
            vocabulary_size: size("vocab_size", file.vocab_size, 1..=1 << 24)?,
            num_positions: size("max_position_embeddings", file.max_position_embeddings, 1..=1 << 20)?,
            num_token_types: size("type_vocab_size", file.type_vocab_size, 1..=1024)?,
            layer_norm_eps: file.layer_norm_eps,
            activation,
        };
        if !config.model_dim.is_multiple_of(config.num_heads) {
            let expected = format!("a multiple of num_attention_heads ({})", config.num_heads);
            return Err(config_error("hidden_size", &expected, config.model_dim.to_string()));
        }
        Ok(config)
    }
}
