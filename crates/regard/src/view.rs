//! Borrowed four-axis tensors: a slice, a shape and strides.

use crate::error::AttentionError;

/// The order in which a contiguous tensor keeps its axes in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[batch, head, sequence, dimension]`, the last axis contiguous: PyTorch's and JAX's kernels.
    BatchHeadSeqDim,
    /// `[batch, sequence, head, dimension]`, the last axis contiguous: what a linear projection writes.
    BatchSeqHeadDim,
}

impl Layout {
    /// Strides in elements, in the order batch, head, sequence, dimension.
    fn strides(self, shape: [usize; 4]) -> Result<[usize; 4], AttentionError> {
        let [_, heads, seq, dim] = shape;
        let product = |sizes: &[usize]| checked_product(sizes, "strides");
        Ok(match self {
            Self::BatchHeadSeqDim => [product(&[heads, seq, dim])?, product(&[seq, dim])?, dim, 1],
            Self::BatchSeqHeadDim => [product(&[seq, heads, dim])?, dim, product(&[heads, dim])?, 1],
        })
    }
}

pub(crate) fn checked_product(sizes: &[usize], what: &'static str) -> Result<usize, AttentionError> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= isize::MAX as usize)
        .ok_or(AttentionError::SizeOverflow { what })
}

/// How many elements a shape with strides reaches: the highest index plus one, or 0 if any axis is empty.
fn reach(shape: [usize; 4], strides: [usize; 4], what: &'static str) -> Result<usize, AttentionError> {
    checked_product(&shape.map(|size| size.max(1)), what)?;
    if shape.contains(&0) {
        return Ok(0);
    }
    let overflow = AttentionError::SizeOverflow { what };
    let mut last = 0usize;
    for (size, stride) in shape.into_iter().zip(strides) {
        let span = (size - 1).checked_mul(stride).ok_or_else(|| overflow.clone())?;
        last = last.checked_add(span).ok_or_else(|| overflow.clone())?;
    }
    last.checked_add(1).filter(|&reach| reach <= isize::MAX as usize).ok_or(overflow)
}

/// A read-only tensor with axes batch, head, sequence and dimension, over a borrowed slice.
///
/// A stride of 0 repeats an axis without copying. The slice's first element is position `[0, 0, 0, 0]`.
///
/// ```
/// use regard::{Layout, TensorView};
/// let data = vec![0.0f32; 2 * 5 * 3 * 8];
/// let query = TensorView::new(&data, [2, 3, 5, 8], Layout::BatchSeqHeadDim)?;
/// assert_eq!(query.shape(), [2, 3, 5, 8]); // always batch, head, sequence, dimension
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a, T> {
    data: &'a [T],
    shape: [usize; 4],
    strides: [usize; 4],
}

impl<'a, T: Copy> TensorView<'a, T> {
    /// A contiguous tensor of `shape` `[batch, head, sequence, dimension]` in the given memory order.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the slice's length is not the product of the shape;
    /// [`AttentionError::SizeOverflow`] if that product does not fit.
    pub fn new(data: &'a [T], shape: [usize; 4], layout: Layout) -> Result<Self, AttentionError> {
        let expected = checked_product(&shape, "view")?;
        if data.len() != expected {
            return Err(AttentionError::ShapeMismatch { axis: "view.len", expected, found: data.len() });
        }
        Self::with_strides(data, shape, layout.strides(shape)?)
    }

    /// A tensor of `shape` with strides in elements, both in the order batch, head, sequence, dimension.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if shape and strides reach past the slice;
    /// [`AttentionError::SizeOverflow`] if they do not fit the address space.
    pub fn with_strides(
        data: &'a [T],
        shape: [usize; 4],
        strides: [usize; 4],
    ) -> Result<Self, AttentionError> {
        let needed = reach(shape, strides, "view")?;
        if needed > data.len() {
            return Err(AttentionError::OutOfBounds { what: "view", needed, found: data.len() });
        }
        Ok(Self { data, shape, strides })
    }

    /// Sizes: batch, head, sequence, dimension.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Strides in elements: batch, head, sequence, dimension.
    pub fn strides(&self) -> [usize; 4] {
        self.strides
    }

    /// The element at `[batch, head, sequence, dimension]`.
    ///
    /// # Panics
    /// If an index is outside the shape.
    pub fn at(&self, index: [usize; 4]) -> T {
        for (axis, (i, size)) in index.into_iter().zip(self.shape).enumerate() {
            assert!(i < size, "index {i} of axis {axis} is outside size {size}");
        }
        self.data[self.offset(index)]
    }

    /// The same tensor with each axis of size 1 repeated to `shape`'s size (stride 0).
    pub(crate) fn broadcast_to(
        self,
        shape: [usize; 4],
        axes: [&'static str; 4],
    ) -> Result<Self, AttentionError> {
        let mut strides = self.strides;
        for axis in 0..4 {
            let found = self.shape[axis];
            if found == 1 {
                strides[axis] = 0;
            } else if found != shape[axis] {
                let expected = shape[axis];
                return Err(AttentionError::ShapeMismatch { axis: axes[axis], expected, found });
            }
        }
        Ok(Self { data: self.data, shape, strides })
    }

    /// The part `[sequence, .., ..lens[0], ..lens[1]]` of a tensor of scores' shape.
    pub(crate) fn sequence(self, sequence: usize, lens: [usize; 2]) -> Self {
        let start = sequence * self.strides[0];
        let shape = [1, self.shape[1], lens[0], lens[1]];
        let data = if shape.contains(&0) { &[] } else { &self.data[start..] };
        Self { data, shape, strides: self.strides }
    }

    /// The rows `first..first + len` of every head.
    pub(crate) fn rows(self, first: usize, len: usize) -> Self {
        let shape = [self.shape[0], self.shape[1], len, self.shape[3]];
        let data = if shape.contains(&0) { &[] } else { &self.data[first * self.strides[2]..] };
        Self { data, shape, strides: self.strides }
    }

    /// One row in place if its elements are adjacent.
    pub(crate) fn contiguous_row(&self, batch: usize, head: usize, row: usize) -> Option<&'a [T]> {
        let start = self.offset([batch, head, row, 0]);
        (self.strides[3] == 1 || self.shape[3] <= 1).then(|| &self.data[start..start + self.shape[3]])
    }

    /// Copies one row, whatever its strides, into `target`, which has the row's length.
    pub(crate) fn copy_row(&self, [batch, head, row]: [usize; 3], target: &mut [T]) {
        if let Some(adjacent) = self.contiguous_row(batch, head, row) {
            return target.copy_from_slice(adjacent);
        }
        let start = self.offset([batch, head, row, 0]);
        for (c, place) in target.iter_mut().enumerate() {
            *place = self.data[start + c * self.strides[3]];
        }
    }

    /// The rows of one head from its first element on: row `r` starts at `r · strides()[2]`.
    ///
    /// Empty if the tensor has no elements.
    pub(crate) fn head_slice(&self, batch: usize, head: usize) -> &'a [T] {
        if self.shape.contains(&0) {
            return &[];
        }
        let start = self.offset([batch, head, 0, 0]);
        let last = self.offset([batch, head, self.shape[2] - 1, self.shape[3] - 1]);
        &self.data[start..=last]
    }

    pub(crate) fn offset(&self, index: [usize; 4]) -> usize {
        index.into_iter().zip(self.strides).map(|(i, stride)| i * stride).sum()
    }

    pub(crate) fn data(&self) -> &'a [T] {
        self.data
    }
}

/// A writable tensor with axes batch, head, sequence and dimension, over a borrowed slice.
///
/// No two positions may share an element. Elements between the strided positions are left as they are.
#[derive(Debug)]
pub struct TensorViewMut<'a, T> {
    data: &'a mut [T],
    shape: [usize; 4],
    strides: [usize; 4],
}

impl<'a, T: Copy> TensorViewMut<'a, T> {
    /// A contiguous writable tensor of `shape` `[batch, head, sequence, dimension]` in the given memory order.
    ///
    /// # Errors
    /// As for [`TensorView::new`].
    pub fn new(data: &'a mut [T], shape: [usize; 4], layout: Layout) -> Result<Self, AttentionError> {
        TensorView::new(&*data, shape, layout)?;
        Self::with_strides(data, shape, layout.strides(shape)?)
    }

    /// A writable tensor of `shape` with strides in elements, both in the order batch, head, sequence, dimension.
    ///
    /// # Errors
    /// As for [`TensorView::with_strides`], and [`AttentionError::OverlappingOutput`] unless the axes nest:
    /// taken from the smallest stride up, each must be larger than all that the smaller ones reach.
    pub fn with_strides(
        data: &'a mut [T],
        shape: [usize; 4],
        strides: [usize; 4],
    ) -> Result<Self, AttentionError> {
        TensorView::with_strides(&*data, shape, strides)?;
        if !shape.contains(&0) {
            let mut axes: [(usize, usize); 4] = std::array::from_fn(|axis| (strides[axis], shape[axis]));
            axes.sort_unstable();
            let mut reached = 0;
            for (stride, size) in axes.into_iter().filter(|&(_, size)| size > 1) {
                if stride <= reached {
                    return Err(AttentionError::OverlappingOutput { strides });
                }
                reached += stride * (size - 1);
            }
        }
        Ok(Self { data, shape, strides })
    }

    /// Sizes: batch, head, sequence, dimension.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Strides in elements: batch, head, sequence, dimension.
    pub fn strides(&self) -> [usize; 4] {
        self.strides
    }

    /// The part of one sequence, or the whole if it has one part for all.
    pub(crate) fn sequence_mut(&mut self, sequence: usize) -> TensorViewMut<'_, T> {
        let [batch_size, heads, rows, columns] = self.shape;
        let shape = [batch_size.min(1), heads, rows, columns];
        let start = if batch_size <= 1 { 0 } else { sequence * self.strides[0] };
        let data = if shape.contains(&0) { &mut [] } else { &mut self.data[start..] };
        TensorViewMut { data, shape, strides: self.strides }
    }

    pub(crate) fn data_mut(&mut self) -> &mut [T] {
        self.data
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Copy> TryFrom<ndarray::ArrayView4<'a, T>> for TensorView<'a, T> {
    type Error = AttentionError;

    /// Axes are batch, head, sequence, dimension; permuted axes are fine as long as the array is one
    /// contiguous block. A sliced array is not: its gaps may belong to somebody else.
    fn try_from(array: ndarray::ArrayView4<'a, T>) -> Result<Self, AttentionError> {
        let (shape, strides) = array_shape_and_strides(array.shape(), array.strides())?;
        let data = array.to_slice_memory_order().ok_or(AttentionError::NotContiguous)?;
        Self::with_strides(data, shape, strides)
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Copy> TryFrom<ndarray::ArrayViewMut4<'a, T>> for TensorViewMut<'a, T> {
    type Error = AttentionError;

    /// As for [`TensorView`].
    fn try_from(array: ndarray::ArrayViewMut4<'a, T>) -> Result<Self, AttentionError> {
        let (shape, strides) = array_shape_and_strides(array.shape(), array.strides())?;
        let data = array.into_slice_memory_order().ok_or(AttentionError::NotContiguous)?;
        Self::with_strides(data, shape, strides)
    }
}

#[cfg(feature = "ndarray")]
fn array_shape_and_strides(
    shape: &[usize],
    strides: &[isize],
) -> Result<([usize; 4], [usize; 4]), AttentionError> {
    let mut sizes = [0; 4];
    let mut steps = [0; 4];
    for axis in 0..4 {
        sizes[axis] = shape[axis];
        steps[axis] = match usize::try_from(strides[axis]) {
            Ok(stride) => stride,
            Err(_) if shape[axis] <= 1 => 0,
            Err(_) => return Err(AttentionError::NotContiguous),
        };
    }
    Ok((sizes, steps))
}
