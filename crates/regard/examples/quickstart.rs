//! Attention over slices, and what one row attends to.
//!
//! `cargo run --release --example quickstart`

use regard::{
    AttentionConfig, AttentionError, AttentionOutput, HeadBlock, Isa, Layout, TensorView, TensorViewMut,
    Workspace, attention_probs, attention_with,
};

fn main() -> Result<(), AttentionError> {
    // Two heads of four elements over five positions; position 1 and position 4 hold the same key.
    let (heads, seq, dim) = (2, 5, 4);
    let shape = [1, heads, seq, dim];
    let query: Vec<f32> = (0..heads * seq * dim).map(|i| (i as f32 * 0.7).sin() * 2.0).collect();
    let mut key: Vec<f32> = (0..heads * seq * dim).map(|i| (i as f32 * 1.3).cos() * 2.0).collect();
    key.copy_within(dim..2 * dim, 4 * dim);
    let value: Vec<f32> = (0..heads * seq * dim).map(|i| i as f32).collect();
    let mut output = vec![0.0; value.len()];
    let mut log_sum_exp = vec![0.0; heads * seq];

    let layout = Layout::BatchHeadSeqDim;
    let config = AttentionConfig::new();
    let (query, key) = (TensorView::new(&query, shape, layout)?, TensorView::new(&key, shape, layout)?);
    let value = TensorView::new(&value, shape, layout)?;
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, shape, layout)?,
        log_sum_exp: Some(&mut log_sum_exp),
    };
    attention_with(query, key, value, target, &config, &mut Workspace::new())?;
    println!("computed on {}; head 0, position 0: {:.3?}", Isa::active()?, &output[..dim]);

    let first_row = HeadBlock { batch: 0, head: 0, rows: 0..1, keys: 0..seq };
    let mut probs = vec![0.0; seq];
    attention_probs(query, key, &log_sum_exp, &first_row, &config, &mut probs)?;
    println!("it attends to {probs:.3?}, which sum to {:.6}", probs.iter().sum::<f32>());
    assert!((probs[1] - probs[4]).abs() < 1e-6, "equal keys get equal probabilities");
    Ok(())
}
