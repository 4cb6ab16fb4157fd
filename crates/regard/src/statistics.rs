//! What each head attends to, summed up row by row and key by key, without the matrix of probabilities.

use crate::attention::{AttentionOutput, checked_isa};
use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::gradients::check_outputs;
use crate::kernel::{ForwardCall, RowSource, SharedOutput, StatisticsCall, Workspace, zeroed};
use crate::shape::{AttentionShape, expect};
use crate::view::{Layout, TensorView, TensorViewMut};

/// The most keys that [`StatisticsRequest::top_k`] may ask for.
const MAX_TOP_K: usize = 32;
/// The most bins on each side, of which each holds twice the distances of the one before.
const MAX_DISTANCE_BINS: usize = 63;
const MAX_OFFSETS: usize = 256;
const MAX_KEY_SETS: usize = 32;
const MAX_THUMBNAIL_SIZE: usize = 64;

/// What to say about the probabilities of an attention call; the default is entropy and mean distance of each row.
///
/// ```
/// use regard::StatisticsRequest;
/// let token_ids = [5, 8, 5, 8];
/// let request = StatisticsRequest::new().with_top_k(2).with_offsets(&[-1, 0, 1]).with_token_ids(&token_ids);
/// assert!(!request.received);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct StatisticsRequest<'a> {
    /// How many of each row's most probable keys are named, at most 32.
    pub top_k: usize,
    /// Keys at these distances from each row's own position p: key p + offset, at most 256 of them.
    pub offsets: &'a [i64],
    /// Bins of the histogram of distances on each side of a row's own position, at most 63; 0 is no histogram.
    pub num_distance_bins: usize,
    /// Keys whose mass is summed, set by set.
    pub key_sets: Option<KeySets<'a>>,
    /// The token of each key, `[batch_size, seq_len_kv]`, for the mass on equal tokens. A row's own token is that of
    /// the key at its position.
    pub token_ids: Option<&'a [u32]>,
    /// Whether the mass that each key receives is wanted; it takes a second pass over the scores.
    pub received: bool,
    /// Rows and columns of a block sum of each head's probabilities, each from 1 to 64.
    pub thumbnail: Option<[usize; 2]>,
}

/// Sets of keys, the same for all heads; a key may be in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySets<'a> {
    /// How many sets there are, at most 32.
    pub num_sets: usize,
    /// `[batch_size, seq_len_kv]`: bit s is set if the key is in set s.
    pub members: &'a [u32],
}

impl<'a> StatisticsRequest<'a> {
    /// Entropy and mean distance of each row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for each row's most probable keys.
    pub fn with_top_k(self, top_k: usize) -> Self {
        Self { top_k, ..self }
    }

    /// Asks for the mass at these distances.
    pub fn with_offsets(self, offsets: &'a [i64]) -> Self {
        Self { offsets, ..self }
    }

    /// Asks for a histogram of distances with this many bins on each side.
    pub fn with_distance_bins(self, num_distance_bins: usize) -> Self {
        Self { num_distance_bins, ..self }
    }

    /// Asks for the mass on sets of keys.
    pub fn with_key_sets(self, key_sets: KeySets<'a>) -> Self {
        Self { key_sets: Some(key_sets), ..self }
    }

    /// Asks for the mass on equal tokens and on what followed them; `[batch_size, seq_len_kv]`.
    pub fn with_token_ids(self, token_ids: &'a [u32]) -> Self {
        Self { token_ids: Some(token_ids), ..self }
    }

    /// Asks for the mass that each key receives.
    pub fn with_received(self) -> Self {
        Self { received: true, ..self }
    }

    /// Asks for a block sum of this many rows and columns.
    pub fn with_thumbnail(self, size: [usize; 2]) -> Self {
        Self { thumbnail: Some(size), ..self }
    }

    fn check(&self, shape: &AttentionShape) -> Result<(), AttentionError> {
        let at_most = |what, limit: usize, expected, found: usize| match found <= limit {
            true => Ok(()),
            false => Err(AttentionError::InvalidSize { what, expected, found }),
        };
        at_most("statistics.top_k", MAX_TOP_K, "at most 32", self.top_k)?;
        at_most("statistics.offsets.len", MAX_OFFSETS, "at most 256", self.offsets.len())?;
        let (what, found) = ("statistics.num_distance_bins", self.num_distance_bins);
        at_most(what, MAX_DISTANCE_BINS, "at most 63", found)?;
        // Keys are counted in 32 bits, one number of which means none.
        at_most("statistics: seq_len_kv", u32::MAX as usize - 1, "below 2³² − 1", shape.seq_len_kv)?;
        at_most("statistics: seq_len_q", u32::MAX as usize - 1, "below 2³² − 1", shape.seq_len_q)?;
        let num_keys = shape.batch_size.saturating_mul(shape.seq_len_kv);
        if let Some(KeySets { num_sets, members }) = self.key_sets {
            at_most("statistics.key_sets.num_sets", MAX_KEY_SETS, "at most 32", num_sets)?;
            expect("statistics.key_sets.members.len", num_keys, members.len())?;
            let all = members.iter().fold(0, |all, members| all | members);
            let (what, expected) = ("statistics.key_sets.members (sets named)", "at most num_sets");
            let found = (u32::BITS - all.leading_zeros()) as usize;
            if found > num_sets {
                return Err(AttentionError::InvalidSize { what, expected, found });
            }
        }
        if let Some(token_ids) = self.token_ids {
            expect("statistics.token_ids.len", num_keys, token_ids.len())?;
        }
        for found in self.thumbnail.into_iter().flatten() {
            if !(1..=MAX_THUMBNAIL_SIZE).contains(&found) {
                let (what, expected) = ("statistics.thumbnail", "from 1 to 64");
                return Err(AttentionError::InvalidSize { what, expected, found });
            }
        }
        Ok(())
    }
}

/// What each head attends to, a_ij being the probability that row i gives key j: of the normalised softmax, undropped,
/// a sink counting as one outcome more.
///
/// Rows are `[batch_size, num_heads, seq_len_q]`, keys `[batch_size, num_heads, seq_len_kv]` (of each query head);
/// what was not asked for is empty. A row without allowed keys has 0 everywhere and no top keys; a row whose softmax
/// is NaN has NaN everywhere and no top keys. A row's own position p is where the mask's
/// [`QueryPosition`](crate::QueryPosition) puts it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AttentionStatistics {
    /// The natural log of Σ e^score of each row, as [`AttentionOutput::log_sum_exp`].
    pub log_sum_exp: Vec<f32>,
    /// −Σ a·ln a of each row in nats, a·ln a being 0 at a = 0. A sink's outcome is included.
    pub entropy: Vec<f32>,
    /// Σ_j a_ij·|p − j| / Σ_j a_ij of each row, in keys (Vig and Belinkov 2019). A sink has no distance.
    pub mean_distance: Vec<f32>,
    /// The probability of the sink, for each row; empty without sinks.
    pub sink_prob: Vec<f32>,
    /// How many keys each row may attend to.
    pub visible_keys: Vec<u32>,
    /// `[rows, top_k]`: keys by falling probability, the lower key first where they are equal;
    /// [`Self::NO_KEY`] after the last.
    pub top_keys: Vec<u32>,
    /// `[rows, top_k]`: their probabilities, 0 after the last.
    pub top_probs: Vec<f32>,
    /// `[rows, 2·num_distance_bins + 1]`: mass by signed distance j − p. In the middle is that of key p; b places
    /// after it, counted from 0, is that of distances 2^b … 2^(b+1) − 1, b places before it that of their negatives;
    /// the outermost bins have what is farther too.
    pub distance_mass: Vec<f32>,
    /// `[rows, offsets]`: mass on key p + offset.
    pub offset_mass: Vec<f32>,
    /// `[rows, num_sets]`: mass on the keys of each set.
    pub key_set_mass: Vec<f32>,
    /// Mass of each row on keys with the token of key p, before and after it, not on key p itself.
    pub same_token_mass: Vec<f32>,
    /// Mass of each row on keys j ≤ p that follow an earlier copy of its token, x_{j−1} = x_p, j − 1 ≠ p: induction
    /// (Olsson et al. 2022, prefix matching; the token after the copy, not the copy).
    pub induction_mass: Vec<f32>,
    /// Σ_i a_ij of each key.
    pub received: Vec<f32>,
    /// How many rows may attend to each key, if [`StatisticsRequest::received`].
    pub visible_queries: Vec<u32>,
    /// `[batch_size, num_heads, rows, columns]`: sums of a over blocks of rows and keys, row i in block
    /// ⌊i·rows/seq_len_q⌋ and key j in block ⌊j·columns/length⌋ of its sequence's own length. NaN in a block of rows
    /// of which one is NaN.
    pub thumbnail: Vec<f32>,
}

impl AttentionStatistics {
    /// Stands in [`Self::top_keys`] where a row has no more keys.
    pub const NO_KEY: u32 = u32::MAX;

    /// The place of `[batch, head, row]` among the rows of `shape`.
    pub fn row_index(shape: &AttentionShape, [batch, head, row]: [usize; 3]) -> usize {
        (batch * shape.num_heads + head) * shape.seq_len_q + row
    }

    pub(crate) fn zeroed(
        shape: &AttentionShape,
        request: &StatisticsRequest<'_>,
        has_sinks: bool,
    ) -> Result<Self, AttentionError> {
        use crate::kernel::filled;
        use crate::view::checked_product;
        let what = "statistics";
        let heads = checked_product(&[shape.batch_size, shape.num_heads], what)?;
        let rows = checked_product(&[heads, shape.seq_len_q], what)?;
        let keys = if request.received { checked_product(&[heads, shape.seq_len_kv], what)? } else { 0 };
        let each_row = |width: usize| zeroed(checked_product(&[rows, width], what)?);
        let with_tokens = usize::from(request.token_ids.is_some());
        let bins = request.num_distance_bins;
        let thumbnail = request.thumbnail.map_or(0, |[rows, columns]| rows * columns);
        Ok(Self {
            log_sum_exp: each_row(1)?,
            entropy: each_row(1)?,
            mean_distance: each_row(1)?,
            sink_prob: each_row(usize::from(has_sinks))?,
            visible_keys: filled(rows, 0)?,
            top_keys: filled(checked_product(&[rows, request.top_k], what)?, Self::NO_KEY)?,
            top_probs: each_row(request.top_k)?,
            distance_mass: each_row(if bins > 0 { 2 * bins + 1 } else { 0 })?,
            offset_mass: each_row(request.offsets.len())?,
            key_set_mass: each_row(request.key_sets.map_or(0, |sets| sets.num_sets))?,
            same_token_mass: each_row(with_tokens)?,
            induction_mass: each_row(with_tokens)?,
            received: zeroed(keys)?,
            visible_queries: filled(keys, 0)?,
            thumbnail: zeroed(checked_product(&[heads, thumbnail], what)?)?,
        })
    }
}

/// [`attention_with`](crate::attention_with) that also says what each head attends to, in the same pass (and, for
/// [`StatisticsRequest::received`], one more over the scores). The output has the bits it has without.
///
/// Every row functional Σ_j a_ij·g(i, j) streams through the online softmax as the output does; nothing of size
/// `seq_len_q · seq_len_kv` is stored.
///
/// # Errors
/// [`AttentionError`], before anything is written.
pub fn attention_with_statistics<Q: Element, KV: Element, O: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    target: AttentionOutput<'_, O>,
    request: &StatisticsRequest<'_>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<AttentionStatistics, AttentionError> {
    let shapes = [query.shape(), key.shape(), value.shape()];
    let call = prepare(shapes, (&query, &key, &value), request, config)?;
    let AttentionOutput { mut output, log_sum_exp } = target;
    check_outputs(query.shape(), value.shape(), output.shape())?;
    if let Some(log_sum_exp) = &log_sum_exp {
        expect("log_sum_exp.len", call.shape().num_rows(), log_sum_exp.len())?;
    }
    let mut statistics = call.allocate()?;
    let mut numbers = std::mem::take(&mut statistics.log_sum_exp);
    call.run(&SharedOutput::new(&mut output, Some(&mut numbers)), &mut statistics, workspace)?;
    if let Some(log_sum_exp) = log_sum_exp {
        log_sum_exp.copy_from_slice(&numbers);
    }
    statistics.log_sum_exp = numbers;
    Ok(statistics)
}

/// What each head attends to, without its output: as [`attention_with_statistics`], at about half the work.
///
/// # Errors
/// [`AttentionError`].
///
/// ```
/// use regard::{
///     AttentionConfig, Layout, Mask, QueryPosition, StatisticsRequest, TensorView, Workspace, attention_statistics,
/// };
///
/// let (positions, dim) = (6, 4);
/// let data: Vec<f32> = (0..positions * dim).map(|i| (i as f32).sin()).collect();
/// let view = TensorView::new(&data, [1, 1, positions, dim], Layout::BatchHeadSeqDim)?;
/// let request = StatisticsRequest::new().with_top_k(1).with_offsets(&[-1, 0]).with_received();
/// let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
/// let found = attention_statistics(view, view, &request, &config, &mut Workspace::new())?;
/// assert_eq!((found.entropy[0], found.top_keys[0], found.top_probs[0]), (0.0, 0, 1.0)); // sees itself alone
/// assert_eq!(found.visible_queries, [6, 5, 4, 3, 2, 1]);
/// assert!((found.received.iter().sum::<f32>() - 6.0).abs() < 1e-5); // every row gives away 1
/// # Ok::<(), regard::AttentionError>(())
/// ```
pub fn attention_statistics<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    request: &StatisticsRequest<'_>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<AttentionStatistics, AttentionError> {
    let no_values = TensorView::<f32>::new(&[], without_values(key.shape()), Layout::BatchHeadSeqDim)?;
    let shapes = [query.shape(), key.shape(), no_values.shape()];
    let call = prepare(shapes, (&query, &key, &no_values), request, config)?;
    let mut statistics = call.allocate()?;
    let mut numbers = std::mem::take(&mut statistics.log_sum_exp);
    let nothing: &mut [f32] = &mut [];
    let mut output = TensorViewMut::new(nothing, without_values(query.shape()), Layout::BatchHeadSeqDim)?;
    call.run(&SharedOutput::new(&mut output, Some(&mut numbers)), &mut statistics, workspace)?;
    statistics.log_sum_exp = numbers;
    Ok(statistics)
}

fn without_values([batch_size, num_heads, seq_len, _]: [usize; 4]) -> [usize; 4] {
    [batch_size, num_heads, seq_len, 0]
}

/// Bytes of scratch memory that [`attention_with_statistics`] with these inputs would use, without running it; the
/// statistics themselves come on top. For [`attention_statistics`], `value` has a last axis of 0.
///
/// # Errors
/// As for [`attention_with_statistics`].
pub fn attention_statistics_scratch_bytes<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    request: &StatisticsRequest<'_>,
    config: &AttentionConfig<'_>,
) -> Result<usize, AttentionError> {
    let shapes = [query.shape(), key.shape(), value.shape()];
    prepare(shapes, (&query, &key, &value), request, config)?.scratch_bytes()
}

fn prepare<'a>(
    [query_shape, key_shape, value_shape]: [[usize; 4]; 3],
    (query, key, value): (&'a dyn RowSource, &'a dyn RowSource, &'a dyn RowSource),
    request: &'a StatisticsRequest<'a>,
    config: &AttentionConfig<'a>,
) -> Result<StatisticsCall<'a>, AttentionError> {
    let shape = AttentionShape::new(query_shape, key_shape, value_shape)?;
    let isa = checked_isa(config)?;
    let num_workers = config.parallelism.num_workers();
    request.check(&shape)?;
    let forward = ForwardCall { shape, config: config.check(&shape)?, query, key, value, isa, num_workers };
    Ok(StatisticsCall { forward, request })
}
