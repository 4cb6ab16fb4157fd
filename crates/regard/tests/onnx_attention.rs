//! The official ONNX cases of the operator Attention (opset 23 to 25), each run through the public calls.
//!
//! `golden/generate_onnx.py Attention DIR/Attention` writes them; `REGARD_ONNX=DIR` says where they are.
//! Operator: <https://onnx.ai/onnx/operators/onnx__Attention.html>.
#![allow(non_snake_case)]

mod common;

use common::onnx::{Case, Stored};
use common::{TestElement, isas};
use regard::{
    AttentionConfig, AttentionOutput, HeadBlock, Isa, Layout, Mask, QueryPosition, TensorView, TensorViewMut,
    Window, Workspace, attention_probs, attention_with, bf16, f16,
};

impl Case {
    /// Query, key or value as the attention calls take it: 3D tensors hold their heads side by side.
    fn heads<T: TestElement>(&self, key: &str, num_heads: &str) -> Heads<T> {
        let Stored { shape, numbers, .. } = &self.tensors[key];
        let data = numbers.iter().map(|&number| T::from_f32(number)).collect();
        match shape[..] {
            [b, h, s, d] => Heads { data, shape: [b, h, s, d], layout: Layout::BatchHeadSeqDim },
            [b, s, width] => {
                let h = self.attribute(num_heads, 0.0) as usize;
                Heads { data, shape: [b, h, s, width / h], layout: Layout::BatchSeqHeadDim }
            }
            _ => panic!("{key} has shape {shape:?}"),
        }
    }

    /// The incoming keys or values behind those of the past, if there are any.
    fn with_past<T: TestElement>(&self, incoming: &str, past: &str) -> Heads<T> {
        let incoming = self.heads::<T>(incoming, "kv_num_heads");
        if !self.tensors.contains_key(past) {
            return incoming;
        }
        let past = self.heads::<T>(past, "kv_num_heads");
        let [b, h, s, d] = incoming.shape;
        let past_len = past.shape[2];
        let shape = [b, h, past_len + s, d];
        let data = positions(shape).map(|[b, h, s, d]| match s.checked_sub(past_len) {
            None => past.view().at([b, h, s, d]),
            Some(s) => incoming.view().at([b, h, s, d]),
        });
        Heads { data: data.collect(), shape, layout: Layout::BatchHeadSeqDim }
    }

    /// The mask with four axes; what it lacks of `total_len` keys is forbidden.
    fn attn_mask(&self, total_len: usize) -> Option<AttnMask> {
        let Stored { dtype, shape, numbers } = self.tensors.get("input.3")?;
        let is_bool = dtype == "bool";
        let (&len, outer) = shape.split_last().unwrap();
        let mut four = [1; 4];
        four[3 - outer.len()..3].copy_from_slice(outer);
        four[3] = total_len;
        let padding = if is_bool { 0.0 } else { f32::NEG_INFINITY };
        let rows = numbers.chunks(len);
        let numbers = rows.flat_map(|row| row.iter().copied().chain((len..total_len).map(|_| padding)));
        Some(AttnMask { is_bool, shape: four, numbers: numbers.collect() })
    }
}

struct AttnMask {
    is_bool: bool,
    shape: [usize; 4],
    numbers: Vec<f32>,
}

impl AttnMask {
    /// What the operator adds to a score.
    fn bias(&self, index: [usize; 4]) -> f64 {
        let index = std::array::from_fn(|axis| if self.shape[axis] == 1 { 0 } else { index[axis] });
        let number = TensorView::new(&self.numbers, self.shape, Layout::BatchHeadSeqDim).unwrap().at(index);
        match self.is_bool {
            true if number == 0.0 => f64::NEG_INFINITY,
            true => 0.0,
            false => f64::from(number),
        }
    }
}

struct Heads<T> {
    data: Vec<T>,
    shape: [usize; 4],
    layout: Layout,
}

impl<T: TestElement> Heads<T> {
    fn view(&self) -> TensorView<'_, T> {
        TensorView::new(&self.data, self.shape, self.layout).unwrap()
    }

    fn equals(&self, expected: &Stored) -> Result<(), String> {
        compare(&positions(self.shape).map(|at| self.view().at(at)).collect::<Vec<_>>(), expected, 0.0, 0.0)
    }
}

/// All indices in row-major order.
fn positions([b, h, s, d]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..b * h * s * d).map(move |i| [i / (h * s * d), i / (s * d) % h, i / d % s, i % d])
}

/// f32 by rtol and atol, f16 and bf16 within 2 units in the last place.
fn compare<T: TestElement>(found: &[T], expected: &Stored, rtol: f64, atol: f64) -> Result<(), String> {
    if found.len() != expected.numbers.len() {
        return Err(format!("{} elements, expected {}", found.len(), expected.numbers.len()));
    }
    // Ordered as the numbers are, both zeros being 0.
    let order = |number: T| {
        let bits = i64::from(number.bits());
        let sign = 1i64 << (8 * size_of::<T>() - 1);
        if bits & sign == 0 { bits } else { sign - bits }
    };
    for (i, (&x, &r)) in found.iter().zip(&expected.numbers).enumerate() {
        let (wide, r64) = (f64::from(x.to_f32()), f64::from(r));
        let close = match size_of::<T>() {
            4 => wide == r64 || (wide - r64).abs() <= atol + rtol * r64.abs(),
            _ => !wide.is_nan() && (order(x) - order(T::from_f32(r))).abs() <= 2,
        };
        if !close {
            return Err(format!("element {i}: found {wide}, expected {r64}"));
        }
    }
    Ok(())
}

fn run<T: TestElement>(case: &Case, isa: Isa) -> Result<(), String> {
    let query = case.heads::<T>("input.0", "q_num_heads");
    let (key, value) = (case.with_past::<T>("input.1", "input.4"), case.with_past::<T>("input.2", "input.5"));
    let total_len = key.shape[2];
    let attn_mask = case.attn_mask(total_len);

    // A query stands after the keys of the past, or at the end of an external cache's valid keys.
    let lengths: Option<Vec<usize>> =
        case.tensors.get("input.6").map(|stored| stored.numbers.iter().map(|&n| n as usize).collect());
    let past_len = case.tensors.get("input.4").map_or(0, |past| past.shape[2]);
    let position = match lengths {
        Some(_) => QueryPosition::BottomRight,
        None => QueryPosition::Offset(past_len as i64),
    };
    let causal = case.attribute("is_causal", 0.0) != 0.0;
    let [left, right] = ["left_window_size", "right_window_size"].map(|name| case.attribute(name, -1.0));
    let bound = |size: f64| if size < 0.0 { usize::MAX } else { size as usize };
    let window = (left >= 0.0 || right >= 0.0).then(|| Window { left: bound(left), right: bound(right) });
    let keep: Option<Vec<bool>> = attn_mask
        .as_ref()
        .filter(|mask| mask.is_bool)
        .map(|mask| mask.numbers.iter().map(|&n| n != 0.0).collect());
    let mask_shape = attn_mask.as_ref().map_or([1; 4], |mask| mask.shape);
    let keep = keep.as_ref().map(|keep| TensorView::new(keep, mask_shape, Layout::BatchHeadSeqDim).unwrap());
    let mask = Mask { causal, window, position, key_lengths: lengths.as_deref(), keep };

    let scale = case.attribute("scale", 1.0 / (query.shape[3] as f64).sqrt());
    let softcap = Some(case.attribute("softcap", 0.0)).filter(|&cap| cap > 0.0);
    let mut config = AttentionConfig::new().with_isa(isa).with_mask(mask).with_softmax_scale(scale as f32);
    if let Some(softcap) = softcap {
        config = config.with_softcap(softcap as f32);
    }
    if let Some(mask) = attn_mask.as_ref().filter(|mask| !mask.is_bool) {
        let bias = TensorView::new(&mask.numbers, mask.shape, Layout::BatchHeadSeqDim).unwrap();
        config = config.with_attention_bias(bias);
    }

    let [b, h, s_q, _] = query.shape;
    let shape = [b, h, s_q, value.shape[3]];
    let mut output = vec![T::NAN; shape.iter().product()];
    let mut log_sum_exp = vec![f32::NAN; b * h * s_q];
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, shape, query.layout).unwrap(),
        log_sum_exp: Some(&mut log_sum_exp),
    };
    let (q, k) = (query.view(), key.view());
    attention_with(q, k, value.view(), target, &config, &mut Workspace::new()).map_err(|e| e.to_string())?;

    let close = |found: &[T], name| {
        let [rtol, atol] = case.tolerance();
        compare(found, &case.tensors[name], rtol, atol).map_err(|e| format!("{name}, {e}"))
    };
    close(&output, "output.0")?;
    for (name, present) in [("output.1", &key), ("output.2", &value)] {
        case.tensors.get(name).map_or(Ok(()), |expected| present.equals(expected))?;
    }
    if !case.tensors.contains_key("output.3") {
        return Ok(());
    }

    // The optional fourth output is a matrix that the kernel never holds. Probabilities are asked for row by
    // row; what stands before softmax is computed here.
    let mode = case.attribute("qk_matmul_output_mode", 0.0) as usize;
    let mut scores = vec![0.0f32; b * h * s_q * total_len];
    if mode == 3 {
        for (head, probs) in scores.chunks_mut(s_q * total_len).enumerate() {
            let at = HeadBlock { batch: head / h, head: head % h, rows: 0..s_q, keys: 0..total_len };
            attention_probs(q, k, &log_sum_exp, &at, &config, probs).map_err(|e| e.to_string())?;
        }
    } else {
        assert!(window.is_none() && lengths.is_none(), "{}: scores know neither", case.name);
        for (index, score) in positions([b, h, s_q, total_len]).zip(&mut scores) {
            let [b, head, i, j] = index;
            let kv_head = head / (h / key.shape[1]);
            let dims = (0..query.shape[3]).map(|d| {
                f64::from(q.at([b, head, i, d]).to_f32()) * f64::from(k.at([b, kv_head, j, d]).to_f32())
            });
            let mut s = scale * dims.sum::<f64>();
            if let Some(cap) = softcap {
                s = cap * (s / cap).tanh();
            }
            if mode == 2 {
                s += attn_mask.as_ref().map_or(0.0, |mask| mask.bias(index));
                s += if causal && j > i + past_len { f64::NEG_INFINITY } else { 0.0 };
            }
            *score = s as f32;
        }
    }
    close(&scores.into_iter().map(T::from_f32).collect::<Vec<_>>(), "output.3")
}

#[test]
fn attention__official_onnx_cases__agree() {
    let Some(cases) = common::onnx::cases("Attention") else { return };
    assert!(cases.len() >= 93, "onnx 1.23 has 93 cases");
    let mut failures = Vec::new();
    for case in &cases {
        let failed = isas().into_iter().find_map(|isa| {
            let result = match case.tensors["input.0"].dtype.as_str() {
                "float32" => run::<f32>(case, isa),
                "float16" => run::<f16>(case, isa),
                "bfloat16" => run::<bf16>(case, isa),
                other => Err(format!("dtype {other}")),
            };
            result.err().map(|error| format!("{}, {isa}: {error}", case.name))
        });
        println!("{}: {}", case.name, if failed.is_some() { "FAILED" } else { "ok" });
        failures.extend(failed);
    }
    let passed = cases.len() - failures.len();
    println!("COUNT: {passed} of {} ONNX Attention cases", cases.len());
    assert!(failures.is_empty(), "{failures:#?}");
}
