//! Self-attention as a part of a model: projections around [`regard_burn::attention`].

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};
use regard::position::RotaryPositions;
use regard::{AttentionConfig, Dropout, Mask, QueryPosition};

use super::{Architecture, Attention, Family, Pass};
use crate::error::TrainError;
use crate::random::{Purpose, number};

/// Projections to queries, keys and values, and back.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `[dim, heads · head_dim]`.
    pub query: Linear,
    /// `[dim, kv_heads · head_dim]`.
    pub key: Linear,
    /// `[dim, kv_heads · head_dim]`.
    pub value: Linear,
    /// `[heads · head_dim, dim]`.
    pub output: Linear,
}

impl SelfAttention {
    pub(super) fn new(architecture: &Architecture, device: &Device) -> Self {
        let (dim, head_dim) = (architecture.dim, architecture.head_dim());
        let bias = architecture.family == Family::Bert;
        let linear = |input, output| LinearConfig::new(input, output).with_bias(bias).init(device);
        Self {
            query: linear(dim, architecture.heads * head_dim),
            key: linear(dim, architecture.kv_heads * head_dim),
            value: linear(dim, architecture.kv_heads * head_dim),
            output: linear(architecture.heads * head_dim, dim),
        }
    }

    /// `[batch_size, seq_len, dim]` to the same.
    pub(super) fn forward(
        &self,
        input: Tensor<3>,
        (architecture, layer): (&Architecture, usize),
        rotary: Option<&RotaryPositions>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor<3>, TrainError> {
        let [batch_size, seq_len, _] = input.dims();
        let heads = |tensor: Tensor<3>, heads: usize| {
            tensor.reshape([batch_size, seq_len, heads, architecture.head_dim()]).swap_dims(1, 2)
        };
        let mut query = heads(self.query.forward(input.clone()), architecture.heads);
        let mut key = heads(self.key.forward(input.clone()), architecture.kv_heads);
        let value = heads(self.value.forward(input), architecture.kv_heads);
        let failed = |error: regard_burn::Error| TrainError::Attention(error.to_string());
        if let Some(rotary) = rotary {
            query = regard_burn::rotate(query, rotary, 0).map_err(failed)?;
            key = regard_burn::rotate(key, rotary, 0).map_err(failed)?;
        }
        if let Some(seen) = &mut pass.seen {
            seen.push([query.clone(), key.clone()]);
        }
        let plain = pass.dropout.is_none()
            && pass.lens.iter().all(|&len| len == seq_len)
            && architecture.kv_heads == architecture.heads;
        if pass.attention != Attention::Regard && !plain {
            let problem =
                "expected equal lengths, as many key heads as heads and no dropout for other attentions";
            return Err(TrainError::Attention(problem.to_owned()));
        }
        let output = match pass.attention {
            Attention::Regard => {
                let config = config(architecture.family, layer, pass);
                regard_burn::attention(query, key, value, None, &config).map_err(failed)?
            }
            Attention::Burn => {
                let is_causal = architecture.family == Family::Llama;
                let options = AttentionModuleOptions { is_causal, ..AttentionModuleOptions::default() };
                burn::tensor::module::attention(query, key, value, None, None, options)
            }
            Attention::Nobody => value,
        };
        Ok(self.output.forward(output.swap_dims(1, 2).reshape([batch_size, seq_len, architecture.dim])))
    }
}

/// What a family attends to, in the texts of a pass.
fn config<'a>(family: Family, layer: usize, pass: &Pass<'a>) -> AttentionConfig<'a> {
    let mask = match family {
        Family::Bert => Mask::default(),
        Family::Llama => Mask::causal(QueryPosition::TopLeft),
    };
    let mut config = AttentionConfig::new().with_mask(mask.with_key_lengths(pass.lens));
    if let Some((rate, seed, step)) = pass.dropout {
        config = config.with_dropout(Dropout::new(rate, number(seed, Purpose::Dropout, step, layer as u64)));
    }
    config
}
