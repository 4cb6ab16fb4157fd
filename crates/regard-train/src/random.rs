//! Random numbers that are pure functions of what they are for, so that a resumed run draws what it would have drawn.

use fastrand::Rng;

/// What numbers are drawn for: streams of one seed that have nothing in common.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Which examples a step sees, and how they are masked.
    Examples = 1,
    /// A model's first parameters.
    Parameters = 2,
    /// Dropout.
    Dropout = 3,
    /// Data of an experiment.
    Experiment = 4,
    /// Which texts are trained on.
    Split = 5,
}

/// Random numbers for the `index`-th thing of a step.
pub fn rng(seed: u64, purpose: Purpose, step: u64, index: u64) -> Rng {
    Rng::with_seed(number(seed, purpose, step, index))
}

/// One random number.
pub fn number(seed: u64, purpose: Purpose, step: u64, index: u64) -> u64 {
    [purpose as u64, step, index].iter().fold(mix(seed), |state, &part| mix(state ^ mix(part)))
}

/// SplitMix64's output function (Steele, Lea and Flood 2014, figure 14) of the next state.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number__other_arguments__gives_other_numbers() {
        let base = number(1, Purpose::Examples, 2, 3);
        assert_eq!(base, number(1, Purpose::Examples, 2, 3));
        for other in [
            number(2, Purpose::Examples, 2, 3),
            number(1, Purpose::Dropout, 2, 3),
            number(1, Purpose::Examples, 3, 2),
            number(1, Purpose::Examples, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }
}
