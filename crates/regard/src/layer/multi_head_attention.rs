use std::ops::Range;

use super::linear::Linear;
use crate::attention::{AttentionOutput, attention_with};
use crate::config::AttentionConfig;
use crate::error::AttentionError;
use crate::kernel::Workspace;
use crate::parallelism::Parallelism;
use crate::position::RotaryPositions;
use crate::shape::expect;
use crate::view::{Layout, TensorView, TensorViewMut, checked_product};

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
        let inputs = if query.in_features() == key.in_features() {
            InputProjections::Fused(Linear::stack(&[&query, &key, &value])?)
        } else {
            InputProjections::Apart { query, key_value: Linear::stack(&[&key, &value])? }
        };
        Ok(Self { inputs, output, num_heads, num_kv_heads, head_dim, value_head_dim })
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

    /// The output projection.
    pub fn output_projection(&self) -> &Linear {
        &self.output
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
        let rows = checked_product(&[batch_size, seq_len], "input")?;
        let data = project_rows(linear, 0..linear.out_features(), (input, rows), parallelism)?;
        let row_len = linear.out_features();
        Ok(self.projection(data, [batch_size, seq_len, seq_len], [(0, row_len), (self.query_len(), row_len)]))
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
        let query_len = self.query_len();
        let ((query, query_features), (key_value, key_value_features)) = match &self.inputs {
            InputProjections::Apart { query, key_value } => {
                ((query, 0..query_len), (key_value, 0..key_value.out_features()))
            }
            InputProjections::Fused(linear) => {
                ((linear, 0..query_len), (linear, query_len..linear.out_features()))
            }
        };
        let [batch_size, seq_len_q, seq_len_kv] = size;
        let q_rows = checked_product(&[batch_size, seq_len_q], "input")?;
        let kv_rows = checked_product(&[batch_size, seq_len_kv], "memory")?;
        let kv_len = key_value_features.len();
        let mut data = project_rows(query, query_features, (input, q_rows), parallelism)?;
        let start = data.len();
        data.extend(project_rows(key_value, key_value_features, (memory, kv_rows), parallelism)?);
        Ok(self.projection(data, size, [(0, query_len), (start, kv_len)]))
    }

    /// Elements of all queries of one position.
    fn query_len(&self) -> usize {
        self.num_heads * self.head_dim
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
            let strides = [seq * row, dim, row, 1];
            Slab { start, shape: [batch, heads, seq, dim], strides }
        };
        let value = key + self.num_kv_heads * self.head_dim;
        Projection {
            data,
            query: slab(query, seq_len_q, query_row, self.num_heads, self.head_dim),
            key: slab(key, seq_len_kv, kv_row, self.num_kv_heads, self.head_dim),
            value: slab(value, seq_len_kv, kv_row, self.num_kv_heads, self.value_head_dim),
        }
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
        let [batch_size, _, seq_len_q, _] = attended.shape;
        let input = (attended.output.as_slice(), checked_product(&[batch_size, seq_len_q], "output")?);
        project_rows(&self.output, 0..self.output.out_features(), input, parallelism)
    }
}

fn project_rows(
    linear: &Linear,
    features: Range<usize>,
    (input, rows): (&[f32], usize),
    parallelism: Parallelism,
) -> Result<Vec<f32>, AttentionError> {
    expect("input.len", checked_product(&[rows, linear.in_features()], "input")?, input.len())?;
    let mut output = vec![0.0; checked_product(&[rows, features.len()], "projection")?];
    linear.forward_features(features, input, &mut output, parallelism)?;
    Ok(output)
}

/// Where one of query, key and value lies in a projection.
#[derive(Debug, Clone, PartialEq)]
struct Slab {
    start: usize,
    shape: [usize; 4],
    strides: [usize; 4],
}

/// Queries, keys and values of every head, as the projections wrote them: no copy lies between them and the
/// kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    data: Vec<f32>,
    query: Slab,
    key: Slab,
    value: Slab,
}

impl Projection {
    /// `[batch_size, num_heads, seq_len_q, head_dim]`.
    pub fn query(&self) -> TensorView<'_, f32> {
        self.view(&self.query)
    }

    /// `[batch_size, num_kv_heads, seq_len_kv, head_dim]`.
    pub fn key(&self) -> TensorView<'_, f32> {
        self.view(&self.key)
    }

    /// `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`.
    pub fn value(&self) -> TensorView<'_, f32> {
        self.view(&self.value)
    }

    fn view(&self, slab: &Slab) -> TensorView<'_, f32> {
        let empty = slab.shape.contains(&0);
        let data = if empty { &[] } else { &self.data[slab.start..] };
        TensorView::with_strides(data, slab.shape, slab.strides).expect("a projection holds its own slabs")
    }

    /// Rotates queries and keys by their positions; the first query is at position `first[0]`, the first key
    /// at `first[1]`.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the rotation is for another head_dim.
    pub fn rotate(&mut self, rotary: &RotaryPositions, first: [usize; 2]) -> Result<(), AttentionError> {
        for (slab, first) in [&self.query, &self.key].into_iter().zip(first) {
            let [batches, heads, seq, dim] = slab.shape;
            expect("rotary.head_dim", rotary.head_dim(), dim)?;
            for position in 0..seq {
                let turn = rotary.at(first.saturating_add(position));
                for (batch, head) in (0..batches).flat_map(|b| (0..heads).map(move |h| (b, h))) {
                    let at = batch * slab.strides[0] + head * slab.strides[1] + position * slab.strides[2];
                    turn.apply(&mut self.data[slab.start + at..][..dim]);
                }
            }
        }
        Ok(())
    }

    /// Second step: attention of every head, heads side by side in each row.
    ///
    /// # Errors
    /// [`AttentionError`] of the call.
    pub fn attend(
        &self,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<Attended, AttentionError> {
        let [batch, heads, seq, _] = self.query.shape;
        let shape = [batch, heads, seq, self.value.shape[3]];
        let mut output = vec![0.0; checked_product(&shape, "output")?];
        let mut log_sum_exp = vec![0.0; batch * heads * seq];
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut output, shape, Layout::BatchSeqHeadDim)?,
            log_sum_exp: Some(&mut log_sum_exp),
        };
        attention_with(self.query(), self.key(), self.value(), target, config, workspace)?;
        Ok(Attended { output, log_sum_exp, shape })
    }
}

/// What the heads computed, before the output projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    output: Vec<f32>,
    log_sum_exp: Vec<f32>,
    shape: [usize; 4],
}

impl Attended {
    /// `[batch_size, seq_len_q, num_heads, value_head_dim]`, contiguous.
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    /// `[batch_size, num_heads, seq_len_q]`.
    pub fn log_sum_exp(&self) -> &[f32] {
        &self.log_sum_exp
    }

    /// The output as `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub fn view(&self) -> TensorView<'_, f32> {
        TensorView::new(&self.output, self.shape, Layout::BatchSeqHeadDim).expect("output has its own shape")
    }
}
