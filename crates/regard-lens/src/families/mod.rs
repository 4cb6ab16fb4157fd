//! The kinds of models that run: which parts they have and what their files call them.

mod bert;
mod distilbert;
mod encoder_block;
mod fields;
mod gpt2;
mod llama;
#[cfg(feature = "gguf")]
mod llama_gguf;
mod rope;
mod tensors;

use std::path::Path;

use serde::Deserialize;

use self::bert::BertConfig;
use self::distilbert::DistilBertConfig;
use self::fields::Fields;
use self::gpt2::Gpt2Config;
use self::llama::LlamaConfig;
use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::Transformer;

/// A model's kind and sizes, within bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Architecture {
    /// BERT and RoBERTa.
    Bert(BertConfig),
    DistilBert(DistilBertConfig),
    Gpt2(Gpt2Config),
    Llama(LlamaConfig),
}

/// What all kinds have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) vocabulary_size: usize,
    /// The longest text in tokens.
    pub(crate) max_tokens: usize,
}

impl Architecture {
    /// Parses `config.json`; `path` is named in errors.
    pub(crate) fn parse(path: &Path, json: &[u8]) -> Result<Self, LensError> {
        // The kind of model first: another kind lacks the fields below, and that is not what is wrong with it.
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let fields = Fields { path };
        let kind: Kind = fields.parse(json)?;
        match kind.model_type.as_deref() {
            Some("bert") => BertConfig::parse(fields, json, false).map(Self::Bert),
            Some("roberta") => BertConfig::parse(fields, json, true).map(Self::Bert),
            Some("distilbert") => DistilBertConfig::parse(fields, json).map(Self::DistilBert),
            Some("gpt2") => Gpt2Config::parse(fields, json).map(Self::Gpt2),
            Some("llama") => LlamaConfig::parse(fields, json).map(Self::Llama),
            other => {
                let found = other.map_or("none".to_owned(), |other| format!("{other:?}"));
                let expected = "\"bert\", \"roberta\", \"distilbert\", \"gpt2\" or \"llama\"";
                Err(fields.refuse("model_type", expected, found))
            }
        }
    }

    pub(crate) fn outline(&self) -> Outline {
        match self {
            Self::Bert(config) => config.outline(),
            Self::DistilBert(config) => config.outline(),
            Self::Gpt2(config) => config.outline(),
            Self::Llama(config) => config.outline(),
        }
    }

    /// Reads the tensors.
    pub(crate) fn load(&self, source: &mut dyn TensorSource) -> Result<Transformer, LensError> {
        match self {
            Self::Bert(config) => config.load(source),
            Self::DistilBert(config) => config.load(source),
            Self::Gpt2(config) => config.load(source),
            Self::Llama(config) => config.load(source),
        }
    }
}
