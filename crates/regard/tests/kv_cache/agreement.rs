//! Steps agree with a prefill, and pages with one tensor, bit by bit.

use super::*;

/// Prompts of different lengths, then steps of one position for all; each step against the row of one causal call
/// over its whole sequence.
fn check_steps<T: TestElement>(
    (heads, kv_heads): (usize, usize),
    [dim, value_dim]: [usize; 2],
    (prompts, steps): (&[usize], usize),
    mask: Mask<'_>,
) {
    let (batch, longest) = (prompts.len(), prompts.iter().max().unwrap());
    let total = longest + steps;
    let memory = Memory { layout: Layout::BatchSeqHeadDim, dim_stride: 2, ..Memory::PLAIN };
    let query = random::<f32>([batch, heads, total, dim], Memory::PLAIN, 1);
    let key = random::<T>([batch, kv_heads, total, dim], memory, 2);
    let value = random::<T>([batch, kv_heads, total, value_dim], Memory::PLAIN, 3);
    // All sequences end in the last row, so that a step is one row of each tensor.
    let first = |sequence: usize| longest - prompts[sequence];
    let prefill: Vec<Vec<f32>> = (0..batch)
        .map(|sequence| {
            let (only, rows) = (sequence..sequence + 1, first(sequence)..total);
            let query = part(&query, only.clone(), rows.clone());
            let (key, value) = (part(&key, only.clone(), rows.clone()), part(&value, only, rows.clone()));
            let config = AttentionConfig::new().with_mask(Mask { position: QueryPosition::TopLeft, ..mask });
            let written = written([1, heads, rows.len(), value_dim], |target| {
                attention_with(query, key, value, target, &config, &mut Workspace::new())
            });
            written.unwrap().0
        })
        .collect();
    let config = AttentionConfig::new().with_mask(Mask { position: QueryPosition::BottomRight, ..mask });
    for mut cache in caches::<T>([batch, kv_heads, total], [dim, value_dim]) {
        for sequence in 0..batch {
            let (only, rows) = (sequence..sequence + 1, first(sequence)..*longest);
            let (key, value) = (part(&key, only.clone(), rows.clone()), part(&value, only, rows));
            either!(&mut cache, cache => cache.append_to(sequence, key, value)).unwrap();
        }
        for row in *longest..total {
            let (key, value) = (part(&key, 0..batch, row..row + 1), part(&value, 0..batch, row..row + 1));
            either!(&mut cache, cache => cache.append(key, value)).unwrap();
            let (found, _) =
                attend(&cache, part(&query, 0..batch, row..row + 1), &config, value_dim).unwrap();
            for (i, found) in found.into_iter().enumerate() {
                let (sequence, head, c) = (i / (heads * value_dim), i / value_dim % heads, i % value_dim);
                let (expected, start) = (&prefill[sequence], first(sequence));
                let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let expected = expected[(head * (total - start) + row - start) * value_dim + c];
                let error = (found - expected).abs();
                assert!(error <= 1e-5 * largest, "row {row}, sequence {sequence}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn attend__step_by_step__equals_prefill() {
    let causal = Mask::causal(QueryPosition::TopLeft);
    check_steps::<f32>((2, 2), [16, 16], (&[1], 40), causal);
    check_steps::<f32>((6, 2), [20, 12], (&[37, 120, 5], 20), causal);
    check_steps::<f32>((4, 2), [16, 8], (&[125, 0], 10), causal.with_window(window(30, 0)));
    check_steps::<f16>((8, 2), [64, 64], (&[3, 190], 12), causal);
    check_steps::<f16>((2, 1), [7, 5], (&[40, 41], 12), causal.with_window(window(9, 0)));
    check_steps::<f32>((2, 1), [16, 16], (&[2046, 1020], 4), causal); // from one key split to two
}

fn check_bits<T: TestElement>((heads, kv_heads): (usize, usize), [dim, value_dim]: [usize; 2]) {
    let lengths = [300, 129, 0, 17];
    let key = random::<T>([4, kv_heads, 300, dim], Memory::PLAIN, 4);
    let value = random::<T>([4, kv_heads, 300, value_dim], Memory::PLAIN, 5);
    let mut caches = caches::<T>([4, kv_heads, 300], [dim, value_dim]);
    caches.iter_mut().for_each(|cache| fill_in_turns(cache, (&key, &value), &lengths));
    for (rows, isa) in [1, 40].into_iter().flat_map(|rows| isas().into_iter().map(move |isa| (rows, isa))) {
        let query = random::<f32>([4, heads, rows, dim], Memory::PLAIN, 6);
        for mask in [
            Mask::default(),
            Mask::causal(QueryPosition::BottomRight),
            Mask::causal(QueryPosition::BottomRight).with_window(window(140, 0)),
        ] {
            let config = AttentionConfig::new().with_mask(mask).with_isa(isa);
            let plain = written([4, heads, rows, value_dim], |target| {
                let config = config.with_mask(mask.with_key_lengths(&lengths));
                let (query, key, value) = (query.view(), key.view(), value.view());
                attention_with(query, key, value, target, &config, &mut Workspace::new())
            });
            let plain = plain.unwrap();
            for cache in &caches {
                let page_len = if let Cache::Paged(cache) = cache { cache.page_len() } else { 0 };
                for parallelism in [Parallelism::Sequential, threads(2)] {
                    let config = config.with_parallelism(parallelism);
                    let found = attend(cache, query.view(), &config, value_dim).unwrap();
                    assert!(
                        bits(&found) == bits(&plain),
                        "{isa}, {rows} rows, pages of {page_len}, {mask:?}"
                    );
                }
                // A sequence alone.
                for sequence in 0..4 {
                    let only = part(&query, sequence..sequence + 1, 0..rows);
                    let alone = written([1, heads, rows, value_dim], |target| {
                        let mut workspace = Workspace::new();
                        either!(cache, cache => cache.attend_in(sequence, only, target, &config, &mut workspace))
                    });
                    let (output, log_sum_exp) = alone.unwrap();
                    let of_batch = |all: &[f32], len: usize| all[sequence * len..][..len].to_vec();
                    let expected = (of_batch(&plain.0, output.len()), of_batch(&plain.1, log_sum_exp.len()));
                    assert!(bits(&(output, log_sum_exp)) == bits(&expected), "{isa}, sequence {sequence}");
                }
            }
        }
    }
}

#[test]
fn attend__any_page_len__gives_the_bits_of_one_tensor() {
    check_bits::<f32>((4, 2), [64, 64]); // plain attention reads values, and for one row keys, in place
    check_bits::<f32>((2, 2), [20, 12]);
    check_bits::<f32>((3, 1), [7, 0]);
    check_bits::<f16>((4, 2), [64, 64]);
    check_bits::<f16>((2, 1), [9, 21]);
}

#[test]
fn attend__long_sequence__gives_the_bits_of_one_tensor_over_all_key_splits() {
    let key = random::<f32>([1, 2, 3300, 32], Memory::PLAIN, 7);
    let query = random::<f32>([1, 4, 2, 32], Memory::PLAIN, 8);
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
    let plain = written([1, 4, 2, 32], |target| {
        attention_with(query.view(), key.view(), key.view(), target, &config, &mut Workspace::new())
    });
    let plain = plain.unwrap();
    for mut cache in caches::<f32>([1, 2, 3300], [32, 32]) {
        fill_in_turns(&mut cache, (&key, &key), &[3300]);
        assert!(bits(&attend(&cache, query.view(), &config, 32).unwrap()) == bits(&plain));
    }
}

#[test]
fn reset__sequences_that_held_nan__leave_no_trace() {
    let (key, value) =
        (random::<f32>([3, 2, 90, 16], Memory::PLAIN, 10), random([3, 2, 90, 16], Memory::PLAIN, 11));
    let query = random::<f32>([3, 2, 1, 16], Memory::PLAIN, 12);
    let lengths = [90, 31, 60];
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
    let nan = Tensor::<f32>::unfilled([3, 2, 90, 16], &Memory::PLAIN);
    let fresh = caches::<f32>([3, 2, 90], [16, 16]);
    let used = caches::<f32>([3, 2, 90], [16, 16]);
    for (mut fresh, mut used) in fresh.into_iter().zip(used) {
        fill_in_turns(&mut fresh, (&key, &value), &lengths);
        either!(&mut used, cache => cache.append(nan.view(), nan.view())).unwrap();
        assert!(attend(&used, query.view(), &config, 16).unwrap().0.iter().all(|x| x.is_nan()));
        either!(&mut used, cache => cache.reset_all());
        fill_in_turns(&mut used, (&key, &value), &[40, 31, 60]);
        // One sequence alone is reset; another is cut back and goes on.
        either!(&mut used, cache => {
            cache.truncate(0, 20).unwrap();
            cache.append_to(0, part(&nan, 0..1, 0..50), part(&nan, 0..1, 0..50)).unwrap();
            cache.truncate(0, 33).unwrap();
            cache.truncate(0, 20).unwrap();
            cache.truncate(0, 1000).unwrap();
            cache.reset(2).unwrap();
            cache.append_to(0, part(&key, 0..1, 20..90), part(&value, 0..1, 20..90)).unwrap();
            cache.append_to(2, part(&key, 2..3, 0..60), part(&value, 2..3, 0..60)).unwrap();
        });
        assert_eq!(either!(&used, cache => cache.lengths()), lengths);
        let (fresh, used) =
            [fresh, used].map(|cache| attend(&cache, query.view(), &config, 16).unwrap()).into();
        assert_eq!(bits(&used), bits(&fresh));
    }
}

#[test]
fn key_and_value__contiguous__are_views_in_place() {
    let (key, value) =
        (random::<f16>([2, 3, 9, 4], Memory::PLAIN, 24), random([2, 3, 9, 5], Memory::PLAIN, 25));
    let mut cache = KvCache::<f16>::new(2, 3, 16, [4, 5]).unwrap();
    cache.append_to(1, part(&key, 1..2, 0..9), part(&value, 1..2, 0..9)).unwrap();
    cache.append_to(0, part(&key, 0..1, 0..2), part(&value, 0..1, 0..2)).unwrap();
    assert_eq!((cache.key().shape(), cache.value().shape()), ([2, 3, 9, 4], [2, 3, 9, 5]));
    assert_eq!(cache.key().strides(), [3 * 16 * 4, 16 * 4, 4, 1]);
    for (sequence, head, row) in [(0, 0, 1), (0, 2, 0), (1, 0, 8), (1, 2, 3)] {
        for c in 0..4 {
            let at = [sequence, head, row, c];
            assert_eq!(cache.key().at(at), key.view().at(at));
            assert_eq!(cache.value().at(at), value.view().at(at));
        }
    }
}
