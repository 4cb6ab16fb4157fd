//! A multi-head attention layer from a safetensors file, run on a sequence.
//!
//! `cargo run --release --example load_weights [FILE PREFIX HEADS]`: without arguments, the layer of PyTorch's
//! `nn.MultiheadAttention` in `golden/layer/self_attention.safetensors`.

use std::error::Error;

use regard::AttentionConfig;
use regard::layer::MultiHeadAttention;
use safetensors::SafeTensors;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/layer/self_attention.safetensors");
    let (path, prefix, heads) = match &arguments[..] {
        [] => (golden, "", 4),
        [path, prefix, heads] => (path.as_str(), prefix.as_str(), heads.parse()?),
        _ => return Err("expected no arguments, or FILE PREFIX HEADS".into()),
    };
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let layer = MultiHeadAttention::from_safetensors(&file, prefix, [heads, heads])?;
    let model_dim = layer.output_projection().out_features();
    println!("{heads} heads of {} in rows of {model_dim}", layer.head_dim());

    let seq_len = 7;
    let input: Vec<f32> = (0..seq_len * model_dim).map(|i| (i as f32 * 0.1).sin()).collect();
    let output = layer.forward(&input, [1, seq_len], &AttentionConfig::new())?;
    println!("first output row starts with {:.4?}", &output[..4]);
    Ok(())
}
