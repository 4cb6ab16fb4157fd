use std::f64::consts::TAU;

use super::collect;
use crate::error::AttentionError;

/// How rotary frequencies are changed to reach beyond the positions that a model was trained on.
///
/// The numbers are those of Hugging Face's `rope_parameters` in a `config.json`; they are f64, because at
/// position 10⁶ a factor rounded to f32 is wrong by 0.06 radians.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub enum RotaryScaling {
    /// Frequencies as they are.
    #[default]
    None,
    /// Position interpolation (Chen et al. 2023): every frequency is divided by the factor; `"linear"`.
    Linear {
        /// How many times as many positions; finite and positive.
        factor: f64,
    },
    /// NTK-aware (bloc97 2023): the base is multiplied by factor^(d/(d − 2)), d the rotary dimension, so that
    /// the lowest frequency is divided by the factor and the highest stays.
    NtkAware {
        /// How many times as many positions; finite and positive.
        factor: f64,
    },
    /// Dynamic NTK (emozilla 2023): NTK-aware with a factor that grows with the sequence; `"dynamic"`. A longer
    /// sequence needs another rotation, of all its keys.
    DynamicNtk {
        /// Up to the original positions the NTK-aware factor is 1, at twice as many this + 1; finite and positive.
        factor: f64,
        /// Positions that the model was trained on; at least 1.
        original_max_positions: usize,
        /// Length of the sequence.
        seq_len: usize,
    },
    /// YaRN (Peng et al. 2023): high frequencies stay, low ones are divided; `"yarn"`.
    Yarn(YarnScaling),
    /// Llama 3.1: the same by wavelength; `"llama3"`.
    Llama3(Llama3Scaling),
}

/// The parameters of YaRN (Peng et al. 2023, §3).
///
/// Fields other than the two of [`Self::new`] are set like this:
///
/// ```
/// use regard::position::YarnScaling;
/// let gpt_oss = YarnScaling { truncate: false, ..YarnScaling::new(32.0, 4096) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YarnScaling {
    /// How many times as many positions; finite and positive.
    pub factor: f64,
    /// Positions that the model was trained on; at least 1.
    pub original_max_positions: usize,
    /// Pairs that turn more often than this within the original positions keep their frequency.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are divided by the factor; at most `beta_fast`.
    pub beta_slow: f64,
    /// Whether the ramp between the two starts and ends at whole pairs.
    pub truncate: bool,
    /// Multiplies cosines and sines, and so the scores by its square; `None` is 0.1·ln(factor) + 1.
    pub attention_factor: Option<f64>,
}

impl YarnScaling {
    /// YaRN as the paper has it: beta 32 and 1, whole pairs, attention factor 0.1·ln(factor) + 1.
    pub fn new(factor: f64, original_max_positions: usize) -> Self {
        let (beta_fast, beta_slow) = (32.0, 1.0);
        Self { factor, original_max_positions, beta_fast, beta_slow, truncate: true, attention_factor: None }
    }
}

/// The parameters of Llama 3.1's scaling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Scaling {
    /// What long wavelengths are multiplied by; finite and positive.
    pub factor: f64,
    /// Positions that the model was trained on; at least 1.
    pub original_max_positions: usize,
    /// Wavelengths above `original_max_positions` / this are multiplied by the factor.
    pub low_frequency_factor: f64,
    /// Wavelengths below `original_max_positions` / this stay; more than `low_frequency_factor`.
    pub high_frequency_factor: f64,
}

impl Llama3Scaling {
    /// As in the released models: low frequency factor 1, high frequency factor 4.
    pub fn new(factor: f64, original_max_positions: usize) -> Self {
        Self { factor, original_max_positions, low_frequency_factor: 1.0, high_frequency_factor: 4.0 }
    }
}

impl RotaryScaling {
    /// What cosines and sines are multiplied by.
    pub(super) fn attention_factor(&self) -> Result<f64, AttentionError> {
        let Self::Yarn(yarn) = self else { return Ok(1.0) };
        let factor = yarn.attention_factor.unwrap_or_else(|| 0.1 * yarn.factor.max(1.0).ln() + 1.0);
        positive("rotary attention factor (positive)", factor)?;
        // It becomes f32 with the cosines.
        let fits = factor <= f64::from(f32::MAX);
        if fits { Ok(factor) } else { Err(invalid("rotary attention factor (f32)", factor)) }
    }

    /// Radians a position for each of the `rotary_dim / 2` pairs.
    pub(super) fn frequencies(&self, base: f64, rotary_dim: usize) -> Result<Vec<f64>, AttentionError> {
        let pairs = rotary_dim / 2;
        let plain = |i| plain(base, i, rotary_dim);
        let frequencies = match *self {
            Self::None => collect(pairs, (0..pairs).map(plain)),
            Self::Linear { factor } => {
                positive(FACTOR, factor)?;
                collect(pairs, (0..pairs).map(|i| plain(i) / factor))
            }
            Self::NtkAware { factor } => ntk_aware(base, factor, rotary_dim),
            Self::DynamicNtk { factor, original_max_positions, seq_len } => {
                positive(FACTOR, factor)?;
                expect_original_positions(original_max_positions)?;
                let stretch = seq_len.max(original_max_positions) as f64 / original_max_positions as f64;
                ntk_aware(base, factor * stretch - (factor - 1.0), rotary_dim)
            }
            Self::Yarn(yarn) => {
                let ramp = yarn.ramp(base, rotary_dim)?;
                collect(
                    pairs,
                    (0..pairs).map(|i| {
                        let (frequency, share) = (plain(i), ramp(i));
                        frequency / yarn.factor * share + frequency * (1.0 - share)
                    }),
                )
            }
            Self::Llama3(llama) => {
                llama.check()?;
                collect(pairs, (0..pairs).map(|i| llama.scale(plain(i))))
            }
        }?;
        // The angle at the last position must be a number, or its cosine is none.
        match frequencies.iter().find(|&&frequency| !(frequency * usize::MAX as f64).is_finite()) {
            Some(&frequency) => Err(invalid("rotary frequency", frequency)),
            None => Ok(frequencies),
        }
    }
}

/// base^(−2i/rotary_dim), the frequency of pair i.
fn plain(base: f64, i: usize, rotary_dim: usize) -> f64 {
    base.powf(-((2 * i) as f64) / rotary_dim as f64)
}

fn ntk_aware(base: f64, factor: f64, rotary_dim: usize) -> Result<Vec<f64>, AttentionError> {
    positive(FACTOR, factor)?;
    if rotary_dim < 4 {
        let expected = "at least 4, for NTK-aware scaling";
        return Err(AttentionError::InvalidSize { what: "rotary_dim", expected, found: rotary_dim });
    }
    let base = base * factor.powf(rotary_dim as f64 / (rotary_dim - 2) as f64);
    positive("rotary base · factor^(d/(d − 2)) (positive)", base)?;
    collect(rotary_dim / 2, (0..rotary_dim / 2).map(|i| plain(base, i, rotary_dim)))
}

impl YarnScaling {
    /// How much of a pair's frequency is the divided one: 0 for the fast pairs, 1 for the slow.
    fn ramp(&self, base: f64, rotary_dim: usize) -> Result<impl Fn(usize) -> f64, AttentionError> {
        positive(FACTOR, self.factor)?;
        expect_original_positions(self.original_max_positions)?;
        positive("rotary beta_slow (positive)", self.beta_slow)?;
        positive("rotary beta_fast (at least beta_slow)", self.beta_fast)?;
        if self.beta_fast < self.beta_slow {
            return Err(invalid("rotary beta_fast (at least beta_slow)", self.beta_fast));
        }
        if base <= 1.0 {
            return Err(invalid("rotary base (above 1, for YaRN)", base));
        }
        let dim = rotary_dim as f64;
        // The pair, as a real number, that turns so often within the original positions.
        let pair_of = |rotations: f64| {
            dim * (self.original_max_positions as f64 / (rotations * TAU)).ln() / (2.0 * base.ln())
        };
        let (low, high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        // The limits (dim − 1, where the last pair is dim/2 − 1) and the 0.001 are transformers'.
        let (low, high) = (low.max(0.0), high.min(dim - 1.0));
        let high = if low == high { high + 0.001 } else { high };
        Ok(move |pair: usize| ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0))
    }
}

impl Llama3Scaling {
    fn check(&self) -> Result<(), AttentionError> {
        positive(FACTOR, self.factor)?;
        expect_original_positions(self.original_max_positions)?;
        positive("rotary low_frequency_factor (positive)", self.low_frequency_factor)?;
        positive(ABOVE_LOW, self.high_frequency_factor)?;
        if self.high_frequency_factor <= self.low_frequency_factor {
            return Err(invalid(ABOVE_LOW, self.high_frequency_factor));
        }
        Ok(())
    }

    fn scale(&self, frequency: f64) -> f64 {
        // How often the pair turns within the original positions.
        let rotations = self.original_max_positions as f64 * frequency / TAU;
        let (low, high) = (self.low_frequency_factor, self.high_frequency_factor);
        let kept = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 - kept) * frequency / self.factor + kept * frequency
    }
}

const FACTOR: &str = "rotary factor (positive)";
const ABOVE_LOW: &str = "rotary high_frequency_factor (above low_frequency_factor)";

fn invalid(what: &'static str, found: f64) -> AttentionError {
    AttentionError::InvalidNumber { what, found: found as f32 }
}

fn positive(what: &'static str, number: f64) -> Result<(), AttentionError> {
    if number.is_finite() && number > 0.0 { Ok(()) } else { Err(invalid(what, number)) }
}

fn expect_original_positions(found: usize) -> Result<(), AttentionError> {
    let (what, expected) = ("original_max_positions", "at least 1");
    if found == 0 { Err(AttentionError::InvalidSize { what, expected, found }) } else { Ok(()) }
}
