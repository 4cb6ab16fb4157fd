//! The sizes of a model.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// The kind of Transformer, by whose names and files other tools load it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Reads both sides; normalises after each part; learned positions (Devlin et al. 2019).
    Bert,
    /// Reads what is before; normalises before each part; rotary positions, SwiGLU (Touvron et al. 2023).
    Llama,
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// The kind.
    pub family: Family,
    /// Layers.
    pub layers: usize,
    /// Query heads of each layer.
    pub heads: usize,
    /// Key and value heads of each layer; fewer than `heads` for Llama only.
    pub kv_heads: usize,
    /// Numbers a token.
    pub dim: usize,
    /// Numbers a token between the two projections of the feed-forward part.
    pub inner_dim: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// The longest text, in tokens.
    pub positions: usize,
}

/// The base of rotary angles (Su et al. 2021, section 3.2.2).
pub const ROTARY_BASE: f32 = 10_000.0;
/// Added to variances.
pub const EPSILON: f64 = 1e-6;

impl Architecture {
    /// Numbers a head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Refuses sizes that make no model.
    ///
    /// # Errors
    /// [`TrainError::Option`].
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |name, expected: String, found: usize| {
            Err(TrainError::Option { name, expected, found: found.to_string() })
        };
        let sizes = [("--layers", self.layers, 64), ("--heads", self.heads, 256), ("--dim", self.dim, 8192)];
        let sizes = sizes.into_iter().chain([
            ("--kv-heads", self.kv_heads, self.heads),
            ("--inner-dim", self.inner_dim, 65536),
            ("--seq-len", self.positions, 65536),
        ]);
        for (name, found, most) in sizes {
            if found == 0 || found > most {
                return wrong(name, format!("1 to {most}"), found);
            }
        }
        if !self.dim.is_multiple_of(self.heads) {
            return wrong("--dim", format!("a multiple of the {} heads", self.heads), self.dim);
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong("--kv-heads", format!("a divisor of the {} heads", self.heads), self.kv_heads);
        }
        match self.family {
            Family::Bert if self.kv_heads != self.heads => wrong(
                "--kv-heads",
                format!("as many as the {} heads for this family", self.heads),
                self.kv_heads,
            ),
            Family::Llama if !self.head_dim().is_multiple_of(2) => {
                wrong("--dim", "an even number for each head".to_owned(), self.dim)
            }
            _ => Ok(()),
        }
    }
}
