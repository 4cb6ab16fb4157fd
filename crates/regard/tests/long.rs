//! Sequences whose score matrix would not fit any memory. Slow: run with `--ignored`.
#![allow(non_snake_case)]

use regard::{
    AttentionConfig, AttentionGradients, AttentionOutput, BackwardInputs, Layout, Mask, QueryPosition,
    StatisticsRequest, TensorView, TensorViewMut, Workspace, attention_backward, attention_statistics,
    attention_with, reference::Reference,
};

/// Peak resident memory of this process in bytes, where the system says so.
fn peak_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
}

#[test]
#[ignore = "10 s: one head over 65,536 positions; its score matrix would take 17 GB"]
fn forward__65536_positions__take_under_200_megabytes_in_all() {
    let (seq, dim) = (65_536, 64);
    let numbers = |seed: u64| -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..seq * dim).map(|_| rng.f32() * 4.0 - 2.0).collect()
    };
    let (query, key, value) = (numbers(1), numbers(2), numbers(3));
    let view = |data| TensorView::new(data, [1, 1, seq, dim], Layout::BatchHeadSeqDim).unwrap();
    let (query, key, value) = (view(&query), view(&key), view(&value));
    let (mut output, mut log_sum_exp) = (vec![0.0; seq * dim], vec![0.0; seq]);
    let config = AttentionConfig::new();
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, [1, 1, seq, dim], Layout::BatchHeadSeqDim).unwrap(),
        log_sum_exp: Some(&mut log_sum_exp),
    };
    attention_with(query, key, value, target, &config, &mut Workspace::new()).unwrap();
    let peak = peak_bytes();
    let reference = Reference::<f64>::new(query, key, value, &config).unwrap();
    for row in [0, 777, 33_333, seq - 1] {
        let truth = reference.row([0, 0, row]).unwrap();
        for (found, expected) in output[row * dim..].iter().zip(&truth.output) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "row {row}: {found} {expected}");
        }
        assert!((f64::from(log_sum_exp[row]) - truth.log_sum_exp).abs() < 1e-5);
    }
    match peak {
        Some(peak) => {
            println!("COUNT: 1 head of {seq} x {seq}: peak memory {:.1} MB in all", peak as f64 / 1e6);
            assert!(peak < 200_000_000, "{peak} bytes");
        }
        None => regard_testkit::skip("this system does not say how much memory a process took"),
    }
}

fn view_mut(seq: usize, dim: usize, data: &mut [f32]) -> TensorViewMut<'_, f32> {
    TensorViewMut::new(data, [1, 1, seq, dim], Layout::BatchHeadSeqDim).unwrap()
}

/// In a process of its own (`.ci/run`), because the peak is of the whole process.
#[test]
#[ignore = "1 min: forward and backward of one head over 65,536 positions"]
fn backward__65536_positions__take_under_300_megabytes_in_all() {
    let (seq, dim) = (65_536, 64);
    let numbers = |seed: u64| -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..seq * dim).map(|_| rng.f32() * 4.0 - 2.0).collect()
    };
    let data = [1, 2, 3, 4].map(numbers);
    let [query, key, value, d_output] = [0, 1, 2, 3]
        .map(|i: usize| TensorView::new(&data[i], [1, 1, seq, dim], Layout::BatchHeadSeqDim).unwrap());
    let mut gradients = [0; 3].map(|_| vec![f32::NAN; seq * dim]);
    let (mut output, mut log_sum_exp) = (vec![0.0; seq * dim], vec![0.0; seq]);
    let (config, mut workspace) = (AttentionConfig::new(), Workspace::new());
    let target =
        AttentionOutput { output: view_mut(seq, dim, &mut output), log_sum_exp: Some(&mut log_sum_exp) };
    attention_with(query, key, value, target, &config, &mut workspace).unwrap();
    drop(workspace);
    let inputs = BackwardInputs {
        output: TensorView::new(&output, [1, 1, seq, dim], Layout::BatchHeadSeqDim).unwrap(),
        log_sum_exp: &log_sum_exp,
        d_output,
        d_log_sum_exp: None,
    };
    let [d_query, d_key, d_value] = gradients.each_mut();
    let targets = AttentionGradients::new(
        view_mut(seq, dim, d_query),
        view_mut(seq, dim, d_key),
        view_mut(seq, dim, d_value),
    );
    attention_backward(query, key, value, inputs, targets, &config, &mut Workspace::new()).unwrap();
    let peak = peak_bytes();

    // d_query of some rows in f64, from the textbook's probabilities.
    let reference = Reference::<f64>::new(query, key, value, &config).unwrap();
    for row in [0, 40_001, seq - 1] {
        let truth = reference.row([0, 0, row]).unwrap();
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let row_of = |data: &Vec<f32>, j: usize| data[j * dim..(j + 1) * dim].to_vec();
        let d_o = row_of(&data[3], row);
        let delta: f64 = d_o.iter().zip(&truth.output).map(|(&a, &b)| f64::from(a) * b).sum();
        let mut expected = vec![0.0f64; dim];
        for j in 0..seq {
            let d_score = truth.probs[j] * (dot(&d_o, &row_of(&data[2], j)) - delta) / 8.0;
            expected.iter_mut().zip(row_of(&data[1], j)).for_each(|(sum, k)| *sum += d_score * f64::from(k));
        }
        for (&found, expected) in gradients[0][row * dim..].iter().zip(&expected) {
            assert!((f64::from(found) - expected).abs() < 1e-6, "row {row}: {found} {expected}");
        }
    }
    // Every probability of a row sums to 1: d_value sums to d_output's sum, column by column.
    for c in 0..dim {
        let sum = |data: &[f32]| data.iter().skip(c).step_by(dim).map(|&x| f64::from(x)).sum::<f64>();
        let (found, expected) = (sum(&gradients[2]), sum(&data[3]));
        assert!((found - expected).abs() < 1e-2, "column {c}: {found} {expected}");
        assert!(sum(&gradients[1]).abs() < 1e-2, "column {c}: a shift of all keys changes nothing");
    }
    match peak {
        Some(peak) => {
            println!(
                "COUNT: gradients of 1 head of {seq} x {seq}: peak memory {:.1} MB in all",
                peak as f64 / 1e6
            );
            assert!(peak < 300_000_000, "{peak} bytes");
        }
        None => regard_testkit::skip("this system does not say how much memory a process took"),
    }
}

/// In a process of its own (`.ci/run`), because the peak is of the whole process.
#[test]
#[ignore = "10 s: what one head of 65,536 positions attends to"]
fn statistics__65536_positions__take_under_200_megabytes_in_all() {
    let (seq, dim) = (65_536, 64);
    let numbers = |seed: u64| -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..seq * dim).map(|_| rng.f32() * 4.0 - 2.0).collect()
    };
    let (query, key) = (numbers(1), numbers(2));
    let view = |data| TensorView::new(data, [1, 1, seq, dim], Layout::BatchHeadSeqDim).unwrap();
    let (query, key) = (view(&query), view(&key));
    let token_ids: Vec<u32> = (0..seq as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 23).collect();
    let offsets = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let request = StatisticsRequest::new()
        .with_top_k(8)
        .with_offsets(&offsets)
        .with_distance_bins(17)
        .with_token_ids(&token_ids)
        .with_received()
        .with_thumbnail([48, 48]);
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
    let found = attention_statistics(query, key, &request, &config, &mut Workspace::new()).unwrap();
    let peak = peak_bytes();
    let reference = Reference::<f64>::new(query, key, key, &config).unwrap();
    for row in [0, 777, 33_333, seq - 1] {
        let truth = reference.row_statistics([0, 0, row], &request).unwrap();
        let of_row = |numbers: &[f32], len: usize| numbers[row * len..(row + 1) * len].to_vec();
        for (found, truth) in [
            (of_row(&found.entropy, 1), &[truth.entropy][..]),
            (of_row(&found.mean_distance, 1), &[truth.mean_distance]),
            (of_row(&found.distance_mass, 35), &truth.distance_mass),
            (of_row(&found.offset_mass, 17), &truth.offset_mass),
            (of_row(&found.same_token_mass, 1), &[truth.same_token_mass]),
            (of_row(&found.induction_mass, 1), &[truth.induction_mass]),
            (
                of_row(&found.top_probs, 8)[..truth.top.len()].to_vec(),
                &truth.top.iter().map(|top| top.1).collect::<Vec<_>>(),
            ),
        ] {
            assert_eq!(found.len(), truth.len());
            for (x, r) in found.iter().zip(truth) {
                assert!((f64::from(*x) - r).abs() <= 1e-5 * r.abs().max(1.0), "row {row}: {x} {r}");
            }
        }
        let keys: Vec<usize> = truth.top.iter().map(|top| top.0).collect();
        let named: Vec<usize> =
            found.top_keys[row * 8..].iter().take(keys.len()).map(|&key| key as usize).collect();
        assert_eq!(named, keys, "row {row}");
    }
    // The last key is seen by the last row alone, and all rows give away 1.
    let last = reference.row_statistics([0, 0, seq - 1], &request).unwrap().probs[seq - 1];
    assert!((f64::from(found.received[seq - 1]) - last).abs() < 1e-5);
    for numbers in [&found.received, &found.thumbnail] {
        let sum: f64 = numbers.iter().map(|&x| f64::from(x)).sum();
        assert!((sum / seq as f64 - 1.0).abs() < 1e-5, "{sum}");
    }
    match peak {
        Some(peak) => {
            println!(
                "COUNT: statistics of 1 head of {seq} x {seq}: peak memory {:.1} MB in all",
                peak as f64 / 1e6
            );
            assert!(peak < 200_000_000, "{peak} bytes");
        }
        None => regard_testkit::skip("this system does not say how much memory a process took"),
    }
}
