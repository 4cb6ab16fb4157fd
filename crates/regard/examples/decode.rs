//! Generation step by step over a cache of keys and values: the rows of one causal call, one at a time.
//!
//! `cargo run --release --example decode`

use std::time::{Duration, Instant};

use regard::layer::KvCache;
use regard::{
    AttentionConfig, AttentionError, AttentionOutput, Layout, Mask, QueryPosition, TensorView, TensorViewMut,
    Workspace, attention,
};

const HEADS: usize = 2;
const DIM: usize = 64;
const STEPS: usize = 4096;

/// The rows of one token, of every head.
fn token(rows: &[f32], step: usize) -> Result<TensorView<'_, f32>, AttentionError> {
    let row = &rows[step * HEADS * DIM..][..HEADS * DIM];
    TensorView::new(row, [1, HEADS, 1, DIM], Layout::BatchSeqHeadDim)
}

fn main() -> Result<(), AttentionError> {
    // What a model would project from one token at a time: [STEPS, HEADS, DIM].
    let numbers = |speed: f32| (0..STEPS * HEADS * DIM).map(|i| (i as f32 * speed).sin()).collect::<Vec<_>>();
    let (query, key, value) = (numbers(0.37), numbers(0.71), numbers(0.13));
    let layout = Layout::BatchSeqHeadDim;
    let row_len = HEADS * DIM;

    // The new token is the last: it is level with the last key of the cache, and sees all before it.
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
    let mut cache = KvCache::new(1, HEADS, STEPS, [DIM, DIM])?;
    let mut workspace = Workspace::new();
    let mut stepwise = vec![0.0; STEPS * row_len];
    let mut times = vec![Duration::ZERO; STEPS];
    for (step, output) in stepwise.chunks_exact_mut(row_len).enumerate() {
        let start = Instant::now();
        cache.append(token(&key, step)?, token(&value, step)?)?;
        let output = TensorViewMut::new(output, [1, HEADS, 1, DIM], layout)?;
        let target = AttentionOutput { output, log_sum_exp: None };
        cache.attend(token(&query, step)?, target, &config, &mut workspace)?;
        times[step] = start.elapsed();
    }

    println!("{HEADS} heads of {DIM}, one token a step; median of 64 steps:");
    for length in [64, 256, 1024, 4096] {
        let mut recent = times[length - 64..length].to_vec();
        recent.sort_unstable();
        println!("  {length:>4} keys: {:>7.1} µs a step", recent[32].as_secs_f64() * 1e6);
    }

    // The same at once: every query against all keys, each seeing those up to its own.
    let all = |rows| TensorView::new(rows, [1, HEADS, STEPS, DIM], layout);
    let mut prefill = vec![0.0; STEPS * row_len];
    let start = Instant::now();
    let target = TensorViewMut::new(&mut prefill, [1, HEADS, STEPS, DIM], layout)?;
    attention(all(&query)?, all(&key)?, all(&value)?, target, &config)?;
    let once = start.elapsed();
    let all_steps: Duration = times.iter().sum();
    println!("all {STEPS} tokens: {once:.0?} at once, {all_steps:.0?} step by step");

    let apart = stepwise.iter().zip(&prefill).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference of an output: {apart:.1e}");
    assert!(apart < 1e-5, "step by step equals at once");
    Ok(())
}
