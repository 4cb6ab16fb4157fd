use super::collect;
use super::rotary_scaling::RotaryScaling;
use crate::error::AttentionError;
use crate::shape::expect;

/// Which elements of a row form the pairs that are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryPairs {
    /// Element i with element i + rotary_dim/2: Llama and GPT-NeoX in Hugging Face files.
    HalfSplit,
    /// Element 2i with element 2i + 1: the paper, GPT-J, and Llama in GGUF files.
    Interleaved,
}

/// Rotary positions (Su et al. 2021, equation 34): pair i of a query or key at position p is turned by the angle
/// p · base^(−2i/rotary_dim), so that a score depends on the distance of query and key.
///
/// ```
/// use regard::position::{RotaryPairs, RotaryPositions, RotaryScaling, YarnScaling};
/// let plain = RotaryPositions::new(128, 128, 10_000.0, RotaryPairs::HalfSplit)?;
/// let rotary = plain.with_scaling(RotaryScaling::Yarn(YarnScaling::new(4.0, 2048)))?;
/// let mut query = [1.0; 128];
/// rotary.at(5000).apply(&mut query);
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryPositions {
    head_dim: usize,
    pairs: RotaryPairs,
    base: f32,
    /// Radians a position for each pair.
    frequencies: Vec<f64>,
    /// Multiplies cosines and sines.
    attention_factor: f64,
}

impl RotaryPositions {
    /// Rotations of the first `rotary_dim` elements of rows of `head_dim`; the rest stays as it is.
    ///
    /// # Errors
    /// [`AttentionError::NotDivisible`] if `rotary_dim` is odd; [`AttentionError::InvalidSize`] if it is 0;
    /// [`AttentionError::OutOfBounds`] if it is larger than `head_dim`; [`AttentionError::InvalidNumber`] if the
    /// base is not finite and positive; [`AttentionError::AllocationFailed`].
    pub fn new(
        head_dim: usize,
        rotary_dim: usize,
        base: f32,
        pairs: RotaryPairs,
    ) -> Result<Self, AttentionError> {
        expect_rotary_dim(rotary_dim, head_dim)?;
        if !(base.is_finite() && base > 0.0) {
            return Err(AttentionError::InvalidNumber { what: "rotary base (positive)", found: base });
        }
        let frequencies = RotaryScaling::None.frequencies(f64::from(base), rotary_dim)?;
        Ok(Self { head_dim, pairs, base, frequencies, attention_factor: 1.0 })
    }

    /// The same rotations, reaching farther; an earlier scaling is replaced.
    ///
    /// # Errors
    /// [`AttentionError::InvalidNumber`] or [`AttentionError::InvalidSize`] if a parameter is outside of what its
    /// documentation says, if YaRN's base is not above 1, if NTK-aware scaling has a rotary dimension of 2, or
    /// if a frequency is too large for its angles to be finite.
    pub fn with_scaling(self, scaling: RotaryScaling) -> Result<Self, AttentionError> {
        let frequencies = scaling.frequencies(f64::from(self.base), 2 * self.frequencies.len())?;
        Ok(Self { frequencies, attention_factor: scaling.attention_factor()?, ..self })
    }

    /// Elements of the rows it rotates.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Which elements form the pairs.
    pub fn pairs(&self) -> RotaryPairs {
        self.pairs
    }

    /// By how many radians a position turns each pair, `[rotary_dim / 2]`, scaling included.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// What cosines and sines are multiplied by: 1, except with YaRN.
    pub fn attention_factor(&self) -> f64 {
        self.attention_factor
    }

    /// The rotation at a position.
    pub fn at(&self, position: usize) -> Rotation {
        let turn = |frequency: &f64| {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            ((cos * self.attention_factor) as f32, (sin * self.attention_factor) as f32)
        };
        Rotation {
            pairs: self.pairs,
            head_dim: self.head_dim,
            cos_sin: self.frequencies.iter().map(turn).collect(),
        }
    }
}

/// The rotation at one position, for every query and key there.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    pairs: RotaryPairs,
    head_dim: usize,
    cos_sin: Vec<(f32, f32)>,
}

impl Rotation {
    /// A rotation from the cosine and sine of each pair, `[rotary_dim / 2]` each: one row of the tables that
    /// other libraries keep, as ONNX's `RotaryEmbedding` with `cos_cache` and `sin_cache`.
    ///
    /// The elements of a row of `head_dim` after the first `rotary_dim` stay as they are.
    ///
    /// ```
    /// use regard::position::{RotaryPairs, Rotation};
    /// let quarter_turn = Rotation::new(3, RotaryPairs::Interleaved, &[0.0], &[1.0])?;
    /// let mut row = [1.0, 2.0, 3.0];
    /// quarter_turn.apply(&mut row);
    /// assert_eq!(row, [-2.0, 1.0, 3.0]);
    /// # Ok::<(), regard::AttentionError>(())
    /// ```
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if there are not as many sines as cosines;
    /// [`AttentionError::InvalidSize`] if there are none; [`AttentionError::OutOfBounds`] if their pairs do not
    /// fit in `head_dim`; [`AttentionError::AllocationFailed`].
    pub fn new(
        head_dim: usize,
        pairs: RotaryPairs,
        cos: &[f32],
        sin: &[f32],
    ) -> Result<Self, AttentionError> {
        expect("sin.len", cos.len(), sin.len())?;
        expect_rotary_dim(2 * cos.len(), head_dim)?;
        let cos_sin = collect(cos.len(), cos.iter().copied().zip(sin.iter().copied()))?;
        Ok(Self { pairs, head_dim, cos_sin })
    }

    /// Rotates one row, `[head_dim]`, in place.
    ///
    /// # Panics
    /// If the row has another length.
    pub fn apply(&self, row: &mut [f32]) {
        self.for_each_pair(row, |[a, b], cos, sin| [a * cos - b * sin, a * sin + b * cos]);
    }

    /// Turns the gradient of a rotated row, `[head_dim]`, into the gradient of the row before, in place: the
    /// transposed map, which is the rotation backwards, scaled as [`Self::apply`] scales.
    ///
    /// # Panics
    /// If the row has another length.
    pub fn apply_backward(&self, d_row: &mut [f32]) {
        self.for_each_pair(d_row, |[a, b], cos, sin| [a * cos + b * sin, b * cos - a * sin]);
    }

    /// Replaces each pair of a row by what `turn` makes of it with its cosine and sine.
    fn for_each_pair(&self, row: &mut [f32], turn: impl Fn([f32; 2], f32, f32) -> [f32; 2]) {
        assert_eq!(row.len(), self.head_dim, "a row has head_dim elements");
        for (i, &(cos, sin)) in self.cos_sin.iter().enumerate() {
            let (a, b) = match self.pairs {
                RotaryPairs::HalfSplit => (i, i + self.cos_sin.len()),
                RotaryPairs::Interleaved => (2 * i, 2 * i + 1),
            };
            [row[a], row[b]] = turn([row[a], row[b]], cos, sin);
        }
    }
}

/// Refuses a rotary dimension that is odd, 0 or larger than the rows.
fn expect_rotary_dim(rotary_dim: usize, head_dim: usize) -> Result<(), AttentionError> {
    if !rotary_dim.is_multiple_of(2) {
        return Err(AttentionError::NotDivisible { what: "rotary_dim by 2", size: rotary_dim, divisor: 2 });
    }
    if rotary_dim == 0 {
        return Err(AttentionError::InvalidSize {
            what: "rotary_dim",
            expected: "at least 2",
            found: rotary_dim,
        });
    }
    if rotary_dim > head_dim {
        return Err(AttentionError::OutOfBounds { what: "rotary_dim", needed: rotary_dim, found: head_dim });
    }
    Ok(())
}
