//! Few query rows (row dots forward) and many (register tiles) on every instruction set: what tests of meanings go
//! through.

use fastrand::Rng;
use regard::{AttentionConfig, AttentionError, Isa, Workspace};

use super::gradients::{Cotangent, Found};
use super::{Inputs, Memory, Sizes, isas};

/// Query rows that take the dot path, and that take the tiles.
pub const ROWS: [usize; 2] = [3, 40];

/// Keys, head_dim and value_head_dim.
pub const KEYS: usize = 40;
pub const DIM: usize = 16;
pub const VALUE_DIM: usize = 8;

pub fn sizes(s_q: usize) -> Sizes {
    Sizes { batch: 1, heads: 1, kv_heads: 1, s_q, s_kv: KEYS, d: DIM, d_v: VALUE_DIM }
}

/// Runs a test with one head of `s_q` rows.
pub fn each(mut test: impl FnMut(Isa, usize, Inputs<f32, f32>)) {
    for isa in isas() {
        for s_q in ROWS {
            test(isa, s_q, Inputs::plain(sizes(s_q), 11));
        }
    }
}

/// Runs a test with two sequences, four query heads and two key heads.
pub fn each_grouped(mut test: impl FnMut(Isa, usize, Inputs<f32, f32>)) {
    for isa in isas() {
        for s_q in ROWS {
            let sizes = Sizes { batch: 2, heads: 4, kv_heads: 2, ..sizes(s_q) };
            test(isa, s_q, Inputs::plain(sizes, 12));
        }
    }
}

pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Output and log-sum-exp as bits.
pub fn run_bits(inputs: &Inputs<f32, f32>, config: &AttentionConfig<'_>) -> (Vec<u32>, Vec<u32>) {
    let (output, log_sum_exp) = inputs.run(config).unwrap();
    (bits(&output), bits(&log_sum_exp))
}

/// Whether all numbers are within `tolerance`, relative to at least 1.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (x, r)) in found.iter().zip(expected).enumerate() {
        assert!(x == r || (x - r).abs() <= tolerance * (1.0 + r.abs()), "{what}: {x} at {i}, expected {r}");
    }
}

impl Inputs<f32, f32> {
    /// Cotangents that depend on the shape alone.
    pub fn plain_cotangent(&self, with_lse: bool) -> Cotangent<f32> {
        self.cotangent(with_lse, &Memory::PLAIN, &mut Rng::with_seed(21))
    }

    /// The gradients of a call that is fine.
    #[track_caller]
    pub fn found(&self, cotangent: &Cotangent<f32>, config: &AttentionConfig<'_>) -> Found {
        let found: Result<Found, AttentionError> = self.gradients(cotangent, config, &mut Workspace::new());
        found.unwrap()
    }
}
