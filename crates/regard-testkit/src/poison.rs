use std::ops::Range;

/// A buffer inside a larger one: what lies outside, and inside between strided positions, is poison.
///
/// Reading past the end of an input meets NaN, and writing past the end of an output is seen.
#[derive(Debug, Clone)]
pub struct PoisonedBuffer<T> {
    all: Vec<T>,
    inner: Range<usize>,
    poison: T,
}

impl<T: Copy> PoisonedBuffer<T> {
    /// `len` elements after `offset + 64` and before 64 elements, all of them `poison`.
    pub fn new(len: usize, offset: usize, poison: T) -> Self {
        const MARGIN: usize = 64;
        let start = MARGIN + offset;
        Self { all: vec![poison; start + len + MARGIN], inner: start..start + len, poison }
    }

    /// The buffer itself.
    pub fn data(&self) -> &[T] {
        &self.all[self.inner.clone()]
    }

    /// The buffer itself, to be filled or written by the code under test.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.all[self.inner.clone()]
    }

    /// Whether every element outside, and every element inside that `is_used` says is unused, still has the
    /// poison's bits, read by `bits`.
    pub fn is_intact(&self, bits: impl Fn(T) -> u32, mut is_used: impl FnMut(usize) -> bool) -> bool {
        let poison = bits(self.poison);
        self.all.iter().enumerate().all(|(i, &element)| {
            let used = self.inner.contains(&i) && is_used(i - self.inner.start);
            used || bits(element) == poison
        })
    }
}
