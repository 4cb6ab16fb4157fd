//! Which instruction set the kernels run on.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::error::AttentionError;

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Portable code, one number at a time; on every machine.
    Scalar,
    /// AArch64 NEON: 128-bit vectors.
    Neon,
    /// x86-64-v3: AVX2, FMA and F16C, 256-bit vectors.
    Avx2,
    /// x86-64-v4: AVX-512 F, BW, CD, DQ and VL, 512-bit vectors.
    Avx512,
}

impl Isa {
    const ALL: [Self; 4] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];

    /// The name that `REGARD_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this build and this processor have it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Self::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// All that this build and this processor have, the fastest last.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The one that calls use unless their configuration says otherwise: `REGARD_ISA` if it is set (read once
    /// a process), else the fastest available.
    ///
    /// # Errors
    /// [`AttentionError::UnavailableIsa`] if `REGARD_ISA` names none that is available.
    pub fn active() -> Result<Self, AttentionError> {
        static ACTIVE: OnceLock<Result<Isa, AttentionError>> = OnceLock::new();
        ACTIVE
            .get_or_init(|| {
                match std::env::var_os("REGARD_ISA").map(|name| name.to_string_lossy().into_owned()) {
                    Some(name) if !name.is_empty() => name.parse::<Isa>()?.require(),
                    _ => Ok(Self::available().pop().unwrap_or(Self::Scalar)),
                }
            })
            .clone()
    }

    /// The instruction set itself, if it is available.
    pub(crate) fn require(self) -> Result<Self, AttentionError> {
        if self.is_available() { Ok(self) } else { Err(unavailable(self.name())) }
    }
}

fn unavailable(requested: &str) -> AttentionError {
    let available = Isa::available().into_iter().map(Isa::name).collect::<Vec<_>>().join(", ");
    AttentionError::UnavailableIsa { requested: requested.to_owned(), available }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = AttentionError;

    fn from_str(name: &str) -> Result<Self, AttentionError> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| unavailable(name))
    }
}
