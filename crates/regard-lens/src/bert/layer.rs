//! One layer of the encoder.

use regard::layer::{Linear, MultiHeadAttention};
use regard::{AttentionConfig, Workspace};

use super::activation::Activation;
use super::config::BertConfig;
use super::layer_norm::LayerNorm;
use crate::error::LensError;
use crate::files::Weights;
use crate::observer::{AttentionObserver, LayerAttention};

/// x ← norm(x + attention(x)); x ← norm(x + feed_forward(x)).
#[derive(Debug)]
pub(super) struct BertLayer {
    attention: MultiHeadAttention,
    attention_norm: LayerNorm,
    up: Linear,
    activation: Activation,
    down: Linear,
    output_norm: LayerNorm,
}

impl BertLayer {
    /// The layer whose tensors' names start with `prefix`.
    pub(super) fn load(weights: &mut Weights, prefix: &str, config: &BertConfig) -> Result<Self, LensError> {
        let (dim, inner) = (config.model_dim, config.feed_forward_dim);
        let eps = config.layer_norm_eps;
        let query = linear(weights, &format!("{prefix}.attention.self.query"), dim, dim)?;
        let key = linear(weights, &format!("{prefix}.attention.self.key"), dim, dim)?;
        let value = linear(weights, &format!("{prefix}.attention.self.value"), dim, dim)?;
        let output = linear(weights, &format!("{prefix}.attention.output.dense"), dim, dim)?;
        let heads = [config.num_heads, config.num_heads];
        Ok(Self {
            attention: MultiHeadAttention::new(query, key, value, output, heads)?,
            attention_norm: LayerNorm::load(
                weights,
                &format!("{prefix}.attention.output.LayerNorm"),
                dim,
                eps,
            )?,
            up: linear(weights, &format!("{prefix}.intermediate.dense"), dim, inner)?,
            activation: config.activation,
            down: linear(weights, &format!("{prefix}.output.dense"), inner, dim)?,
            output_norm: LayerNorm::load(weights, &format!("{prefix}.output.LayerNorm"), dim, eps)?,
        })
    }

    /// Runs layer number `layer` in place over hidden states `[seq_len, model_dim]`.
    pub(super) fn forward(
        &self,
        layer: usize,
        hidden: &mut [f32],
        workspace: &mut Workspace,
        observer: &mut dyn AttentionObserver,
    ) -> Result<(), LensError> {
        let config = AttentionConfig::new();
        let seq_len = hidden.len() / self.down.out_features();
        let projection = self.attention.project(hidden, [1, seq_len], config.parallelism)?;
        let attended = projection.attend(&config, workspace)?;
        observer.layer(&LayerAttention {
            layer,
            query: projection.query(),
            key: projection.key(),
            value: projection.value(),
            output: attended.view(),
            log_sum_exp: attended.log_sum_exp(),
            config,
        })?;
        add(hidden, &self.attention.project_output(&attended, config.parallelism)?);
        self.attention_norm.apply(hidden);

        let mut inner = vec![0.0; seq_len * self.up.out_features()];
        self.up.forward(hidden, &mut inner, config.parallelism)?;
        self.activation.apply(&mut inner);
        let mut output = vec![0.0; hidden.len()];
        self.down.forward(&inner, &mut output, config.parallelism)?;
        add(hidden, &output);
        self.output_norm.apply(hidden);
        Ok(())
    }
}

/// `{name}.weight` `[out_features, in_features]` and `{name}.bias` `[out_features]`.
fn linear(
    weights: &mut Weights,
    name: &str,
    in_features: usize,
    out_features: usize,
) -> Result<Linear, LensError> {
    let weight = weights.read(&format!("{name}.weight"), &[out_features, in_features])?;
    let bias = weights.read(&format!("{name}.bias"), &[out_features])?;
    Ok(Linear::new(weight, Some(bias), in_features, out_features)?)
}

fn add(sum: &mut [f32], more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
