//! Random calls full of special values, drawn for the tests of the forward and of the backward pass.

use fastrand::Rng;
use regard::{AttentionConfig, Isa, Layout, Mask, Parallelism, QueryPosition, TensorView};

use super::options::Options;
use super::{Inputs, Memory, Sizes, normal, window};

pub const SPECIAL: [f32; 5] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];

/// Bits with all NaN alike.
pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

pub fn pick<T: Copy>(from: &[T], rng: &mut Rng) -> T {
    from[rng.usize(..from.len())]
}

fn sizes(rng: &mut Rng) -> Sizes {
    let (kv_heads, group) = (rng.usize(1..3), pick(&[1, 1, 2, 3], rng));
    // Every sixth case is long enough for its keys to be split.
    let (s_q, s_kv) = if rng.u8(..6) == 0 {
        (pick(&[1, 2, 3, 9, 13], rng), rng.usize(1500..4500))
    } else {
        (pick(&[0, 1, 2, 3, 8, 9, 40, 97, 100], rng), pick(&[0, 1, 2, 31, 33, 127, 128, 129, 200, 300], rng))
    };
    let (d, d_v) = (pick(&[1, 2, 3, 8, 16, 17], rng), pick(&[0, 1, 2, 8, 16, 19, 32], rng));
    Sizes { batch: rng.usize(1..4), heads: kv_heads * group, kv_heads, s_q, s_kv, d, d_v }
}

/// Draws a call and hands it to `check` with a description.
pub fn special_case<T>(
    seed: u64,
    isa: Isa,
    rng: &mut Rng,
    check: impl FnOnce(&Inputs<f32, f32>, &AttentionConfig<'_>, &str, &mut Rng) -> T,
) -> T {
    let sizes = sizes(rng);
    let Sizes { batch, heads, kv_heads, s_q, s_kv, d, d_v } = sizes;
    let mut inputs = Inputs::<f32, f32>::new(sizes, [Memory::PLAIN; 4], 1.0, rng);
    for (tensor, len) in [
        (&mut inputs.query, batch * heads * s_q * d),
        (&mut inputs.key, batch * kv_heads * s_kv * d),
        (&mut inputs.value, batch * kv_heads * s_kv * d_v),
    ] {
        for _ in 0..if len == 0 || rng.bool() { 0 } else { rng.usize(..4) } {
            tensor.buffer.data_mut()[rng.usize(..len)] = pick(&SPECIAL, rng);
        }
    }
    let near = -60..s_kv as i64 + 60;
    let offsets: Vec<i64> = (0..batch)
        .map(|_| {
            if rng.bool() {
                pick(&[i64::MIN, i64::MAX, -(s_q as i64), s_kv as i64], rng)
            } else {
                rng.i64(near.clone())
            }
        })
        .collect();
    let lengths: Vec<usize> =
        (0..batch).map(|_| if rng.bool() { pick(&[0, s_kv], rng) } else { rng.usize(..=s_kv) }).collect();
    let position = match rng.u8(..4) {
        0 => QueryPosition::TopLeft,
        1 => QueryPosition::BottomRight,
        2 => QueryPosition::Offset(offsets[0]),
        _ => QueryPosition::OffsetPerSequence(&offsets),
    };
    let mut mask = Mask { causal: rng.bool(), position, ..Mask::default() };
    if rng.u8(..3) == 0 {
        let reach = |rng: &mut Rng| {
            if rng.bool() { pick(&[0, usize::MAX / 2, usize::MAX], rng) } else { rng.usize(..200) }
        };
        mask = mask.with_window(window(reach(rng), reach(rng)));
    }
    if rng.bool() {
        mask = mask.with_key_lengths(&lengths);
    }
    let shape = [batch, heads, s_q, s_kv].map(|size| if rng.bool() { 1 } else { size });
    let len = shape.iter().product::<usize>();
    let kept = pick(&[1, 2, 9], rng);
    let keep: Vec<bool> = (0..len).map(|_| rng.u8(..10) < kept).collect();
    if rng.u8(..3) == 0 {
        mask = mask.with_keep(TensorView::new(&keep, shape, Layout::BatchHeadSeqDim).unwrap());
    }
    let mut bias: Vec<f32> =
        (0..len).map(|_| if rng.u8(..6) == 0 { f32::NEG_INFINITY } else { normal(rng) }).collect();
    if len > 0 && rng.bool() {
        bias[rng.usize(..len)] = pick(&SPECIAL[..2], rng);
    }
    let mut options = if rng.bool() { Options::random(heads, rng) } else { Options::default() };
    if offsets.iter().any(|offset| offset.unsigned_abs() > 1 << 24) {
        options.alibi = None; // such distances are rounded, and cancel against each other
    }
    let mut config = options.apply(AttentionConfig::new().with_isa(isa).with_mask(mask));
    if rng.u8(..3) == 0 {
        config = config.with_attention_bias(TensorView::new(&bias, shape, Layout::BatchHeadSeqDim).unwrap());
    }
    if rng.u8(..4) == 0 {
        config = config.with_softmax_scale(pick(&[0.0, -0.0, -0.3, 1.0], rng));
    }
    let what = format!(
        "seed {seed} {isa} {sizes:?} {:?} {:?} {:?} {options:?}",
        mask.position, mask.window, mask.key_lengths
    );
    check(&inputs, &config.with_parallelism(Parallelism::Sequential), &what, rng)
}
