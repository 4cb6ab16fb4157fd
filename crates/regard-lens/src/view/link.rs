//! One query's probability for one key.

/// What a query gives to one key, beside what the other queries give to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The key's token.
    pub key: usize,
    /// The probability that the query gives to it.
    pub prob: f32,
    /// Mean probability that the other queries of the text give to it; `None` if there are no others.
    pub usual: Option<f32>,
    /// `prob / usual`; `None` without usual, or where it is 0.
    pub lift: Option<f32>,
}

impl Link {
    pub(super) fn new(key: usize, prob: f32, usual: Option<f32>) -> Self {
        // A usual so small that the quotient overflows says no more than 0 does.
        let lift =
            usual.filter(|&usual| usual > 0.0).map(|usual| prob / usual).filter(|lift| lift.is_finite());
        Self { key, prob, usual, lift }
    }
}
