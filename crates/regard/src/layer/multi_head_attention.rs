use std::ops::Range;

use super::linear::Linear;
use super::projection::{Attended, Projection, Slab};
use crate::config::AttentionConfig;
use crate::error::AttentionError;
use crate::kernel::{Workspace, zeroed};
use crate::parallelism::Parallelism;
use crate::shape::expect;
use crate::view::checked_product;

/// Multi-head attention with its projections (Vaswani et al. 2017, §3.2.2):
/// concat(head₁ … head_h)·W_O, head_i = attention(x·W_Qⁱ, y·W_Kⁱ, y·W_Vⁱ).
///
/// Self-attention takes queries, keys and values from one input, in one matrix product; cross-attention takes
/// keys and values from a second input. Fewer key heads than query heads make it grouped-query attention.
///
/// ```
/// use regard::layer::{Linear, MultiHeadAttention};
/// use regard::AttentionConfig;
///
/// let identity = |n: usize| (0..n * n).map(|i| f32::from(i / n == i % n)).collect::<Vec<f32>>();
/// let linear = || Linear::new(identity(8), None, 8, 8);
/// let layer = MultiHeadAttention::new(linear()?, linear()?, linear()?, linear()?, [2, 2])?;
/// let input = vec![0.5; 2 * 3 * 8]; // two sequences of three positions
/// let output = layer.forward(&input, [2, 3], &AttentionConfig::new())?;
/// assert_eq!(output, input); // equal positions: the mean of equal values
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MultiHeadAttention {
    inputs: InputProjections,
    /// Whether query, key and value were given a bias; where projections share a matrix, the others' is 0.
    has_bias: [bool; 3],
    output: Linear,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    value_head_dim: usize,
}

/// The three input projections, in one matrix where all read inputs of one size.
#[derive(Debug, Clone, PartialEq)]
enum InputProjections {
    /// Query, key and value side by side: `[q + k + v, model_dim]`.
    Fused(Linear),
    /// Keys and values read another size than queries: query, then key and value side by side.
    Apart { query: Linear, key_value: Linear },
}

/// The names of a layer's parameters, projection by projection.
pub(super) const PARAMETERS: [[&str; 2]; 4] = [
    ["query.weight", "query.bias"],
    ["key.weight", "key.bias"],
    ["value.weight", "value.bias"],
    ["output.weight", "output.bias"],
];

impl MultiHeadAttention {
    /// A layer from its four projections and `[num_heads, num_kv_heads]`.
    ///
    /// query `[num_heads · head_dim, model_dim]`, key `[num_kv_heads · head_dim, kv_model_dim]`, value
    /// `[num_kv_heads · value_head_dim, kv_model_dim]`, output `[any, num_heads · value_head_dim]`. Head h owns
    /// rows `h · head_dim ..` of the query projection, and so on.
    ///
    /// # Errors
    /// [`AttentionError::NotDivisible`], [`AttentionError::ShapeMismatch`], [`AttentionError::HeadGroups`] or
    /// [`AttentionError::ZeroHeadDim`].
    pub fn new(
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
        [num_heads, num_kv_heads]: [usize; 2],
    ) -> Result<Self, AttentionError> {
        let divide = |what, size: usize, divisor: usize| match size.checked_rem(divisor) {
            Some(0) => Ok(size / divisor),
            _ => Err(AttentionError::NotDivisible { what, size, divisor }),
        };
        let head_dim = divide("query.out_features by num_heads", query.out_features(), num_heads)?;
        let value_head_dim =
            divide("value.out_features by num_kv_heads", value.out_features(), num_kv_heads)?;
        expect("key.out_features", checked_product(&[num_kv_heads, head_dim], "key")?, key.out_features())?;
        expect("value.in_features", key.in_features(), value.in_features())?;
        let attended_len = checked_product(&[num_heads, value_head_dim], "output")?;
        expect("output.in_features", attended_len, output.in_features())?;
        if !num_heads.is_multiple_of(num_kv_heads) {
            return Err(AttentionError::HeadGroups { num_heads, num_kv_heads });
        }
        if head_dim == 0 {
            return Err(AttentionError::ZeroHeadDim);
        }
        let has_bias = [&query, &key, &value].map(|linear| linear.bias().is_some());
        let inputs = if query.in_features() == key.in_features() {
            InputProjections::Fused(Linear::stack(&[&query, &key, &value])?)
        } else {
            InputProjections::Apart { query, key_value: Linear::stack(&[&key, &value])? }
        };
        Ok(Self { inputs, has_bias, output, num_heads, num_kv_heads, head_dim, value_head_dim })
    }

    /// Query heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }

    /// Key and value heads.
    pub fn num_kv_heads(&self) -> usize {
        self.num_kv_heads
    }

    /// Elements of a query and of a key.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Elements of a value.
    pub fn value_head_dim(&self) -> usize {
        self.value_head_dim
    }

    /// Elements of an input row that queries are projected from.
    pub fn model_dim(&self) -> usize {
        self.input_parts()[0].0.in_features()
    }

    /// Elements of an input row that keys and values are projected from.
    pub fn kv_model_dim(&self) -> usize {
        self.input_parts()[1].0.in_features()
    }

    /// The output projection.
    pub fn output_projection(&self) -> &Linear {
        &self.output
    }

    /// Every weight and bias by name, to be trained: `query.weight`, `query.bias`, then those of `key`, `value` and
    /// `output`, each in the shape that [`Self::new`] names; a bias only where there is one.
    ///
    /// [`MultiHeadAttentionGradients::parameters`](super::MultiHeadAttentionGradients::parameters) are in the same
    /// order.
    pub fn parameters_mut(&mut self) -> Vec<(&'static str, &mut [f32])> {
        let [query_len, key_len, value_len] = self.part_lens();
        let [query, key, value] = match &mut self.inputs {
            InputProjections::Fused(linear) => linear.split_mut([query_len, key_len, value_len]),
            InputProjections::Apart { query, key_value } => {
                let [query] = query.split_mut([query_len]);
                let [key, value] = key_value.split_mut([key_len, value_len]);
                [query, key, value]
            }
        };
        let [output] = self.output.split_mut([self.output.out_features()]);
        let has_bias = self.has_bias.into_iter().chain([true]);
        let parts = [query, key, value, output].into_iter().zip(has_bias).zip(PARAMETERS);
        parts
            .flat_map(|(((weight, bias), has_bias), names)| {
                let bias = bias.filter(|_| has_bias);
                [Some(weight), bias].into_iter().zip(names).filter_map(|(part, name)| Some((name, part?)))
            })
            .collect()
    }

    /// The matrix of the query, key and value projection, and the output features that are theirs in it.
    pub(super) fn input_parts(&self) -> [(&Linear, Range<usize>); 3] {
        let [query_len, key_len, value_len] = self.part_lens();
        let (query, key_value, key_start) = match &self.inputs {
            InputProjections::Fused(linear) => (linear, linear, query_len),
            InputProjections::Apart { query, key_value } => (query, key_value, 0),
        };
        let value_start = key_start + key_len;
        [
            (query, 0..query_len),
            (key_value, key_start..value_start),
            (key_value, value_start..value_start + value_len),
        ]
    }

    /// Whether query, key and value have a bias.
    pub(super) fn has_input_bias(&self) -> [bool; 3] {
        self.has_bias
    }

    /// Elements of all queries, all keys and all values of one position.
    fn part_lens(&self) -> [usize; 3] {
        let kv_heads = self.num_kv_heads;
        [self.num_heads * self.head_dim, kv_heads * self.head_dim, kv_heads * self.value_head_dim]
    }

    /// Self-attention: input `[batch_size, seq_len, model_dim]` (`size` gives the first two), output
    /// `[batch_size, seq_len, out_features of the output projection]`.
    ///
    /// # Errors
    /// [`AttentionError`] of any step.
    pub fn forward(
        &self,
        input: &[f32],
        size: [usize; 2],
        config: &AttentionConfig<'_>,
    ) -> Result<Vec<f32>, AttentionError> {
        let projection = self.project(input, size, config.parallelism)?;
        let attended = projection.attend(config, &mut Workspace::new())?;
        self.project_output(&attended, config.parallelism)
    }

    /// Cross-attention: queries from `input` `[batch_size, seq_len_q, model_dim]`, keys and values from `memory`
    /// `[batch_size, seq_len_kv, kv_model_dim]`; `size` is `[batch_size, seq_len_q, seq_len_kv]`.
    ///
    /// # Errors
    /// [`AttentionError`] of any step.
    pub fn forward_cross(
        &self,
        input: &[f32],
        memory: &[f32],
        size: [usize; 3],
        config: &AttentionConfig<'_>,
    ) -> Result<Vec<f32>, AttentionError> {
        let projection = self.project_cross(input, memory, size, config.parallelism)?;
        let attended = projection.attend(config, &mut Workspace::new())?;
        self.project_output(&attended, config.parallelism)
    }

    /// First step of self-attention: queries, keys and values of every head, in one product.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the input is not `batch · seq · model_dim` long, or if the layer's
    /// keys read another size than its queries.
    pub fn project(
        &self,
        input: &[f32],
        [batch_size, seq_len]: [usize; 2],
        parallelism: Parallelism,
    ) -> Result<Projection, AttentionError> {
        let InputProjections::Fused(linear) = &self.inputs else {
            return self.project_cross(input, input, [batch_size, seq_len, seq_len], parallelism);
        };
        let row_len = linear.out_features();
        let rows = checked_product(&[batch_size, seq_len], "input")?;
        expect("input.len", checked_product(&[rows, linear.in_features()], "input")?, input.len())?;
        let mut data = zeroed(checked_product(&[rows, row_len], "projection")?)?;
        linear.forward(input, &mut data, parallelism)?;
        let [query_len, ..] = self.part_lens();
        Ok(self.projection(data, [batch_size, seq_len, seq_len], [(0, row_len), (query_len, row_len)]))
    }

    /// First step of cross-attention; sizes as in [`Self::forward_cross`].
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if an input's length does not match.
    pub fn project_cross(
        &self,
        input: &[f32],
        memory: &[f32],
        size: [usize; 3],
        parallelism: Parallelism,
    ) -> Result<Projection, AttentionError> {
        let [(query, query_features), (key_value, key_features), (_, value_features)] = self.input_parts();
        let kv_features = key_features.start..value_features.end;
        let [batch_size, seq_len_q, seq_len_kv] = size;
        let (query_len, kv_len) = (query_features.len(), kv_features.len());
        let q_rows = checked_product(&[batch_size, seq_len_q], "input")?;
        let kv_rows = checked_product(&[batch_size, seq_len_kv], "memory")?;
        expect("input.len", checked_product(&[q_rows, query.in_features()], "input")?, input.len())?;
        expect("memory.len", checked_product(&[kv_rows, key_value.in_features()], "memory")?, memory.len())?;
        let queries = checked_product(&[q_rows, query_len], "projection")?;
        let len = checked_product(&[kv_rows, kv_len], "projection")?.checked_add(queries);
        let mut data = zeroed(len.ok_or(AttentionError::SizeOverflow { what: "projection" })?)?;
        let (q_data, kv_data) = data.split_at_mut(queries);
        query.forward_features(query_features, input, q_data, parallelism)?;
        key_value.forward_features(kv_features, memory, kv_data, parallelism)?;
        Ok(self.projection(data, size, [(0, query_len), (queries, kv_len)]))
    }

    /// Names the parts of projected rows: queries and keys start at the given places, in rows of the given
    /// lengths, and values follow keys.
    fn projection(
        &self,
        data: Vec<f32>,
        [batch, seq_len_q, seq_len_kv]: [usize; 3],
        [(query, query_row), (key, kv_row)]: [(usize, usize); 2],
    ) -> Projection {
        let slab = |start, seq: usize, row: usize, heads: usize, dim: usize| {
            Slab::new(start, [batch, heads, seq, dim], row)
        };
        let value = key + self.num_kv_heads * self.head_dim;
        let slabs = [
            slab(query, seq_len_q, query_row, self.num_heads, self.head_dim),
            slab(key, seq_len_kv, kv_row, self.num_kv_heads, self.head_dim),
            slab(value, seq_len_kv, kv_row, self.num_kv_heads, self.value_head_dim),
        ];
        Projection::new(data, slabs)
    }

    /// Last step: the output projection, `[batch_size, seq_len_q, out_features]`.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the heads are of another layer's size.
    pub fn project_output(
        &self,
        attended: &Attended,
        parallelism: Parallelism,
    ) -> Result<Vec<f32>, AttentionError> {
        let [batch_size, heads, seq_len_q, dim] = attended.view().shape();
        expect("attended.num_heads", self.num_heads, heads)?;
        expect("attended.value_head_dim", self.value_head_dim, dim)?;
        let shape = [batch_size, seq_len_q, self.output.out_features()];
        let mut output = zeroed(checked_product(&shape, "output")?)?;
        self.output.forward(attended.output(), &mut output, parallelism)?;
        Ok(output)
    }
}
