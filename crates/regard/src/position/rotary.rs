use crate::error::AttentionError;

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
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryPositions {
    head_dim: usize,
    pairs: RotaryPairs,
    /// base^(−2i/rotary_dim) for each pair.
    frequencies: Vec<f64>,
}

impl RotaryPositions {
    /// Rotations of the first `rotary_dim` elements of rows of `head_dim`; the rest stays as it is.
    ///
    /// # Errors
    /// [`AttentionError::NotDivisible`] if `rotary_dim` is odd; [`AttentionError::OutOfBounds`] if it is larger
    /// than `head_dim`; [`AttentionError::InvalidNumber`] if the base is not finite and positive.
    pub fn new(
        head_dim: usize,
        rotary_dim: usize,
        base: f32,
        pairs: RotaryPairs,
    ) -> Result<Self, AttentionError> {
        if !rotary_dim.is_multiple_of(2) {
            return Err(AttentionError::NotDivisible {
                what: "rotary_dim by 2",
                size: rotary_dim,
                divisor: 2,
            });
        }
        if rotary_dim > head_dim {
            return Err(AttentionError::OutOfBounds {
                what: "rotary_dim",
                needed: rotary_dim,
                found: head_dim,
            });
        }
        if !(base.is_finite() && base > 0.0) {
            return Err(AttentionError::InvalidNumber { what: "rotary base (positive)", found: base });
        }
        let frequency = |i: usize| f64::from(base).powf(-((2 * i) as f64) / rotary_dim as f64);
        Ok(Self { head_dim, pairs, frequencies: (0..rotary_dim / 2).map(frequency).collect() })
    }

    /// Elements of the rows it rotates.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The rotation at a position.
    pub fn at(&self, position: usize) -> Rotation {
        let turn = |frequency: &f64| {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            (cos as f32, sin as f32)
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
    /// Rotates one row, `[head_dim]`, in place.
    ///
    /// # Panics
    /// If the row has another length.
    pub fn apply(&self, row: &mut [f32]) {
        assert_eq!(row.len(), self.head_dim, "a row has head_dim elements");
        for (i, &(cos, sin)) in self.cos_sin.iter().enumerate() {
            let (a, b) = match self.pairs {
                RotaryPairs::HalfSplit => (i, i + self.cos_sin.len()),
                RotaryPairs::Interleaved => (2 * i, 2 * i + 1),
            };
            (row[a], row[b]) = (row[a] * cos - row[b] * sin, row[a] * sin + row[b] * cos);
        }
    }
}
