//! Views of `ndarray` arrays.
#![cfg(feature = "ndarray")]
#![allow(non_snake_case)]

use ndarray::{Array4, s};
use regard::{AttentionConfig, AttentionError, Layout, TensorView, TensorViewMut, attention};

#[test]
fn array_view__standard_and_permuted_axes__equal_the_slice() {
    let (b, h, s, d) = (2, 3, 10, 4);
    let array =
        Array4::from_shape_fn((b, h, s, d), |(b, h, s, d)| ((b * 97 + h * 31 + s * 7 + d) as f32).sin());
    let slice = array.as_slice().unwrap();
    let run = |view: TensorView<'_, f32>| {
        let mut output = Array4::<f32>::zeros((b, h, s, d));
        let target = TensorViewMut::try_from(output.view_mut()).unwrap();
        attention(view, view, view, target, &AttentionConfig::new()).unwrap();
        output
    };
    let expected = run(TensorView::new(slice, [b, h, s, d], Layout::BatchHeadSeqDim).unwrap());
    assert_eq!(run(TensorView::try_from(array.view()).unwrap()), expected);
    // Stored as batch, sequence, head, dimension and seen as batch, head, sequence, dimension.
    let stored = array.view().permuted_axes([0, 2, 1, 3]).as_standard_layout().to_owned();
    let seen = stored.view().permuted_axes([0, 2, 1, 3]);
    assert_eq!(run(TensorView::try_from(seen).unwrap()), expected);
    // An output with permuted axes.
    let mut output = Array4::<f32>::zeros((b, s, h, d));
    let target = TensorViewMut::try_from(output.view_mut().permuted_axes([0, 2, 1, 3])).unwrap();
    let view = TensorView::try_from(array.view()).unwrap();
    attention(view, view, view, target, &AttentionConfig::new()).unwrap();
    assert_eq!(output.permuted_axes([0, 2, 1, 3]), expected);
}

#[test]
fn array_view__sliced_or_reversed__is_refused() {
    let array = Array4::<f32>::zeros((2, 3, 10, 4));
    let error = TensorView::try_from(array.slice(s![.., .., ..5, ..])).unwrap_err();
    assert_eq!(error, AttentionError::NotContiguous);
    let error = TensorView::try_from(array.slice(s![.., .., ..;-1, ..])).unwrap_err();
    assert_eq!(error, AttentionError::NotContiguous);
}
