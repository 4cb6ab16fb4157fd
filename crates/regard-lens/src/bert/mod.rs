//! Encoders of the BERT family (Devlin et al. 2018): embeddings, then layers of self-attention and
//! feed-forward network, each followed by a residual sum and a layer norm.

mod activation;
mod config;
mod encoder;
mod layer;
mod layer_norm;

pub(crate) use config::BertConfig;
pub(crate) use encoder::BertEncoder;
