//! The numbers that every worker computes with: a hash, so that none has to send them to another.

use std::ops::Range;

/// Which tensor an element belongs to; the number enters the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Tensor {
    /// `[batch, heads, seq_q, head_dim]`; `[seq_q, head_dim]` in a matrix product.
    Query = 0,
    /// `[batch, kv_heads, seq_kv, head_dim]`; `[head_dim, seq_kv]` in a matrix product.
    Key = 1,
    /// `[batch, kv_heads, seq_kv, head_dim]`.
    Value = 2,
    /// Derivative by the output, `[batch, heads, seq_q, head_dim]`.
    Cotangent = 3,
    /// A layer's input, `[batch, seq, model_dim]`.
    Input = 4,
    /// A layer's weights, `[model_dim, model_dim]` (out, in), times 1/√model_dim.
    QueryWeight = 5,
    /// See [`Tensor::QueryWeight`].
    KeyWeight = 6,
    /// See [`Tensor::QueryWeight`].
    ValueWeight = 7,
    /// See [`Tensor::QueryWeight`].
    OutputWeight = 8,
    /// A layer's biases, `[model_dim]`, times 0.1.
    QueryBias = 9,
    /// See [`Tensor::QueryBias`].
    KeyBias = 10,
    /// See [`Tensor::QueryBias`].
    ValueBias = 11,
    /// See [`Tensor::QueryBias`].
    OutputBias = 12,
    /// Derivative by a layer's output, `[batch, seq, model_dim]`.
    LayerCotangent = 13,
}

/// Numbers in a sample.
pub(crate) const SAMPLES: usize = 16;

/// The element at a flat row-major index: roughly normal, mean 0 and variance 1 (the sum of four uniform numbers).
///
/// SplitMix64's finaliser (Steele, Lea & Flood 2014) of a combination of the three arguments.
pub(crate) fn value(seed: u64, tensor: Tensor, index: u64) -> f32 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((tensor as u64 + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9))
        .wrapping_add((index.wrapping_add(1)).wrapping_mul(0x94D0_49BB_1331_11EB));
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    let fields = (z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48);
    // Both factors are exact in f32, or rounded from f64 once: one rounding is left, that of the product.
    (fields as i32 - 131_070) as f32 * ((3f64.sqrt() / 65_536.0) as f32)
}

/// The elements of a range, each times `scale`, rounded to f32.
pub(crate) fn values(seed: u64, tensor: Tensor, range: Range<usize>, scale: f32) -> Vec<f32> {
    range.map(|index| value(seed, tensor, index as u64) * scale).collect()
}

/// Where a sample of `total` elements looks: (2k + 1)·total/32 for k = 0 … 15.
pub(crate) fn sample_positions(total: usize) -> [usize; SAMPLES] {
    std::array::from_fn(|k| ((2 * k as u128 + 1) * total as u128 / 32) as usize)
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    /// The same constants are in `peers/protocol.py`, which checks them on `--self-test`.
    #[test]
    fn value__golden__is_what_every_worker_computes() {
        let found = GOLDEN.map(|(seed, tensor, index, _)| value(seed, tensor, index).to_bits());
        assert_eq!(found, GOLDEN.map(|(.., bits)| bits), "{found:#010x?}");
    }

    const GOLDEN: [(u64, Tensor, u64, u32); 5] = [
        (0, Tensor::Query, 0, 0x3f74_d930),
        (1, Tensor::Query, 0, 0xbf93_bded),
        (1, Tensor::Value, 12_345, 0xbefa_0d22),
        (7, Tensor::LayerCotangent, 1 << 33, 0xc019_e98f),
        (u64::MAX, Tensor::OutputBias, u64::MAX, 0xbf20_7dfa),
    ];

    #[test]
    fn value__many__have_mean_0_and_variance_1() {
        let numbers = values(3, Tensor::Key, 0..100_000, 1.0);
        let n = numbers.len() as f64;
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn sample_positions__any_total__lie_inside_and_ascend() {
        for total in [1, 7, 32, 1000, 1 << 40] {
            let positions = sample_positions(total);
            assert!(positions.is_sorted() && positions[SAMPLES - 1] < total);
        }
        assert_eq!(sample_positions(3200)[..3], [100, 300, 500]);
    }
}
