//! Sequences whose score matrix would not fit any memory. Slow: run with `--ignored`.
#![allow(non_snake_case)]

use regard::{
    AttentionConfig, AttentionOutput, Layout, TensorView, TensorViewMut, Workspace, attention_with,
    reference::Reference,
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
