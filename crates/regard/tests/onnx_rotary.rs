//! The official ONNX cases of the operator RotaryEmbedding (opset 23), each run through the public calls.
//!
//! `golden/generate_onnx.py RotaryEmbedding DIR/RotaryEmbedding` writes them; `REGARD_ONNX=DIR` says where they are.
//! Operator: <https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html>.
#![allow(non_snake_case)]

mod common;

use common::onnx::{Case, Stored};
use regard::position::{RotaryPairs, Rotation};
use regard::{Layout, TensorView};

/// The operator: one rotation for each position of each sequence, applied to every head's row.
fn rotary_embedding(case: &Case) -> Vec<f32> {
    let Stored { shape, numbers, dtype } = &case.tensors["input.0"];
    assert_eq!(dtype, "float32", "{}", case.name);
    let (shape, layout) = match shape[..] {
        [batch, heads, seq, dim] => ([batch, heads, seq, dim], Layout::BatchHeadSeqDim),
        [batch, seq, width] => {
            let heads = case.attribute("num_heads", 0.0) as usize;
            ([batch, heads, seq, width / heads], Layout::BatchSeqHeadDim)
        }
        _ => panic!("{}: input of shape {shape:?}", case.name),
    };
    let [batch, heads, seq, head_dim] = shape;
    let pairs = match case.attribute("interleaved", 0.0) {
        0.0 => RotaryPairs::HalfSplit,
        _ => RotaryPairs::Interleaved,
    };
    // In ONNX a rotary dimension of 0 stands for the whole head.
    let rotary_dim = match case.attribute("rotary_embedding_dim", 0.0) as usize {
        0 => head_dim,
        some => some,
    };
    // A row of the caches: by the position's number, or in the order of the positions.
    let positions = case.tensors.get("input.3");
    let row = |b: usize, s: usize| positions.map_or(b * seq + s, |ids| ids.numbers[b * seq + s] as usize);
    let cache = |input: &str, row: usize| {
        let len = rotary_dim / 2;
        case.tensors[input].numbers[row * len..][..len].to_vec()
    };

    let input = TensorView::new(numbers, shape, layout).unwrap();
    let mut output = vec![f32::NAN; numbers.len()];
    let strides = input.strides();
    for (b, s) in (0..batch).flat_map(|b| (0..seq).map(move |s| (b, s))) {
        let row = row(b, s);
        let (cos, sin) = (cache("input.1", row), cache("input.2", row));
        let rotation = Rotation::new(head_dim, pairs, &cos, &sin).unwrap();
        for h in 0..heads {
            let mut row: Vec<f32> = (0..head_dim).map(|c| input.at([b, h, s, c])).collect();
            rotation.apply(&mut row);
            for (c, &number) in row.iter().enumerate() {
                output[b * strides[0] + h * strides[1] + s * strides[2] + c * strides[3]] = number;
            }
        }
    }
    output
}

#[test]
fn rotation__official_onnx_cases__agree() {
    let Some(cases) = common::onnx::cases("RotaryEmbedding") else { return };
    assert!(cases.len() >= 8, "onnx 1.23 has 8 cases");
    let mut failures = Vec::new();
    for case in &cases {
        let (found, expected) = (rotary_embedding(case), &case.tensors["output.0"].numbers);
        assert_eq!(found.len(), expected.len(), "{}", case.name);
        let [rtol, atol] = case.tolerance();
        let wrong = found.iter().zip(expected).position(|(&found, &expected)| {
            let difference = (f64::from(found) - f64::from(expected)).abs();
            difference.is_nan() || difference > atol + rtol * f64::from(expected).abs()
        });
        println!("{}: {}", case.name, if wrong.is_some() { "FAILED" } else { "ok" });
        failures.extend(wrong.map(|i| format!("{}[{i}]: {}, expected {}", case.name, found[i], expected[i])));
    }
    println!("COUNT: {} of {} ONNX RotaryEmbedding cases", cases.len() - failures.len(), cases.len());
    assert!(failures.is_empty(), "{failures:#?}");
}
