//! The only caller of `gemm`, whose interface is raw pointers, behind a checked function.

use gemm::Parallelism;

/// A whole slice as a matrix: element (i, j) is `data[i · strides[0] + j · strides[1]]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    /// Rows, columns.
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A contiguous row-major matrix of `[rows, columns]`.
    ///
    /// # Panics
    /// If the slice's length is not the product of the shape.
    pub(crate) fn new(data: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(rows.checked_mul(columns), Some(data.len()), "matrix of {rows} × {columns}");
        Self { data, shape: [rows, columns], strides: [columns, 1] }
    }

    /// The transpose, over the same slice.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [column, row], ..self }
    }
}

/// `output += left · right`: left `[m, k]`, right `[k, n]`, output `[m, n]`, row-major and contiguous.
///
/// The bits do not depend on `num_workers`: threads share out tiles of the output, and each element is summed
/// over k in one order.
///
/// # Panics
/// If the sizes do not match.
pub(crate) fn add_product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], num_workers: usize) {
    let ([m, k], [inner, n]) = (left.shape, right.shape);
    assert_eq!(inner, k, "matrix product: inner sizes");
    assert_eq!(m.checked_mul(n), Some(output.len()), "matrix product: output of {m} × {n}");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let parallelism = if num_workers > 1 { Parallelism::Rayon(num_workers) } else { Parallelism::None };
    // SAFETY: a `Matrix` is a whole slice whose length is the product of its shape, with the strides of its
    // row-major order or, transposed, of that order's transpose; the output's length is asserted above and its
    // strides are (n, 1). So every index is inside its slice, and sizes and strides fit isize because slices do.
    // The output is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            n as isize,
            true,
            left.data.as_ptr(),
            left.strides[1] as isize,
            left.strides[0] as isize,
            right.data.as_ptr(),
            right.strides[1] as isize,
            right.strides[0] as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}
