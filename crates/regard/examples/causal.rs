//! Causal masks, and why a query's position has to be said when there are fewer queries than keys.
//!
//! `cargo run --release --example causal`

use regard::{
    AttentionConfig, AttentionError, Layout, Mask, QueryPosition, TensorView, TensorViewMut, Window,
    attention,
};

fn main() -> Result<(), AttentionError> {
    let (seq_q, seq_kv, dim) = (2, 6, 8);
    // Equal keys: every allowed key gets the same probability, so the output is the mean of allowed values.
    let query = vec![1.0f32; seq_q * dim];
    let key = vec![0.5f32; seq_kv * dim];
    let value: Vec<f32> = (0..seq_kv * dim).map(|i| (i / dim) as f32).collect();
    let layout = Layout::BatchHeadSeqDim;
    let run = |mask: Mask<'_>| -> Result<Vec<f32>, AttentionError> {
        let mut output = vec![0.0; seq_q * dim];
        attention(
            TensorView::new(&query, [1, 1, seq_q, dim], layout)?,
            TensorView::new(&key, [1, 1, seq_kv, dim], layout)?,
            TensorView::new(&value, [1, 1, seq_kv, dim], layout)?,
            TensorViewMut::new(&mut output, [1, 1, seq_q, dim], layout)?,
            &AttentionConfig::new().with_mask(mask),
        )?;
        Ok(output.into_iter().step_by(dim).collect())
    };

    // Two new tokens after four cached ones: the last query is level with the last key.
    let continued = run(Mask::causal(QueryPosition::BottomRight))?;
    println!("bottom-right (new tokens after a cache): means {continued:?}");
    assert_eq!(continued, [2.0, 2.5]);
    // The first two tokens of the sequence: the first query is level with the first key.
    let started = run(Mask::causal(QueryPosition::TopLeft))?;
    println!("top-left (the sequence's own start):     means {started:?}");
    assert_eq!(started, [0.0, 0.5]);
    // Everything in a mask is intersected: causal, and at most one key back.
    let near = run(Mask::causal(QueryPosition::BottomRight).with_window(Window { left: 1, right: 0 }))?;
    println!("… within a window of one key back:       means {near:?}");
    assert_eq!(near, [3.5, 4.5]);
    Ok(())
}
