//! Heads by tokens: every number streams out of the kernel, row by row.

use regard::{AttentionStatistics, KeySets, StatisticsRequest};

use super::layer_call::LayerCall;
use super::options::{ProfileOptions, TopKeysOf};
use super::result::{HeadProfile, Thumbnail, TopKeys};
use super::totals::{RowNumbers, Totals};
use super::units::{OFFSETS, Units};
use crate::error::LensError;
use crate::view::HeadId;

/// Sets of keys: special tokens, and the first one.
const SPECIAL: usize = 0;
const FIRST: usize = 1;
const NUM_SETS: usize = 2;

/// Which of the sets each token is in.
pub(super) fn members(units: &Units) -> Vec<u32> {
    let member =
        |(key, special): (usize, &bool)| u32::from(*special) << SPECIAL | u32::from(key == 0) << FIRST;
    units.special.iter().enumerate().map(member).collect()
}

/// What to ask the kernel for.
pub(super) fn request<'a>(
    units: &'a Units,
    options: &ProfileOptions,
    members: &'a [u32],
) -> StatisticsRequest<'a> {
    let mut request = StatisticsRequest::new()
        .with_top_k(options.top_k.max(1))
        .with_offsets(&OFFSETS)
        .with_distance_bins(units.distance_bins())
        .with_key_sets(KeySets { num_sets: NUM_SETS, members })
        .with_token_ids(&units.ids);
    if options.received {
        request = request.with_received();
    }
    if let Some([rows, columns]) = options.thumbnail {
        request = request.with_thumbnail([rows.min(units.rows.len()), columns.min(units.len())]);
    }
    request
}

/// The numbers of one row.
pub(super) fn row_numbers(
    found: &AttentionStatistics,
    request: &StatisticsRequest<'_>,
    index: usize,
) -> RowNumbers {
    let wide = |number: f32| f64::from(number);
    let bins = 2 * request.num_distance_bins + 1;
    let offsets = &found.offset_mass[index * OFFSETS.len()..][..OFFSETS.len()];
    RowNumbers {
        entropy: wide(found.entropy[index]),
        max_prob: wide(found.top_probs[index * request.top_k]),
        mean_distance: wide(found.mean_distance[index]),
        first_token: wide(found.key_set_mass[index * NUM_SETS + FIRST]),
        special: wide(found.key_set_mass[index * NUM_SETS + SPECIAL]),
        duplicate: wide(found.same_token_mass[index]),
        induction: wide(found.induction_mass[index]),
        offsets: std::array::from_fn(|place| wide(offsets[place])),
        distance: found.distance_mass[index * bins..][..bins].iter().copied().map(wide).collect(),
    }
}

/// Sums up one head of the call.
pub(super) fn head(
    call: &LayerCall<'_>,
    units: &Units,
    options: &ProfileOptions,
    (found, request): (&AttentionStatistics, &StatisticsRequest<'_>),
    head: usize,
) -> Result<HeadProfile, LensError> {
    let id = HeadId { layer: call.layer, head };
    let (num_rows, first) = (call.num_rows(), call.first_row);
    let index = |row: usize| head * num_rows + row - first;
    let mut totals = Totals::new(units);
    for row in units.rows.clone() {
        if !found.entropy[index(row)].is_finite() {
            return Err(not_a_number(id));
        }
        if units.counts(row) {
            totals.add(row, &row_numbers(found, request, index(row)));
        }
    }
    let keys = call.num_keys();
    let thumbnail = request.thumbnail.map(|[rows, columns]| Thumbnail {
        rows,
        columns,
        of_rows: num_rows,
        of_columns: keys,
        sums: found.thumbnail[head * rows * columns..][..rows * columns].to_vec(),
    });
    Ok(HeadProfile {
        id,
        scores: totals.finish(),
        roles: vec![],
        kept: None,
        shuffled: None,
        top: top_rows(units, options).map(|rows| {
            let top_k = options.top_k;
            let of = |row: &usize| index(*row) * request.top_k..index(*row) * request.top_k + top_k;
            TopKeys {
                keys: rows.iter().flat_map(|row| found.top_keys[of(row)].iter().copied()).collect(),
                probs: rows.iter().flat_map(|row| found.top_probs[of(row)].iter().copied()).collect(),
                rows,
                top_k,
            }
        }),
        received: if options.received { found.received[head * keys..][..keys].to_vec() } else { vec![] },
        thumbnail,
    })
}

/// The rows whose keys are kept.
pub(super) fn top_rows(units: &Units, options: &ProfileOptions) -> Option<Vec<usize>> {
    match &options.top_keys_of {
        _ if options.top_k == 0 => None,
        TopKeysOf::None => None,
        TopKeysOf::All => Some(units.rows.clone().collect()),
        TopKeysOf::Rows(rows) => Some(rows.iter().copied().filter(|row| units.rows.contains(row)).collect()),
    }
}

pub(super) fn not_a_number(id: HeadId) -> LensError {
    let problem = format!(
        "{id} gives attention that is not a number; the model's weights hold NaN or infinite numbers"
    );
    LensError::Observer(problem.into())
}
