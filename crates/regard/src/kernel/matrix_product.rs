//! The only caller of `gemm`, whose interface is raw pointers, behind a checked function.

use gemm::Parallelism;

/// A row-major matrix: element (i, j) is `data[i · stride + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// `output += left · rightᵀ`: left `[m, k]`, right `[n, k]`, output `[m, n]`, all row-major and contiguous.
///
/// The bits do not depend on `num_workers`.
///
/// # Panics
/// If a slice's length does not match the sizes.
pub(crate) fn add_product_transposed(
    left: Matrix<'_>,
    right: Matrix<'_>,
    output: &mut [f32],
    num_workers: usize,
) {
    let (m, n, k) = (left.rows, right.rows, left.columns);
    let len = |rows: usize, columns: usize| rows.checked_mul(columns).expect("matrix size overflows");
    assert_eq!(right.columns, k, "matrix product: inner sizes");
    assert_eq!(left.data.len(), len(m, k), "matrix product: left");
    assert_eq!(right.data.len(), len(n, k), "matrix product: right");
    assert_eq!(output.len(), len(m, n), "matrix product: output");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let parallelism = if num_workers > 1 { Parallelism::Rayon(num_workers) } else { Parallelism::None };
    // SAFETY: all three matrices are whole slices of the sizes asserted above, with strides (k, 1), (1, k) as
    // the transpose, and (n, 1); sizes and strides fit isize because slices do. The output is borrowed
    // mutably, so it overlaps neither input.
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
            1,
            k as isize,
            right.data.as_ptr(),
            k as isize,
            1,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}
