//! Random options of an attention call, with the memory they borrow from.

use fastrand::Rng;
use regard::{AttentionConfig, Dropout, RelativeBias};

use super::normal;

#[derive(Clone, Default)]
pub struct Options {
    pub alibi: Option<Vec<f32>>,
    pub relative: Option<(Vec<f32>, usize, usize)>,
    pub softcap: Option<f32>,
    pub sinks: Option<Vec<f32>>,
    pub dropout: Option<Dropout>,
}

impl Options {
    /// Each option one time in three.
    pub fn random(heads: usize, rng: &mut Rng) -> Self {
        let chance = |rng: &mut Rng| rng.u8(..3) == 0;
        let (left, right) = (rng.usize(..40), rng.usize(..40));
        Self {
            alibi: chance(rng).then(|| (0..heads).map(|_| rng.f32() * 0.2 - 0.02).collect()),
            relative: chance(rng).then(|| {
                let len = heads * (left + 1 + right);
                let number = |rng: &mut Rng| if rng.u8(..12) == 0 { f32::NEG_INFINITY } else { normal(rng) };
                ((0..len).map(|_| number(rng)).collect(), left, right)
            }),
            softcap: chance(rng).then(|| [0.5, 5.0, 50.0][rng.usize(..3)]),
            sinks: chance(rng).then(|| {
                let number =
                    |rng: &mut Rng| if rng.u8(..8) == 0 { f32::NEG_INFINITY } else { 3.0 * normal(rng) };
                (0..heads).map(|_| number(rng)).collect()
            }),
            dropout: chance(rng).then(|| Dropout::new([0.0, 0.1, 0.5, 0.9][rng.usize(..4)], rng.u64(..))),
        }
    }

    /// The configuration with these options.
    pub fn apply<'a>(&'a self, mut config: AttentionConfig<'a>) -> AttentionConfig<'a> {
        config.alibi_slopes = self.alibi.as_deref();
        config.relative_bias =
            self.relative.as_ref().map(|(table, left, right)| RelativeBias::new(table, *left, *right));
        config.softcap = self.softcap;
        config.sinks = self.sinks.as_deref();
        config.dropout = self.dropout;
        config
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let relative = self.relative.as_ref().map(|(_, left, right)| (left, right));
        write!(f, "alibi {:?} relative {relative:?} cap {:?} ", self.alibi, self.softcap)?;
        write!(f, "sinks {:?} dropout {:?}", self.sinks, self.dropout)
    }
}
