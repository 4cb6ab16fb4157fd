use super::collect;
use crate::error::AttentionError;

/// The slope of each head for attention with linear biases (ALiBi; Press, Smith and Lewis 2022, §3):
/// 2^(−8/n), 2^(−16/n), … 2^(−8) for n heads, n a power of two.
///
/// For another number of heads, as in the paper's published code: the slopes of the largest power of two n
/// below it, and then every second slope of 2n heads, from the first. `[num_heads]`, for
/// [`AttentionConfig::alibi_slopes`](crate::AttentionConfig::alibi_slopes).
///
/// ```
/// assert_eq!(regard::position::alibi_slopes(4)?, [0.25, 0.0625, 0.015625, 0.00390625]);
/// # Ok::<(), regard::AttentionError>(())
/// ```
///
/// # Errors
/// [`AttentionError::AllocationFailed`] if so many slopes do not fit in memory.
pub fn alibi_slopes(num_heads: usize) -> Result<Vec<f32>, AttentionError> {
    let power = num_heads.checked_ilog2().map_or(0, |exponent| 1usize << exponent);
    let step = 8.0 / power as f64;
    // The slopes of 2n heads at even places (from 0) lie between those of n heads.
    let exponent = |head: usize| match head.checked_sub(power) {
        None => (head + 1) as f64 * step,
        Some(extra) => (extra as f64 + 0.5) * step,
    };
    collect(num_heads, (0..num_heads).map(|head| (-exponent(head)).exp2() as f32))
}
