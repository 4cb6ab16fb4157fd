//! What statistics say of empty rows, NaN, ties, sinks, dropout and equal tokens.
#![allow(non_snake_case)]

mod common;

use common::rows::{each, each_grouped};
use common::statistics::{Wanted, statistics_bits};
use common::{Inputs, Sizes, isas};
use regard::{
    AttentionConfig, AttentionStatistics, Dropout, Layout, Mask, QueryPosition, StatisticsRequest, TensorView,
};

const NO_KEY: u32 = AttentionStatistics::NO_KEY;

fn sizes_of(inputs: &Inputs<f32, f32>) -> Sizes {
    let ([batch, heads, s_q, d], [_, kv_heads, s_kv, d_v]) = (inputs.query.shape, inputs.value.shape);
    Sizes { batch, heads, kv_heads, s_q, s_kv, d, d_v }
}

#[test]
fn statistics__row_without_allowed_key__is_zero_and_names_no_key() {
    each(|isa, s_q, inputs| {
        let sizes = sizes_of(&inputs);
        let wanted = Wanted::for_sizes(sizes, 1);
        let keep: Vec<bool> = (0..s_q * sizes.s_kv).map(|at| at / sizes.s_kv != 1).collect();
        let keep = TensorView::new(&keep, [1, 1, s_q, sizes.s_kv], Layout::BatchHeadSeqDim).unwrap();
        for sinks in [None, Some([0.7])] {
            let mut config = AttentionConfig::new().with_isa(isa).with_mask(Mask::default().with_keep(keep));
            config.sinks = sinks.as_ref().map(|sinks| &sinks[..]);
            let found = inputs.statistics(&wanted.request(), &config);
            let row = |numbers: &[f32]| numbers[numbers.len() / s_q..2 * numbers.len() / s_q].to_vec();
            for numbers in [
                &found.entropy,
                &found.mean_distance,
                &found.sink_prob,
                &found.top_probs,
                &found.distance_mass,
                &found.offset_mass,
                &found.key_set_mass,
                &found.same_token_mass,
                &found.induction_mass,
            ] {
                assert!(row(numbers).iter().all(|&x| x.to_bits() == 0), "{isa}: {numbers:?}");
            }
            assert!(found.top_keys[wanted.top_k..2 * wanted.top_k].iter().all(|&key| key == NO_KEY));
            assert_eq!((found.visible_keys[1], found.log_sum_exp[1]), (0, f32::NEG_INFINITY));
            assert!(found.visible_queries.iter().all(|&count| count as usize == s_q - 1));
            // What the others give away arrives, and nothing else.
            let shares: f64 = (0..s_q)
                .filter(|&i| i != 1)
                .map(|i| 1.0 - found.sink_prob.get(i).map_or(0.0, |&p| f64::from(p)))
                .sum();
            for numbers in [&found.received, &found.thumbnail] {
                let sum: f64 = numbers.iter().map(|&x| f64::from(x)).sum();
                assert!((sum - shares).abs() < 1e-5 * shares, "{isa}: {sum} of {shares}");
            }
        }
    });
}

#[test]
fn statistics__nan_in_a_query__is_nan_in_its_row_and_nowhere_that_it_may_not_attend() {
    each(|isa, s_q, mut inputs| {
        let sizes = sizes_of(&inputs);
        let wanted = Wanted { thumbnail: [s_q, 4], ..Wanted::for_sizes(sizes, 2) };
        let config = AttentionConfig::new()
            .with_isa(isa)
            .with_mask(Mask::causal(QueryPosition::TopLeft).with_key_lengths(&[30]));
        let clean = inputs.statistics(&wanted.request(), &config);
        inputs.query.set([0, 0, 1, 3], f32::NAN);
        let found = inputs.statistics(&wanted.request(), &config);
        for (numbers, clean) in [
            (&found.entropy, &clean.entropy),
            (&found.mean_distance, &clean.mean_distance),
            (&found.top_probs, &clean.top_probs),
            (&found.distance_mass, &clean.distance_mass),
            (&found.offset_mass, &clean.offset_mass),
            (&found.key_set_mass, &clean.key_set_mass),
            (&found.same_token_mass, &clean.same_token_mass),
            (&found.induction_mass, &clean.induction_mass),
            (&found.thumbnail, &clean.thumbnail),
        ] {
            for (i, (x, clean)) in numbers.iter().zip(clean).enumerate() {
                match i / (numbers.len() / s_q) {
                    1 => assert!(x.is_nan(), "{isa}: {numbers:?}"),
                    _ => assert_eq!(x.to_bits(), clean.to_bits(), "{isa}: {i} of {numbers:?}"),
                }
            }
        }
        assert!(found.top_keys[wanted.top_k..2 * wanted.top_k].iter().all(|&key| key == NO_KEY), "{isa}");
        for (j, (x, clean)) in found.received.iter().zip(&clean.received).enumerate() {
            match j <= 1 {
                true => assert!(x.is_nan(), "{isa}: key {j}: {x}"),
                false => assert_eq!(x.to_bits(), clean.to_bits(), "{isa}: key {j}"),
            }
        }
    });
}

#[test]
fn statistics__nan_or_infinity_where_a_query_may_not_attend__changes_no_bit() {
    each_grouped(|isa, _, inputs| {
        let sizes = sizes_of(&inputs);
        let wanted = Wanted::for_sizes(sizes, 3);
        let lengths = [sizes.s_kv - 5, sizes.s_kv - 9];
        let mask = Mask::default().with_key_lengths(&lengths);
        let config = AttentionConfig::new().with_isa(isa).with_mask(mask);
        let clean = inputs.run_statistics(&wanted.request(), &config, &mut regard::Workspace::new()).unwrap();
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut poisoned = inputs.clone();
            for (batch, kv_head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                for j in lengths[batch]..sizes.s_kv {
                    poisoned.key.set([batch, kv_head, j, 2], poison);
                    poisoned.value.set([batch, kv_head, j, 1], poison);
                }
            }
            let found =
                poisoned.run_statistics(&wanted.request(), &config, &mut regard::Workspace::new()).unwrap();
            assert_eq!(statistics_bits(&found.1), statistics_bits(&clean.1), "{isa}, {poison}");
            assert_eq!(found.0.numbers(), clean.0.numbers(), "{isa}, {poison}");
        }
    });
}

/// A value that is NaN makes the output NaN, which is then computed again; probabilities are counted once.
#[test]
fn statistics__nan_in_a_value__changes_no_bit_of_them() {
    each_grouped(|isa, _, inputs| {
        let wanted = Wanted::for_sizes(sizes_of(&inputs), 4);
        let config = AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::TopLeft));
        let clean = inputs.statistics(&wanted.request(), &config);
        let mut poisoned = inputs.clone();
        poisoned.value.set([1, 0, 1, 0], f32::NAN);
        let (output, found) =
            poisoned.run_statistics(&wanted.request(), &config, &mut regard::Workspace::new()).unwrap();
        assert!(output.numbers().iter().any(|x| x.is_nan()), "{isa}");
        assert_eq!(statistics_bits(&found), statistics_bits(&clean), "{isa}");
    });
}

#[test]
fn statistics__all_allowed_scores_minus_infinity__are_nan_and_not_empty() {
    each(|isa, s_q, mut inputs| {
        inputs.query.fill(|| f32::MAX);
        inputs.key.fill(|| -f32::MAX);
        let found =
            inputs.statistics(&StatisticsRequest::new().with_top_k(2), &AttentionConfig::new().with_isa(isa));
        assert!(found.entropy.iter().chain(&found.top_probs).all(|x| x.is_nan()), "{isa}");
        assert!(found.top_keys.iter().all(|&key| key == NO_KEY), "{isa}");
        assert_eq!(found.visible_keys, vec![common::rows::KEYS as u32; s_q], "{isa}");
    });
}

#[test]
fn statistics__equal_scores__name_the_lower_key_first() {
    for (s_q, s_kv) in [(2, 40), (40, 40), (1, 5000), (97, 2500)] {
        let sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, s_q, s_kv, d: 8, d_v: 4 };
        let mut inputs = Inputs::<f32, f32>::plain(sizes, 5);
        let mut c = 0;
        inputs.key.fill(|| {
            c += 1;
            [0.5, -1.0, 2.0, 0.25, 1.0, -0.125, 3.0, 0.75][c % 8]
        });
        for isa in isas() {
            let config = AttentionConfig::new().with_isa(isa);
            let found = inputs.statistics(&StatisticsRequest::new().with_top_k(5), &config);
            for (keys, probs) in found.top_keys.chunks(5).zip(found.top_probs.chunks(5)) {
                assert_eq!(keys, [0, 1, 2, 3, 4], "{isa}, {s_q} × {s_kv}");
                assert!(probs.iter().all(|p| (p * s_kv as f32 - 1.0).abs() < 1e-5), "{isa}: {probs:?}");
            }
        }
    }
}

/// Queries of 0 attend to every key alike, so masses count keys.
#[test]
fn statistics__uniform_rows__count_what_the_definitions_say() {
    let token_ids = [7, 9, 7, 9, 7, 7, 3]; // A B A B A A C
    let sizes = Sizes { batch: 1, heads: 1, kv_heads: 1, s_q: 7, s_kv: 7, d: 4, d_v: 1 };
    let mut inputs = Inputs::<f32, f32>::plain(sizes, 6);
    inputs.query.fill(|| 0.0);
    let request = StatisticsRequest::new().with_token_ids(&token_ids).with_distance_bins(3).with_received();
    for isa in isas() {
        let config = AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::TopLeft));
        let found = inputs.statistics(&request, &config);
        let counts = |numbers: &[f32], width: usize| -> Vec<i32> {
            let count = |(i, x): (usize, &f32)| (x * (i / width + 1) as f32).round() as i32;
            numbers.iter().enumerate().map(count).collect()
        };
        assert_eq!(counts(&found.same_token_mass, 1), [0, 0, 1, 1, 2, 3, 0], "{isa}");
        // Row 5 (A) has earlier copies at 0, 2, 4, followed by 1, 3 and 5, itself.
        assert_eq!(counts(&found.induction_mass, 1), [0, 0, 1, 1, 2, 3, 0], "{isa}");
        let histograms = counts(&found.distance_mass, 7);
        assert_eq!(histograms[6 * 7..], [3, 2, 1, 1, 0, 0, 0], "{isa}"); // distances 4–6, 2–3, 1, 0
        for (i, (entropy, distance)) in found.entropy.iter().zip(&found.mean_distance).enumerate() {
            assert!((entropy - ((i + 1) as f32).ln()).abs() < 1e-6, "{isa}: {entropy}");
            assert!((distance - i as f32 / 2.0).abs() < 1e-6, "{isa}: {distance}");
        }
        // On either side where rows see both.
        let both = inputs.statistics(&request, &AttentionConfig::new().with_isa(isa));
        let sevenths: Vec<i32> = both.same_token_mass.iter().map(|x| (x * 7.0).round() as i32).collect();
        assert_eq!(sevenths, [3, 1, 3, 1, 3, 3, 0], "{isa}");
        assert_eq!(both.visible_queries, [7; 7], "{isa}");
        assert!(both.received.iter().all(|x| (x - 1.0).abs() < 1e-6), "{isa}");
    }
}

#[test]
fn statistics__sink__is_one_outcome_more_and_leaves_the_rest() {
    each(|isa, s_q, mut inputs| {
        let keys = common::rows::KEYS as f32;
        inputs.query.fill(|| 0.0);
        let sinks = [(3.0 * keys).ln()]; // three times the weight of all keys
        let request = StatisticsRequest::new().with_top_k(1).with_distance_bins(6);
        let found = inputs.statistics(&request, &AttentionConfig::new().with_isa(isa).with_sinks(&sinks));
        let expected = -0.75 * 0.75f32.ln() - 0.25 * (0.25 / keys).ln();
        for row in 0..s_q {
            assert!((found.entropy[row] - expected).abs() < 1e-5, "{isa}: {} {expected}", found.entropy[row]);
            assert!(
                (found.sink_prob[row] - 0.75).abs() < 1e-6
                    && (found.log_sum_exp[row] - keys.ln()).abs() < 1e-6
            );
            assert!((found.top_probs[row] - 0.25 / keys).abs() < 1e-7, "{isa}");
            let mass: f32 = found.distance_mass[row * 13..(row + 1) * 13].iter().sum();
            assert!((mass - 0.25).abs() < 1e-6, "{isa}: {mass}");
        }
    });
}

#[test]
fn statistics__dropout__changes_no_bit_of_them() {
    each_grouped(|isa, _, inputs| {
        let wanted = Wanted::for_sizes(sizes_of(&inputs), 7);
        let config = AttentionConfig::new().with_isa(isa);
        let without = inputs.statistics(&wanted.request(), &config);
        let with = inputs.statistics(&wanted.request(), &config.with_dropout(Dropout::new(0.5, 3)));
        assert_eq!(statistics_bits(&with), statistics_bits(&without), "{isa}");
    });
}

#[test]
fn statistics__empty_axes__are_fine() {
    for [batch, s_q, s_kv, d_v] in [[0, 3, 4, 2], [1, 0, 4, 2], [1, 3, 0, 2], [1, 3, 4, 0], [0, 0, 0, 0]] {
        let sizes = Sizes { batch, heads: 2, kv_heads: 1, s_q, s_kv, d: 4, d_v };
        let wanted = Wanted::for_sizes(sizes, 8);
        let inputs = Inputs::<f32, f32>::plain(sizes, 8);
        inputs.check_statistics(&wanted, &AttentionConfig::new()).unwrap();
    }
}

#[test]
fn statistics__what_was_not_asked_for__is_empty_and_changes_nothing_else() {
    each_grouped(|isa, _, inputs| {
        let wanted = Wanted::for_sizes(sizes_of(&inputs), 9);
        let config = AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
        let all = inputs.statistics(&wanted.request(), &config);
        let few = inputs.statistics(&StatisticsRequest::new(), &config);
        assert_eq!((&few.entropy, &few.mean_distance), (&all.entropy, &all.mean_distance), "{isa}");
        assert_eq!(few.visible_keys, all.visible_keys, "{isa}");
        for numbers in [
            &few.sink_prob,
            &few.top_probs,
            &few.distance_mass,
            &few.offset_mass,
            &few.key_set_mass,
            &few.same_token_mass,
            &few.induction_mass,
            &few.received,
            &few.thumbnail,
        ] {
            assert!(numbers.is_empty(), "{isa}");
        }
        assert!(few.top_keys.is_empty() && few.visible_queries.is_empty(), "{isa}");
    });
}
