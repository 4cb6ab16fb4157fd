//! Grouped-query attention over a cache in half precision: eight query heads read two key heads, in place.
//!
//! `cargo run --release --example grouped_query`

use regard::{AttentionConfig, AttentionError, Layout, TensorView, TensorViewMut, attention, f16};

fn main() -> Result<(), AttentionError> {
    let (heads, kv_heads, keys, dim) = (8, 2, 1000, 64);
    let query: Vec<f32> = (0..heads * dim).map(|i| (i as f32 * 0.01).sin()).collect();
    let cache: Vec<f16> =
        (0..kv_heads * keys * dim).map(|i| f16::from_f32((i as f32 * 0.003).cos())).collect();
    let mut output = vec![0.0f32; heads * dim];

    let key = TensorView::new(&cache, [1, kv_heads, keys, dim], Layout::BatchHeadSeqDim)?;
    attention(
        TensorView::new(&query, [1, heads, 1, dim], Layout::BatchHeadSeqDim)?,
        key,
        key,
        TensorViewMut::new(&mut output, [1, heads, 1, dim], Layout::BatchHeadSeqDim)?,
        &AttentionConfig::new(),
    )?;

    // The same by repeating every key head four times, which is what sharing them avoids.
    let group = heads / kv_heads;
    let repeated: Vec<f16> =
        (0..heads).flat_map(|h| &cache[h / group * keys * dim..][..keys * dim]).copied().collect();
    let key = TensorView::new(&repeated, [1, heads, keys, dim], Layout::BatchHeadSeqDim)?;
    let mut expected = vec![0.0f32; heads * dim];
    attention(
        TensorView::new(&query, [1, heads, 1, dim], Layout::BatchHeadSeqDim)?,
        key,
        key,
        TensorViewMut::new(&mut expected, [1, heads, 1, dim], Layout::BatchHeadSeqDim)?,
        &AttentionConfig::new(),
    )?;
    let difference = output.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    let (shared, copied) = (cache.len() * 2, repeated.len() * 2);
    println!("{shared} bytes of keys instead of {copied}; largest difference {difference:e}");
    assert!(difference < 1e-6);
    Ok(())
}
