//! Checking statistics against the textbook.

use regard::reference::{Reference, ReferenceRowStatistics};
use regard::{AttentionStatistics, Layout, StatisticsRequest, TensorView};

use super::dense::row_numbers;
use super::layer_call::LayerCall;
use super::units::Units;
use super::words::for_rows;
use crate::error::LensError;
use crate::view::Verification;

/// The textbook's attention of a call, without values.
fn reference<'a>(call: &LayerCall<'a>) -> Result<Reference<'a, f64>, LensError> {
    let [batch, heads, keys, _] = call.key.shape();
    let no_values = TensorView::<f32>::new(&[], [batch, heads, keys, 0], Layout::BatchHeadSeqDim)?;
    Ok(Reference::new(call.query, call.key, no_values, &call.config)?)
}

/// Checks everything that the kernel said about some token rows.
pub(super) fn check_tokens(
    call: &LayerCall<'_>,
    (found, request): (&AttentionStatistics, &StatisticsRequest<'_>),
    samples: &[[usize; 2]],
    verification: &mut Verification,
) -> Result<(), LensError> {
    let reference = reference(call)?;
    for &[head, row] in samples {
        let row = row - call.first_row;
        let expected = reference.row_statistics([0, head, row], request)?;
        compare(found, request, head * call.num_rows() + row, &expected, verification);
        verification.rows += 1;
    }
    Ok(())
}

fn compare(
    found: &AttentionStatistics,
    request: &StatisticsRequest<'_>,
    index: usize,
    expected: &ReferenceRowStatistics,
    verification: &mut Verification,
) {
    let mut check = |found: f32, expected: f64| verification.compare_relative(f64::from(found), expected);
    check(found.entropy[index], expected.entropy);
    check(found.mean_distance[index], expected.mean_distance);
    check(found.visible_keys[index] as f32, f64::from(expected.visible_keys));
    check(found.same_token_mass[index], expected.same_token_mass);
    check(found.induction_mass[index], expected.induction_mass);
    for (found, expected) in [
        (&found.distance_mass, &expected.distance_mass),
        (&found.offset_mass, &expected.offset_mass),
        (&found.key_set_mass, &expected.key_set_mass),
    ] {
        let found = &found[index * expected.len()..];
        found.iter().zip(expected).for_each(|(&found, &expected)| check(found, expected));
    }
    for place in 0..request.top_k {
        let place_of = index * request.top_k + place;
        let (key, prob) = (found.top_keys[place_of], found.top_probs[place_of]);
        // Keys of nearly equal scores may change places; what is named must have the probability named.
        check(prob, expected.top.get(place).map_or(0.0, |&(_, prob)| prob));
        check(prob, expected.probs.get(key as usize).copied().unwrap_or(0.0));
    }
}

/// Checks what some rows of some heads give to one token.
pub(super) fn check_key(
    call: &LayerCall<'_>,
    token: usize,
    found: impl IntoIterator<Item = ([usize; 2], f32)>,
    verification: &mut Verification,
) -> Result<(), LensError> {
    let reference = reference(call)?;
    for ([head, row], prob) in found {
        let expected = reference.row([0, head, row - call.first_row])?.probs[token];
        verification.compare_relative(f64::from(prob), expected);
        verification.rows += 1;
    }
    Ok(())
}

/// Checks the numbers of some words' rows.
pub(super) fn check_words(
    call: &LayerCall<'_>,
    units: &Units,
    log_sum_exp: &[f32],
    samples: &[[usize; 2]],
    verification: &mut Verification,
) -> Result<(), LensError> {
    let reference = reference(call)?;
    for &[head, word] in samples {
        let span = units.spans[word].clone();
        let mut expected = vec![0.0; units.len()];
        for token in span.clone() {
            let probs = reference.row([0, head, token - call.first_row])?.probs;
            for (sum, keys) in expected.iter_mut().zip(&units.spans) {
                *sum += probs[keys.clone()].iter().sum::<f64>() / span.len() as f64;
            }
        }
        let expected = row_numbers(units, word, &expected);
        for_rows(call, units, (head, log_sum_exp), word..word + 1, &mut |_, probs| {
            let found = row_numbers(units, word, probs);
            for (found, expected) in found.all().zip(expected.all()) {
                verification.compare_relative(found, expected);
            }
            Ok(())
        })?;
        verification.rows += 1;
    }
    Ok(())
}

/// `count` heads and rows (fewer if there are fewer), spread over both, none twice; others in each layer.
pub(super) fn sampled_rows(
    layer: usize,
    heads: &[usize],
    rows: std::ops::Range<usize>,
    count: usize,
) -> Vec<[usize; 2]> {
    let all = heads.len() * rows.len();
    let count = count.min(all);
    let step = all.checked_div(count).unwrap_or(1);
    (0..count)
        .map(|sample| {
            let place = (sample * step + layer) % all;
            let (head, row) = (place / rows.len(), place % rows.len());
            // Each head starts elsewhere, so that a step of whole rows still meets different ones.
            [heads[head], rows.start + (row + head * (rows.len() * 5 / 8)) % rows.len()]
        })
        .collect()
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sampled_rows__any_size__are_inside_distinct_and_as_many_as_asked_for() {
        for heads in [vec![], vec![3], vec![0, 1, 2], (0..12).collect()] {
            for rows in [0..1, 5..7, 0..12, 2..99] {
                for (layer, count) in [(0, 4), (3, 11), (29, 64)] {
                    let samples = sampled_rows(layer, &heads, rows.clone(), count);
                    assert_eq!(samples.len(), count.min(heads.len() * rows.len()));
                    assert!(samples.iter().all(|[head, row]| heads.contains(head) && rows.contains(row)));
                    assert_eq!(samples.iter().collect::<HashSet<_>>().len(), samples.len());
                }
            }
        }
    }

    #[test]
    fn sampled_rows__one_a_head__are_not_all_the_same_row() {
        let rows: HashSet<usize> = sampled_rows(0, &[0, 1, 2, 3], 0..100, 4).iter().map(|at| at[1]).collect();
        assert_eq!(rows.len(), 4);
    }
}
