//! Random cases of middle size: odd lengths and dimensions, strides, grouped heads, masks and options combined.

use std::str::FromStr;

use fastrand::Rng;
use regard::{AttentionConfig, Layout, Mask, QueryPosition, TensorView};

use super::options::Options;
use super::{Inputs, Memory, Sizes, Tensor, TestElement, normal, threads, window};

/// A number from the environment.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |value| value.parse().ok().expect("a number"))
}

const LENGTHS: [usize; 18] = [1, 2, 7, 8, 9, 31, 33, 63, 65, 95, 96, 97, 127, 128, 129, 193, 257, 300];
const DIMS: [usize; 17] = [1, 3, 8, 16, 21, 24, 32, 40, 59, 64, 72, 80, 96, 111, 128, 203, 256];

/// A case with everything its configuration borrows.
#[derive(Debug)]
pub struct Case<Q, KV> {
    sizes: Sizes,
    pub inputs: Inputs<Q, KV>,
    causal: bool,
    position: u8,
    offsets: Vec<i64>,
    window: Option<(usize, usize)>,
    lengths: Option<Vec<usize>>,
    shape: [usize; 4],
    keep: Option<Vec<bool>>,
    bias: Option<Tensor<f32>>,
    options: Options,
    scale: Option<f32>,
    threads: usize,
}

impl<Q: TestElement, KV: TestElement> Case<Q, KV> {
    pub fn random(rng: &mut Rng) -> Self {
        let pick = |from: &[usize], rng: &mut Rng| from[rng.usize(..from.len())];
        let kv_heads = rng.usize(1..3);
        let group = [1, 1, 2, 4, 8][rng.usize(..5)];
        let (s_q, s_kv) = match rng.bool() {
            true => (rng.usize(..70), rng.usize(..300)),
            false => (pick(&LENGTHS, rng), pick(&LENGTHS, rng)),
        };
        let d = pick(&DIMS, rng);
        let d_v = if rng.bool() { d } else { pick(&DIMS, rng) };
        let sizes = Sizes { batch: rng.usize(1..3), heads: kv_heads * group, kv_heads, s_q, s_kv, d, d_v };
        Self::of_sizes(sizes, 320, rng)
    }

    /// A case of given sizes; offsets and windows lie within `reach` keys.
    pub fn of_sizes(sizes: Sizes, reach: usize, rng: &mut Rng) -> Self {
        let Sizes { s_q, s_kv, .. } = sizes;
        let (before, reach) = (reach as i64 / 16, reach as i64);
        let reach_of_window = (reach * 15 / 32) as usize;
        let memory: [Memory; 4] = std::array::from_fn(|_| Memory::random(rng));
        let spread = [0.1, 1.0, 1.0, 3.0][rng.usize(..4)];
        let inputs = Inputs::<Q, KV>::new(sizes, memory, spread, rng);
        let third = |rng: &mut Rng| rng.u8(..3) == 0;
        let broadcast = |size: usize, rng: &mut Rng| if rng.bool() { 1 } else { size };
        let shape = [
            broadcast(sizes.batch, rng),
            broadcast(sizes.heads, rng),
            broadcast(s_q, rng),
            if rng.u8(..4) == 0 { 1 } else { s_kv },
        ];
        let len = shape.iter().product();
        let bias = |rng: &mut Rng| {
            let mut bias = Tensor::<f32>::new(shape, &Memory::random(rng), || 2.0 * normal(rng));
            for index in bias.positions() {
                if rng.u8(..10) == 0 {
                    bias.buffer.data_mut()[index] = f32::NEG_INFINITY;
                }
            }
            bias
        };
        Self {
            sizes,
            inputs,
            causal: rng.bool(),
            position: rng.u8(..4),
            offsets: (0..sizes.batch).map(|_| rng.i64(-before..reach)).collect(),
            window: third(rng).then(|| (rng.usize(..reach_of_window), rng.usize(..reach_of_window))),
            lengths: third(rng).then(|| (0..sizes.batch).map(|_| rng.usize(..=s_kv)).collect()),
            shape,
            keep: third(rng).then(|| (0..len).map(|_| rng.u8(..5) > 0).collect()),
            bias: third(rng).then(|| bias(rng)),
            options: if rng.bool() { Options::random(sizes.heads, rng) } else { Options::default() },
            scale: (rng.u8(..4) == 0).then(|| [0.0, -0.3, 1.0, 0.01, 2.7][rng.usize(..5)]),
            threads: rng.usize(1..4),
        }
    }

    pub fn with_config<R>(&self, work: impl FnOnce(&AttentionConfig<'_>) -> R) -> R {
        let position = match self.position {
            0 => QueryPosition::TopLeft,
            1 => QueryPosition::BottomRight,
            2 => QueryPosition::Offset(self.offsets[0]),
            _ => QueryPosition::OffsetPerSequence(&self.offsets),
        };
        let mut mask = Mask { causal: self.causal, position, ..Mask::default() };
        mask.window = self.window.map(|(left, right)| window(left, right));
        mask.key_lengths = self.lengths.as_deref();
        mask.keep = self
            .keep
            .as_ref()
            .map(|keep| TensorView::new(keep, self.shape, Layout::BatchHeadSeqDim).unwrap());
        let mut config = self.options.apply(AttentionConfig::new().with_mask(mask));
        config.attention_bias = self.bias.as_ref().map(Tensor::view);
        config.softmax_scale = self.scale;
        work(&config.with_parallelism(threads(self.threads)))
    }

    pub fn description(&self) -> String {
        let Self { sizes, causal, position, offsets, window, lengths, shape, options, scale, .. } = self;
        let (keep, bias) = (self.keep.is_some(), self.bias.is_some());
        format!(
            "{sizes:?} causal {causal} position {position} {offsets:?} window {window:?} lengths {lengths:?} \
             keep {keep} bias {bias} {shape:?} scale {scale:?} {options:?}"
        )
    }
}
