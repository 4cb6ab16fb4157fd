//! One attention case, with poison around and inside its buffers, run and compared.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod cases;
pub mod gradients;
pub mod onnx;
pub mod options;
pub mod rows;
pub mod special;
pub mod statistics;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fastrand::Rng;
use regard::{
    AttentionConfig, AttentionError, AttentionOutput, Element, Isa, Layout, Mask, Parallelism, QueryPosition,
    TensorView, TensorViewMut, Window, Workspace, attention_with,
    reference::{Reference, ReferenceOutput},
};
use regard_testkit::{Accuracy, PoisonedBuffer};

/// An element type with its unit roundoff and the poison of its outputs.
pub trait TestElement: Element {
    const ROUNDOFF: f64;
    /// The smallest positive number.
    const SMALLEST: f64;
    const NAN: Self;
    fn bits(self) -> u32;
}

impl TestElement for f32 {
    const ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;
    const SMALLEST: f64 = 1e-45;
    const NAN: Self = f32::NAN;
    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl TestElement for regard::f16 {
    const ROUNDOFF: f64 = 1.0 / (1u64 << 11) as f64;
    const SMALLEST: f64 = 1.0 / (1u64 << 24) as f64;
    const NAN: Self = regard::f16::NAN;
    fn bits(self) -> u32 {
        u32::from(self.to_bits())
    }
}

impl TestElement for regard::bf16 {
    const ROUNDOFF: f64 = 1.0 / (1u64 << 8) as f64;
    const SMALLEST: f64 = 1e-40;
    const NAN: Self = regard::bf16::NAN;
    fn bits(self) -> u32 {
        u32::from(self.to_bits())
    }
}

/// A tensor with its memory: strides, and poison wherever no element is.
#[derive(Debug, Clone)]
pub struct Tensor<T> {
    pub buffer: PoisonedBuffer<T>,
    pub shape: [usize; 4],
    pub strides: [usize; 4],
}

impl<T: TestElement> Tensor<T> {
    pub fn new(shape: [usize; 4], memory: &Memory, fill: impl FnMut() -> f32) -> Self {
        let mut tensor = Self::unfilled(shape, memory);
        tensor.fill(fill);
        tensor
    }

    pub fn unfilled(shape: [usize; 4], memory: &Memory) -> Self {
        let [_, h, s, d] = shape;
        let row = d * memory.dim_stride + memory.row_gap;
        let strides = match memory.layout {
            Layout::BatchHeadSeqDim => [h * s * row, s * row, row, memory.dim_stride],
            Layout::BatchSeqHeadDim => [s * h * row, row, h * row, memory.dim_stride],
        };
        let empty = shape.contains(&0);
        let last: usize =
            shape.iter().zip(strides).map(|(size, stride)| size.saturating_sub(1) * stride).sum();
        let len = if empty { 0 } else { last + 1 };
        Self { buffer: PoisonedBuffer::new(len, memory.offset, T::NAN), shape, strides }
    }

    pub fn fill(&mut self, mut next: impl FnMut() -> f32) {
        for index in self.positions() {
            self.buffer.data_mut()[index] = T::from_f32(next());
        }
    }

    pub fn set(&mut self, at: [usize; 4], number: f32) {
        let index = self.index(at);
        self.buffer.data_mut()[index] = T::from_f32(number);
    }

    pub fn index(&self, at: [usize; 4]) -> usize {
        at.iter().zip(self.strides).map(|(i, stride)| i * stride).sum()
    }

    pub fn positions(&self) -> Vec<usize> {
        let [b, h, s, d] = self.shape;
        let mut all = Vec::with_capacity(b * h * s * d);
        for i in 0..b * h * s * d {
            all.push(self.index([i / (h * s * d), i / (s * d) % h, i / d % s, i % d]));
        }
        all
    }

    pub fn numbers(&self) -> Vec<f32> {
        self.positions().into_iter().map(|i| self.buffer.data()[i].to_f32()).collect()
    }

    pub fn view(&self) -> TensorView<'_, T> {
        TensorView::with_strides(self.buffer.data(), self.shape, self.strides).unwrap()
    }

    pub fn view_mut(&mut self) -> TensorViewMut<'_, T> {
        TensorViewMut::with_strides(self.buffer.data_mut(), self.shape, self.strides).unwrap()
    }

    /// Whether nothing but the tensor's own positions was written.
    pub fn is_intact(&self) -> bool {
        let mut used = vec![false; self.buffer.data().len()];
        self.positions().into_iter().for_each(|i| used[i] = true);
        self.buffer.is_intact(T::bits, |i| used[i])
    }
}

/// How a tensor lies in memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub layout: Layout,
    pub row_gap: usize,
    pub dim_stride: usize,
    pub offset: usize,
}

impl Memory {
    pub const PLAIN: Self = Self { layout: Layout::BatchHeadSeqDim, row_gap: 0, dim_stride: 1, offset: 0 };

    pub fn random(rng: &mut Rng) -> Self {
        let layout = if rng.bool() { Layout::BatchHeadSeqDim } else { Layout::BatchSeqHeadDim };
        let dim_stride = if rng.u8(..4) == 0 { rng.usize(2..4) } else { 1 };
        let row_gap = if rng.bool() { rng.usize(..9) } else { 0 };
        Self { layout, row_gap, dim_stride, offset: rng.usize(..32) }
    }
}

/// The sizes of a case: batch, heads, kv heads, query rows, keys, head_dim, value_head_dim.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub s_q: usize,
    pub s_kv: usize,
    pub d: usize,
    pub d_v: usize,
}

/// Inputs of a case in the storage types Q (query, output) and KV (key, value).
#[derive(Debug, Clone)]
pub struct Inputs<Q, KV> {
    pub query: Tensor<Q>,
    pub key: Tensor<KV>,
    pub value: Tensor<KV>,
    pub output_memory: Memory,
}

/// A roughly normal number.
pub fn normal(rng: &mut Rng) -> f32 {
    (0..4).map(|_| rng.f32() - 0.5).sum::<f32>() * 1.73
}

impl<Q: TestElement, KV: TestElement> Inputs<Q, KV> {
    pub fn new(sizes: Sizes, memory: [Memory; 4], spread: f32, rng: &mut Rng) -> Self {
        let Sizes { batch, heads, kv_heads, s_q, s_kv, d, d_v } = sizes;
        Self {
            query: Tensor::new([batch, heads, s_q, d], &memory[0], || spread * normal(rng)),
            key: Tensor::new([batch, kv_heads, s_kv, d], &memory[1], || spread * normal(rng)),
            value: Tensor::new([batch, kv_heads, s_kv, d_v], &memory[2], || normal(rng)),
            output_memory: memory[3],
        }
    }

    pub fn plain(sizes: Sizes, seed: u64) -> Self {
        Self::new(sizes, [Memory::PLAIN; 4], 1.0, &mut Rng::with_seed(seed))
    }

    /// Output (in b, h, s, d order, widened) and log-sum-exp; checks that nothing else was written.
    pub fn run(&self, config: &AttentionConfig<'_>) -> Result<(Vec<f32>, Vec<f32>), AttentionError> {
        self.run_in(config, &mut Workspace::new())
    }

    pub fn run_in(
        &self,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(Vec<f32>, Vec<f32>), AttentionError> {
        let (output, log_sum_exp) = self.run_stored(config, workspace)?;
        Ok((output.numbers(), log_sum_exp))
    }

    /// The same with the output as stored.
    pub fn run_stored(
        &self,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(Tensor<Q>, Vec<f32>), AttentionError> {
        let [b, h, s_q, _] = self.query.shape;
        let mut output = Tensor::<Q>::unfilled([b, h, s_q, self.value.shape[3]], &self.output_memory);
        let mut log_sum_exp = PoisonedBuffer::new(b * h * s_q, 3, f32::NAN);
        let target = AttentionOutput { output: output.view_mut(), log_sum_exp: Some(log_sum_exp.data_mut()) };
        attention_with(self.query.view(), self.key.view(), self.value.view(), target, config, workspace)?;
        assert!(output.is_intact(), "wrote outside the output");
        assert!(log_sum_exp.is_intact(f32::to_bits, |_| true), "wrote outside the log-sum-exp");
        Ok((output, log_sum_exp.data().to_vec()))
    }

    /// Runs on every instruction set and compares by the accuracy rule; returns the worst share of it used.
    pub fn check(&self, config: &AttentionConfig<'_>) -> Result<f64, String> {
        let views = (self.query.view(), self.key.view(), self.value.view());
        let truth = Reference::<f64>::new(views.0, views.1, views.2, config).unwrap().forward();
        let naive = Reference::<f32>::new(views.0, views.1, views.2, config).unwrap().forward();
        let mut worst = 0.0f64;
        for isa in isas() {
            let found = self.run(&config.with_isa(isa)).map_err(|e| e.to_string())?;
            let share = self.compare((&found.0, &found.1), &truth, &naive);
            worst = worst.max(share.map_err(|e| format!("{isa}: {e}"))?);
        }
        Ok(worst)
    }

    fn compare(
        &self,
        (found, found_lse): (&[f32], &[f32]),
        truth: &ReferenceOutput<f64>,
        naive: &ReferenceOutput<f32>,
    ) -> Result<f64, String> {
        let rounded: Vec<f32> = naive.output.iter().map(|&x| Q::from_f32(x).to_f32()).collect();
        let (s_q, d_v) = (self.query.shape[2], self.value.shape[3]);
        let largest = |numbers: &[f64]| numbers.iter().copied().fold(0.0, f64::max);
        let mut worst = 0.0f64;
        for head in 0..self.query.shape[0] * self.query.shape[1] {
            let rows = head * s_q..(head + 1) * s_q;
            let out = rows.start * d_v..rows.end * d_v;
            let scores = largest(&truth.max_abs_score[rows.clone()]);
            let score_terms = largest(&truth.max_score_terms[rows.clone()]);
            let output_terms = largest(&truth.max_output_terms[rows.clone()]);
            let rule = |roundoff, max_abs_score, magnitude| Accuracy {
                factor: 2.0,
                roundoff,
                max_abs_score,
                rounding_magnitude: 0.0,
                magnitude,
                underflow: 1.0,
            };

            let (truth_out, naive_out) = (&truth.output[out.clone()], &rounded[out.clone()]);
            let check = |rule: Accuracy| rule.check(&found[out.clone()], truth_out, naive_out);
            let share = check(rule(Q::ROUNDOFF, scores, 0.0))
                .or_else(|_| cancelled(check(rule(Q::ROUNDOFF, score_terms, output_terms))))
                .map_err(|e| format!("head {head}, output: {e}"))?;

            // A log-sum-exp near 0 is the logarithm of a sum near 1.
            let (truth_lse, naive_lse) = (&truth.log_sum_exp[rows.clone()], &naive.log_sum_exp[rows.clone()]);
            let check = |rule: Accuracy| rule.check(&found_lse[rows.clone()], truth_lse, naive_lse);
            let lse_share = check(rule(f32::ROUNDOFF, scores, 1.0))
                .or_else(|_| cancelled(check(rule(f32::ROUNDOFF, score_terms, 1.0))))
                .map_err(|e| format!("head {head}, log_sum_exp: {e}"))?;
            count_head();
            worst = worst.max(share).max(lse_share);
        }
        Ok(worst)
    }
}

static HEADS: AtomicUsize = AtomicUsize::new(0);
static CANCELLED: AtomicUsize = AtomicUsize::new(0);

/// Counts a head that was compared.
pub fn count_head() {
    HEADS.fetch_add(1, Relaxed);
}

/// Counts a head whose numbers all cancel to a small part of what was summed: there a naive sum is more accurate
/// by luck than any bound in max|r| and max|s| allows, so the size of the terms stands in for both.
pub fn cancelled(result: Result<f64, String>) -> Result<f64, String> {
    CANCELLED.fetch_add(1, Relaxed);
    result
}

/// Asserts that at most one head in 2,000 (rounded up) of those compared in this process needed the size of its summed
/// terms in place of max|r| and max|s|, and says how many did.
pub fn cancelled_heads() -> String {
    let (heads, cancelled) = (HEADS.load(Relaxed), CANCELLED.load(Relaxed));
    assert!(
        cancelled * 2000 <= heads,
        "{cancelled} of {heads} heads are beyond the rule in max|r| and max|s|"
    );
    format!("{cancelled} of {heads} heads by the size of their terms")
}

/// The instruction sets to test: all that there are, or the one that `REGARD_ISA` forces.
pub fn isas() -> Vec<Isa> {
    match std::env::var("REGARD_ISA") {
        Ok(_) => vec![Isa::active().unwrap()],
        Err(_) => Isa::available(),
    }
}

pub fn threads(n: usize) -> Parallelism {
    Parallelism::Threads(n.try_into().unwrap())
}

pub fn window(left: usize, right: usize) -> Window {
    Window { left, right }
}

/// The masks of the exhaustive grid.
pub fn grid_masks() -> [(&'static str, Mask<'static>); 4] {
    [
        ("none", Mask::default()),
        ("causal top-left", Mask::causal(QueryPosition::TopLeft)),
        ("causal bottom-right", Mask::causal(QueryPosition::BottomRight)),
        ("window", Mask::window(window(2, 1), QueryPosition::BottomRight)),
    ]
}
