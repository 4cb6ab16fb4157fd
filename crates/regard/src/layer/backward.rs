//! The backward pass of multi-head attention: its steps in reverse order.

use std::ops::Range;

use super::linear::{Linear, LinearGradients};
use super::multi_head_attention::{MultiHeadAttention, PARAMETERS};
use super::projection::{Attended, Projection};
use crate::config::AttentionConfig;
use crate::error::AttentionError;
use crate::gradients::{AttentionGradients, BackwardInputs, attention_backward};
use crate::kernel::{Workspace, zeroed};
use crate::parallelism::Parallelism;
use crate::shape::expect;
use crate::view::{Layout, TensorView, TensorViewMut, checked_product};

/// What a forward pass through [`MultiHeadAttention`] read and kept, for its backward pass.
#[derive(Debug, Clone, Copy)]
pub struct ForwardPass<'a> {
    /// `[batch_size, seq_len_q, model_dim]`.
    pub input: &'a [f32],
    /// What keys and values were projected from, `[batch_size, seq_len_kv, kv_model_dim]`; `None` in
    /// self-attention, where it is the input.
    pub memory: Option<&'a [f32]>,
    /// The first step's result, rotated if it was.
    pub projection: &'a Projection,
    /// The second step's result.
    pub attended: &'a Attended,
}

/// Where [`MultiHeadAttention::backward`] writes the gradients of what the configuration holds; what is `None` is
/// not computed, everything else is overwritten.
#[derive(Debug, Default)]
pub struct OptionGradients<'a> {
    /// In the shape of the configuration's `attention_bias`: summed over its axes of size 1.
    pub d_attention_bias: Option<TensorViewMut<'a, f32>>,
    /// In the shape of the table of the configuration's `relative_bias`.
    pub d_relative_bias: Option<&'a mut [f32]>,
    /// `[num_heads]`, for the configuration's `sinks`.
    pub d_sinks: Option<&'a mut [f32]>,
}

/// Derivatives of the loss by one projection's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionGradients {
    /// `[out_features, in_features]`, row-major.
    pub d_weight: Vec<f32>,
    /// `[out_features]`; `None` for a projection without a bias.
    pub d_bias: Option<Vec<f32>>,
}

impl ProjectionGradients {
    fn zeros(out_features: usize, in_features: usize, has_bias: bool) -> Result<Self, AttentionError> {
        let d_weight = zeroed(checked_product(&[out_features, in_features], "d_weight")?)?;
        Ok(Self { d_weight, d_bias: has_bias.then(|| zeroed(out_features)).transpose()? })
    }

    fn sinks<'a>(&'a mut self, d_input: &'a mut [f32]) -> LinearGradients<'a> {
        LinearGradients {
            d_input: Some(d_input),
            d_weight: Some(&mut self.d_weight),
            d_bias: self.d_bias.as_deref_mut(),
        }
    }
}

/// Derivatives of the loss by everything that [`MultiHeadAttention`] computes from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MultiHeadAttentionGradients {
    /// `[batch_size, seq_len_q, model_dim]`; in self-attention, all that the input does as query, key and value.
    pub d_input: Vec<f32>,
    /// `[batch_size, seq_len_kv, kv_model_dim]`; `None` in self-attention.
    pub d_memory: Option<Vec<f32>>,
    /// Of the query projection, `[num_heads · head_dim, model_dim]`.
    pub query: ProjectionGradients,
    /// Of the key projection, `[num_kv_heads · head_dim, kv_model_dim]`.
    pub key: ProjectionGradients,
    /// Of the value projection, `[num_kv_heads · value_head_dim, kv_model_dim]`.
    pub value: ProjectionGradients,
    /// Of the output projection, `[out_features, num_heads · value_head_dim]`.
    pub output: ProjectionGradients,
}

impl MultiHeadAttentionGradients {
    /// The gradient of every weight and bias, with the names and in the order of
    /// [`MultiHeadAttention::parameters_mut`].
    pub fn parameters(&self) -> Vec<(&'static str, &[f32])> {
        let parts = [&self.query, &self.key, &self.value, &self.output].into_iter().zip(PARAMETERS);
        parts
            .flat_map(|(part, names)| {
                let both = [Some(part.d_weight.as_slice()), part.d_bias.as_deref()];
                both.into_iter().zip(names).filter_map(|(gradient, name)| Some((name, gradient?)))
            })
            .collect()
    }
}

impl MultiHeadAttention {
    /// The gradients of a forward pass: of its input (and memory), and of every weight and bias.
    ///
    /// `d_output`, `[batch_size, seq_len_q, out_features]`, is the derivative of the loss by what
    /// [`Self::project_output`] returned. The configuration is that of the forward pass, the seed of its dropout
    /// included; where [`Projection::rotate`] turned queries and keys, their gradients are turned back. The bits do
    /// not depend on the number of threads.
    ///
    /// ```
    /// use regard::layer::{ForwardPass, Linear, MultiHeadAttention, OptionGradients};
    /// use regard::{AttentionConfig, Workspace};
    ///
    /// let linear = |seed: f32| {
    ///     let weight = (0..16).map(|i| (i as f32 + seed).sin()).collect();
    ///     Linear::new(weight, Some(vec![0.0; 4]), 4, 4)
    /// };
    /// let mut layer = MultiHeadAttention::new(linear(1.0)?, linear(2.0)?, linear(3.0)?, linear(4.0)?, [2, 2])?;
    /// let (config, mut workspace) = (AttentionConfig::new(), Workspace::new());
    /// let input = vec![0.5; 3 * 4]; // one sequence of three positions
    ///
    /// let projection = layer.project(&input, [1, 3], config.parallelism)?;
    /// let attended = projection.attend(&config, &mut workspace)?;
    /// let output = layer.project_output(&attended, config.parallelism)?;
    ///
    /// let d_output = output; // of half the sum of squares
    /// let pass = ForwardPass { input: &input, memory: None, projection: &projection, attended: &attended };
    /// let gradients =
    ///     layer.backward(pass, &d_output, OptionGradients::default(), &config, &mut workspace)?;
    /// for ((name, parameter), (same, gradient)) in layer.parameters_mut().into_iter().zip(gradients.parameters()) {
    ///     assert_eq!(name, same);
    ///     parameter.iter_mut().zip(gradient).for_each(|(x, d)| *x -= 0.01 * d);
    /// }
    /// # Ok::<(), regard::AttentionError>(())
    /// ```
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the parts of the pass are not of one pass through a layer of these
    /// sizes; [`AttentionError`] of [`attention_backward`]; [`AttentionError::AllocationFailed`].
    pub fn backward(
        &self,
        pass: ForwardPass<'_>,
        d_output: &[f32],
        options: OptionGradients<'_>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<MultiHeadAttentionGradients, AttentionError> {
        self.check_pass(&pass, d_output)?;
        let mut gradients = self.zero_gradients(&pass)?;
        let d_attended = self.output_backward(&pass, d_output, &mut gradients.output, config.parallelism)?;
        let [query, key, value] = attend_backward(&pass, &d_attended, options, config, workspace)?;
        drop(d_attended);

        let MultiHeadAttentionGradients { d_input, d_memory, query: q, key: k, value: v, .. } =
            &mut gradients;
        for ((d_rows, target), (part, (linear, features))) in
            [(query, q), (key, k), (value, v)].into_iter().zip(self.input_parts().into_iter().enumerate())
        {
            let (source, d_source) = match (pass.memory, d_memory.as_mut()) {
                (Some(memory), Some(d_memory)) if part > 0 => (memory, d_memory),
                _ => (pass.input, &mut *d_input),
            };
            linear.add_gradients(features, (source, &d_rows), target.sinks(d_source), config.parallelism);
        }
        Ok(gradients)
    }

    /// The derivative by the heads' outputs, `[batch_size, seq_len_q, num_heads, value_head_dim]`.
    fn output_backward(
        &self,
        pass: &ForwardPass<'_>,
        d_output: &[f32],
        target: &mut ProjectionGradients,
        parallelism: Parallelism,
    ) -> Result<Vec<f32>, AttentionError> {
        let output = self.output_projection();
        let mut d_attended = zeroed(pass.attended.output().len())?;
        let sources = (pass.attended.output(), d_output);
        output.add_gradients(0..output.out_features(), sources, target.sinks(&mut d_attended), parallelism);
        Ok(d_attended)
    }

    fn zero_gradients(&self, pass: &ForwardPass<'_>) -> Result<MultiHeadAttentionGradients, AttentionError> {
        let zeros = |(linear, features): (&Linear, Range<usize>), has_bias| {
            ProjectionGradients::zeros(features.len(), linear.in_features(), has_bias)
        };
        let ([query, key, value], [q_bias, k_bias, v_bias]) = (self.input_parts(), self.has_input_bias());
        let output = self.output_projection();
        Ok(MultiHeadAttentionGradients {
            d_input: zeroed(pass.input.len())?,
            d_memory: pass.memory.map(|memory| zeroed(memory.len())).transpose()?,
            query: zeros(query, q_bias)?,
            key: zeros(key, k_bias)?,
            value: zeros(value, v_bias)?,
            output: zeros((output, 0..output.out_features()), output.bias().is_some())?,
        })
    }

    fn check_pass(&self, pass: &ForwardPass<'_>, d_output: &[f32]) -> Result<(), AttentionError> {
        let [batch, heads, seq_len_q, head_dim] = pass.projection.query().shape();
        let [_, kv_heads, seq_len_kv, _] = pass.projection.key().shape();
        let [.., value_head_dim] = pass.projection.value().shape();
        expect("projection.num_heads", self.num_heads(), heads)?;
        expect("projection.num_kv_heads", self.num_kv_heads(), kv_heads)?;
        expect("projection.head_dim", self.head_dim(), head_dim)?;
        expect("projection.value_head_dim", self.value_head_dim(), value_head_dim)?;
        let attended = pass.attended.view().shape();
        expect("attended.batch_size", batch, attended[0])?;
        expect("attended.num_heads", heads, attended[1])?;
        expect("attended.seq_len_q", seq_len_q, attended[2])?;
        expect("attended.value_head_dim", value_head_dim, attended[3])?;

        let (q_shape, kv_shape) =
            ([batch, seq_len_q, self.model_dim()], [batch, seq_len_kv, self.kv_model_dim()]);
        expect("input.len", checked_product(&q_shape, "input")?, pass.input.len())?;
        // In self-attention the input is also what keys were projected from.
        let (axis, memory) = pass.memory.map_or(("input.len", pass.input), |memory| ("memory.len", memory));
        expect(axis, checked_product(&kv_shape, "memory")?, memory.len())?;
        let d_shape = [batch, seq_len_q, self.output_projection().out_features()];
        expect("d_output.len", checked_product(&d_shape, "d_output")?, d_output.len())
    }
}

/// Derivatives by queries, keys and values as the projections wrote them, each contiguous:
/// `[batch_size, seq_len, heads, dimension]`.
fn attend_backward(
    pass: &ForwardPass<'_>,
    d_attended: &[f32],
    options: OptionGradients<'_>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<[Vec<f32>; 3], AttentionError> {
    let (projection, attended) = (pass.projection, pass.attended);
    let (query, key, value) = (projection.query(), projection.key(), projection.value());
    let buffer = |shape: [usize; 4]| zeroed(checked_product(&shape, "projection")?);
    let layout = Layout::BatchSeqHeadDim;
    let (mut d_query, mut d_key, mut d_value) =
        (buffer(query.shape())?, buffer(key.shape())?, buffer(value.shape())?);
    let inputs = BackwardInputs {
        output: attended.view(),
        log_sum_exp: attended.log_sum_exp(),
        d_output: TensorView::new(d_attended, attended.view().shape(), layout)?,
        d_log_sum_exp: None,
    };
    let gradients = AttentionGradients {
        d_query: TensorViewMut::new(&mut d_query, query.shape(), layout)?,
        d_key: TensorViewMut::new(&mut d_key, key.shape(), layout)?,
        d_value: TensorViewMut::new(&mut d_value, value.shape(), layout)?,
        d_attention_bias: options.d_attention_bias,
        d_relative_bias: options.d_relative_bias,
        d_sinks: options.d_sinks,
    };
    attention_backward(query, key, value, inputs, gradients, config, workspace)?;
    projection.rotate_backward(&mut d_query, &mut d_key);
    Ok([d_query, d_key, d_value])
}
