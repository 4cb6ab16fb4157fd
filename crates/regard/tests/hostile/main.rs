//! Hostile requests: each gives a typed error that names what is wrong, or the documented result; none panics, and
//! a refused one writes nothing.
#![allow(non_snake_case)]

mod layers;
mod statistics;

use regard::{
    AttentionConfig, AttentionError, AttentionGradients, AttentionOutput, BackwardInputs, Dropout, HeadBlock,
    Isa, Layout, Mask, PackedBatch, PackedLengths, Partial, QueryPosition, RelativeBias, TensorView,
    TensorViewMut, Window, Workspace, attention_backward, attention_packed, attention_probs, attention_with,
    merge_partials,
};

const LAYOUT: Layout = Layout::BatchHeadSeqDim;
const TOUCHED: f32 = 7.0;

/// Sizes of every tensor of a request; the valid one is two sequences, 4 heads over 2, 3 queries, 5 keys.
#[derive(Clone, Copy)]
struct Request {
    query: [usize; 4],
    key: [usize; 4],
    value: [usize; 4],
    output: [usize; 4],
    lse: usize,
    d_output: [usize; 4],
    d_lse: Option<usize>,
    d_query: [usize; 4],
    d_key: [usize; 4],
    d_value: [usize; 4],
    d_bias: Option<[usize; 4]>,
    d_relative: Option<usize>,
    d_sinks: Option<usize>,
}

const VALID: Request = Request {
    query: [2, 4, 3, 8],
    key: [2, 2, 5, 8],
    value: [2, 2, 5, 6],
    output: [2, 4, 3, 6],
    lse: 24,
    d_output: [2, 4, 3, 6],
    d_lse: Some(24),
    d_query: [2, 4, 3, 8],
    d_key: [2, 2, 5, 8],
    d_value: [2, 2, 5, 6],
    d_bias: None,
    d_relative: None,
    d_sinks: None,
};

fn numbers(shape: [usize; 4]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn forward(request: Request, config: AttentionConfig<'_>) -> Result<(), AttentionError> {
    let [query, key, value] = [request.query, request.key, request.value].map(numbers);
    let mut output = vec![TOUCHED; request.output.iter().product()];
    let mut lse = vec![TOUCHED; request.lse];
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, request.output, LAYOUT)?,
        log_sum_exp: Some(&mut lse),
    };
    let view = |data, shape| TensorView::new(data, shape, LAYOUT).unwrap();
    let (query, key, value) =
        (view(&query, request.query), view(&key, request.key), view(&value, request.value));
    let result = attention_with(query, key, value, target, &config, &mut Workspace::new());
    if result.is_err() {
        assert!(output.iter().chain(&lse).all(|&x| x == TOUCHED), "wrote before {result:?}");
    }
    result
}

fn backward(request: Request, config: AttentionConfig<'_>) -> Result<(), AttentionError> {
    let [query, key, value, output, d_output] =
        [request.query, request.key, request.value, request.output, request.d_output].map(numbers);
    let (lse, d_lse) = (vec![1.0; request.lse], request.d_lse.map(|len| vec![0.5; len]));
    let fill = |len: usize| vec![TOUCHED; len];
    let [mut d_query, mut d_key, mut d_value] =
        [request.d_query, request.d_key, request.d_value].map(|shape| fill(shape.iter().product()));
    let mut d_bias = request.d_bias.map(|shape| fill(shape.iter().product()));
    let mut d_relative = request.d_relative.map(fill);
    let mut d_sinks = request.d_sinks.map(fill);
    let view = |data, shape| TensorView::new(data, shape, LAYOUT).unwrap();
    let inputs = BackwardInputs {
        output: view(&output, request.output),
        log_sum_exp: &lse,
        d_output: view(&d_output, request.d_output),
        d_log_sum_exp: d_lse.as_deref(),
    };
    let mut gradients = AttentionGradients::new(
        TensorViewMut::new(&mut d_query, request.d_query, LAYOUT)?,
        TensorViewMut::new(&mut d_key, request.d_key, LAYOUT)?,
        TensorViewMut::new(&mut d_value, request.d_value, LAYOUT)?,
    );
    gradients.d_attention_bias = d_bias
        .as_mut()
        .zip(request.d_bias)
        .map(|(data, shape)| TensorViewMut::new(&mut data[..], shape, LAYOUT).unwrap());
    gradients.d_relative_bias = d_relative.as_deref_mut();
    gradients.d_sinks = d_sinks.as_deref_mut();
    let (query, key, value) =
        (view(&query, request.query), view(&key, request.key), view(&value, request.value));
    let result = attention_backward(query, key, value, inputs, gradients, &config, &mut Workspace::new());
    if result.is_err() {
        let optional = [&d_bias, &d_relative, &d_sinks].into_iter().flatten().flatten();
        let all = d_query.iter().chain(&d_key).chain(&d_value).chain(optional);
        assert!(all.copied().all(|x| x == TOUCHED), "wrote before {result:?}");
    }
    result
}

/// Counts what was refused (or answered) as it should.
#[derive(Default)]
struct Report {
    count: usize,
    wrong: Vec<String>,
}

impl Report {
    /// The request is refused with a message that contains `says`.
    fn refused<T>(&mut self, what: &str, result: Result<T, AttentionError>, says: &str) {
        self.count += 1;
        let Err(error) = result else { return self.wrong.push(format!("{what}: accepted")) };
        let message = error.to_string();
        if !message.contains(says) || message.contains('\n') || message.len() > 400 {
            self.wrong.push(format!("{what}: {message:?} does not say {says:?} in one short line"));
        }
    }

    /// The request is fine.
    fn accepted<T>(&mut self, what: &str, result: Result<T, AttentionError>) {
        self.count += 1;
        if let Err(error) = result {
            self.wrong.push(format!("{what}: {error}"));
        }
    }
}

#[test]
fn hostile_requests__all_of_them__are_refused_by_name_or_answered_as_documented() {
    let mut report = Report::default();
    shapes(&mut report);
    options(&mut report);
    masks(&mut report);
    gradients_of_options(&mut report);
    views(&mut report);
    blocks(&mut report);
    packed_and_partial(&mut report);
    layers::layers(&mut report);
    layers::positions(&mut report);
    statistics::statistics(&mut report);
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    println!("COUNT: {} hostile inputs", report.count);
    assert!(report.count >= 120, "{}", report.count);
}

/// One axis of one tensor at a time is wrong, forward and backward.
fn shapes(report: &mut Report) {
    let plain = AttentionConfig::new();
    let wrong = |shape: [usize; 4], axis: usize| {
        let mut shape = shape;
        shape[axis] += 1;
        shape
    };
    report.accepted("valid forward", forward(VALID, plain));
    report.accepted("valid backward", backward(VALID, plain));
    for (axis, says) in
        ["batch_size", "num_kv_heads must divide", "output.seq_len_q", "key.head_dim"].iter().enumerate()
    {
        let request = Request { query: wrong(VALID.query, axis), ..VALID };
        report.refused("query axis", forward(request, plain), says);
        report.refused("query axis, backward", backward(request, plain), says);
    }
    for (axis, says) in
        ["key.batch_size", "value.num_kv_heads", "value.seq_len_kv", "key.head_dim"].iter().enumerate()
    {
        let request = Request { key: wrong(VALID.key, axis), ..VALID };
        report.refused("key axis", forward(request, plain), says);
        report.refused("key axis, backward", backward(request, plain), says);
    }
    for (axis, says) in
        ["value.batch_size", "value.num_kv_heads", "value.seq_len_kv", "output.value_head_dim"]
            .iter()
            .enumerate()
    {
        let request = Request { value: wrong(VALID.value, axis), ..VALID };
        report.refused("value axis", forward(request, plain), says);
        report.refused("value axis, backward", backward(request, plain), says);
    }
    for (axis, name) in ["batch_size", "num_heads", "seq_len_q", "value_head_dim"].iter().enumerate() {
        let output = Request { output: wrong(VALID.output, axis), ..VALID };
        report.refused("output axis", forward(output, plain), &format!("output.{name}"));
        report.refused("output axis, backward", backward(output, plain), &format!("output.{name}"));
        let d_output = Request { d_output: wrong(VALID.d_output, axis), ..VALID };
        report.refused("d_output axis", backward(d_output, plain), &format!("d_output.{name}"));
    }
    for axis in 0..4 {
        let query = ["batch_size", "num_heads", "seq_len_q", "head_dim"][axis];
        let request = Request { d_query: wrong(VALID.d_query, axis), ..VALID };
        report.refused("d_query axis", backward(request, plain), &format!("d_query.{query}"));
        let key = ["batch_size", "num_kv_heads", "seq_len_kv", "head_dim"][axis];
        let request = Request { d_key: wrong(VALID.d_key, axis), ..VALID };
        report.refused("d_key axis", backward(request, plain), &format!("d_key.{key}"));
        let value = ["batch_size", "num_kv_heads", "seq_len_kv", "value_head_dim"][axis];
        let request = Request { d_value: wrong(VALID.d_value, axis), ..VALID };
        report.refused("d_value axis", backward(request, plain), &format!("d_value.{value}"));
    }
    for lse in [0, 23, 25] {
        let request = Request { lse, ..VALID };
        report.refused("log_sum_exp", forward(request, plain), "log_sum_exp.len: expected size 24");
        report.refused(
            "log_sum_exp, backward",
            backward(request, plain),
            "log_sum_exp.len: expected size 24",
        );
        let request = Request { d_lse: Some(lse), ..VALID };
        report.refused("d_log_sum_exp", backward(request, plain), "d_log_sum_exp.len: expected size 24");
    }
    let zero = Request { query: [2, 4, 3, 0], key: [2, 2, 5, 0], ..VALID };
    report.refused("head_dim 0", forward(zero, plain), "head_dim");
    let three = Request { key: [2, 3, 5, 8], value: [2, 3, 5, 6], ..VALID };
    report.refused("3 kv heads", forward(three, plain), "found 3 kv heads for 4");
    let none = Request { key: [2, 0, 5, 8], value: [2, 0, 5, 6], ..VALID };
    report.refused("no kv heads", forward(none, plain), "num_kv_heads must divide");
}

fn options(report: &mut Report) {
    let plain = AttentionConfig::new();
    let mut both = |what: &str, config: AttentionConfig<'_>, says: &str| {
        report.refused(what, forward(VALID, config), says);
        report.refused(what, backward(VALID, config), says);
    };
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        both("scale", plain.with_softmax_scale(number), "softmax_scale");
    }
    for number in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        both("softcap", plain.with_softcap(number), "softcap");
    }
    for rate in [1.0, -0.1, 2.0, f32::NAN, f32::INFINITY] {
        both("dropout", plain.with_dropout(Dropout::new(rate, 1)), "dropout.rate");
    }
    for number in [f32::NAN, f32::INFINITY] {
        both("slopes", plain.with_alibi_slopes(&[0.5, number, 0.5, 0.5]), "alibi_slopes");
        both("sinks", plain.with_sinks(&[0.5, number, 0.5, 0.5]), "sinks");
    }
    both("slopes", plain.with_alibi_slopes(&[0.5; 3]), "alibi_slopes.len: expected size 4, found 3");
    both("slopes", plain.with_alibi_slopes(&[]), "alibi_slopes.len");
    both("sinks", plain.with_sinks(&[0.5; 5]), "sinks.len: expected size 4, found 5");
    let table = [0.5; 12];
    both(
        "relative",
        plain.with_relative_bias(RelativeBias::new(&table[..11], 1, 1)),
        "relative_bias.table.len",
    );
    both("relative", plain.with_relative_bias(RelativeBias::new(&table, usize::MAX, 1)), "relative_bias");
    both("relative", plain.with_relative_bias(RelativeBias::new(&table, usize::MAX / 2, 1)), "relative_bias");
    let bias = [0.5; 60];
    for (axis, shape) in [[3, 1, 1, 1], [1, 3, 1, 1], [1, 1, 2, 1], [1, 1, 1, 4]].into_iter().enumerate() {
        let name = ["batch_size", "num_heads", "seq_len_q", "seq_len_kv"][axis];
        let len = shape.iter().product::<usize>();
        let view = TensorView::new(&bias[..len], shape, LAYOUT).unwrap();
        both("bias", plain.with_attention_bias(view), &format!("attention_bias.{name}"));
        let keep = [true; 4];
        let view = TensorView::new(&keep[..len], shape, LAYOUT).unwrap();
        both("keep", plain.with_mask(Mask::default().with_keep(view)), &format!("mask.keep.{name}"));
    }
    if let Some(isa) = [Isa::Neon, Isa::Avx2, Isa::Avx512].into_iter().find(|isa| !isa.is_available()) {
        both("isa", plain.with_isa(isa), "is not available here");
    }
    for sink in [f32::NEG_INFINITY, f32::MAX, f32::MIN] {
        report.accepted("extreme sink", forward(VALID, plain.with_sinks(&[sink; 4])));
        report.accepted("extreme sink", backward(VALID, plain.with_sinks(&[sink; 4])));
    }
}

fn masks(report: &mut Report) {
    let plain = AttentionConfig::new();
    let lengths: [(&[usize], &str); 4] = [
        (&[5, 6], "mask.key_lengths (at most): expected size 5, found 6"),
        (&[5], ""),
        (&[5, 5, 5], "mask.key_lengths: expected size 2, found 3"),
        (&[usize::MAX, 0], "mask.key_lengths (at most)"),
    ];
    for (lengths, says) in lengths {
        let config = plain.with_mask(Mask::default().with_key_lengths(lengths));
        if says.is_empty() {
            report.accepted("one length for all", forward(VALID, config));
        } else {
            report.refused("lengths", forward(VALID, config), says);
            report.refused("lengths", backward(VALID, config), says);
        }
    }
    let offsets = Mask::causal(QueryPosition::OffsetPerSequence(&[1]));
    report.refused(
        "offsets",
        forward(VALID, plain.with_mask(offsets)),
        "mask.position: expected size 2, found 1",
    );
    report.refused("offsets", backward(VALID, plain.with_mask(offsets)), "mask.position");
    for offset in [i64::MIN, i64::MAX] {
        for reach in [0, usize::MAX] {
            let window = Window { left: reach, right: reach };
            let mask = Mask::causal(QueryPosition::Offset(offset)).with_window(window);
            let config = plain.with_mask(mask).with_alibi_slopes(&[0.5; 4]);
            report.accepted("extreme offset and window", forward(VALID, config));
            report.accepted("extreme offset and window", backward(VALID, config));
        }
    }
}

fn gradients_of_options(report: &mut Report) {
    let plain = AttentionConfig::new();
    let asked = |d_bias, d_relative, d_sinks| Request { d_bias, d_relative, d_sinks, ..VALID };
    let missing = [
        (
            asked(Some([1, 1, 3, 5]), None, None),
            "d_attention_bias: expected a configuration with attention_bias",
        ),
        (asked(None, Some(12), None), "d_relative_bias: expected a configuration with relative_bias"),
        (asked(None, None, Some(4)), "d_sinks: expected a configuration with sinks"),
    ];
    for (request, says) in missing {
        report.refused("gradient of an option that is not there", backward(request, plain), says);
    }
    let (bias, table, sinks) = ([0.5; 15], [0.5; 12], [0.5; 4]);
    let config = plain
        .with_attention_bias(TensorView::new(&bias, [1, 1, 3, 5], LAYOUT).unwrap())
        .with_relative_bias(RelativeBias::new(&table, 1, 1))
        .with_sinks(&sinks);
    report.accepted("all gradients", backward(asked(Some([1, 1, 3, 5]), Some(12), Some(4)), config));
    report.refused(
        "d_bias",
        backward(asked(Some([1, 1, 3, 4]), None, None), config),
        "d_attention_bias.seq_len_kv",
    );
    report.refused(
        "d_bias",
        backward(asked(Some([2, 1, 3, 5]), None, None), config),
        "d_attention_bias.batch_size",
    );
    report.refused("d_relative", backward(asked(None, Some(11), None), config), "d_relative_bias.len");
    report.refused("d_sinks", backward(asked(None, None, Some(3)), config), "d_sinks.len");
}

fn views(report: &mut Report) {
    let data = [0.5f32; 8];
    let view = |shape, strides| TensorView::with_strides(&data, shape, strides);
    report.refused(
        "too long",
        TensorView::new(&data, [1, 1, 3, 3], LAYOUT),
        "view.len: expected size 9, found 8",
    );
    report.refused("too short", TensorView::new(&data, [1, 1, 1, 3], LAYOUT), "view.len");
    report.refused("reach", view([1, 1, 3, 3], [0, 0, 3, 1]), "at least 9 needed, found 8");
    report.refused("stride", view([2, 1, 1, 1], [usize::MAX, 0, 0, 0]), "view");
    report.refused(
        "strides that sum past the end",
        view([2, 2, 1, 1], [usize::MAX / 2, usize::MAX / 2 + 2, 0, 0]),
        "view",
    );
    for shape in
        [[usize::MAX, 2, 1, 1], [1 << 32, 1 << 32, 1, 1], [1, 1, usize::MAX, usize::MAX], [usize::MAX; 4]]
    {
        report.refused("shape", view(shape, [0; 4]), "does not fit the address space");
        report.refused("shape", TensorView::new(&data, shape, LAYOUT), "does not fit the address space");
    }
    let mut output = [0.5f32; 16];
    for strides in [[0; 4], [4, 4, 2, 1], [8, 8, 1, 1], [8, 8, 2, 2]] {
        let result = TensorViewMut::with_strides(&mut output, [1, 1, 4, 2], strides).map(|_| ());
        if strides == [4, 4, 2, 1] {
            report.accepted("distinct elements", result);
        } else {
            report.refused("overlap", result, "share an element");
        }
    }
    // Stride 0 makes each view fit, and together they ask for more than there is.
    let huge = view([1, 1 << 20, 1 << 20, 1], [0; 4]).unwrap();
    let lse = [0.0f32; 1];
    let inputs = BackwardInputs { output: huge, log_sum_exp: &lse, d_output: huge, d_log_sum_exp: None };
    let bytes = regard::attention_backward_scratch_bytes(huge, huge, huge, inputs, &AttentionConfig::new());
    report.refused("log_sum_exp of a huge request", bytes, "log_sum_exp.len");
    let bytes = |shape| {
        let view = view(shape, [0; 4]).unwrap();
        regard::attention_scratch_bytes(view, view, view, &AttentionConfig::new())
    };
    report.refused("scratch", bytes([1, 1, 1, 1 << 58]), "does not fit");
    report.refused("scratch", bytes([1, 1, 1 << 58, 1]), "does not fit");
}

fn blocks(report: &mut Report) {
    let (query, key) = (numbers(VALID.query), numbers(VALID.key));
    let mut run = |batch, head, rows, keys, lse: usize, len: usize, says: &str| {
        let mut probs = vec![TOUCHED; len];
        let view = |data, shape| TensorView::new(data, shape, LAYOUT).unwrap();
        let at = HeadBlock { batch, head, rows, keys };
        let (query, key) = (view(&query, VALID.query), view(&key, VALID.key));
        let result = attention_probs(query, key, &vec![0.0; lse], &at, &AttentionConfig::new(), &mut probs);
        if says.is_empty() {
            report.accepted("probs", result);
        } else {
            report.refused("probs", result, says);
            assert!(probs.iter().all(|&x| x == TOUCHED), "wrote before an error");
        }
    };
    run(0, 0, 0..3, 0..5, 24, 15, "");
    run(2, 0, 0..3, 0..5, 24, 15, "block.batch");
    run(usize::MAX, 0, 0..3, 0..5, 24, 15, "block.batch");
    run(0, 4, 0..3, 0..5, 24, 15, "block.head");
    run(0, 0, 0..4, 0..5, 24, 20, "block.rows");
    run(0, 0, 0..usize::MAX, 0..5, 24, 20, "block.rows");
    run(0, 0, 0..3, 2..6, 24, 12, "block.keys");
    run(0, 0, 0..3, 0..5, 23, 15, "log_sum_exp.len");
    run(0, 0, 0..3, 0..5, 24, 14, "probs.len: expected size 15, found 14");
    #[expect(clippy::reversed_empty_ranges, reason = "hostile")]
    run(0, 0, 3..0, 4..2, 24, 0, "");
}

fn packed_and_partial(report: &mut Report) {
    let data = numbers([1, 1, 6, 2]);
    let view = TensorView::new(&data, [1, 1, 6, 2], LAYOUT).unwrap();
    let mut packed = |query: &[usize], key: &[usize], says: &str| {
        let mut output = vec![TOUCHED; 12];
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut output, [1, 1, 6, 2], LAYOUT).unwrap(),
            log_sum_exp: None,
        };
        let batch =
            PackedBatch { query: view, key: view, value: view, lengths: PackedLengths { query, key } };
        let result = attention_packed(batch, target, &AttentionConfig::new(), &mut Workspace::new());
        report.refused("packed", result, says);
    };
    packed(&[], &[], "lengths.query");
    packed(&[0], &[0], "lengths.query");
    packed(&[0, 7], &[0, 6], "found 7 at index 1");
    packed(&[0, 3, 2, 6], &[0, 1, 2, 6], "found 2 at index 2");
    packed(&[0, 6], &[0, 3, 6], "lengths.key.len");
    packed(&[0, 6], &[1, 6], "lengths.key");
    let (lse, short) = ([0.0f32; 6], [0.0f32; 5]);
    let mut merge = |shape: [usize; 4], log_sum_exp: &[f32], sinks: Option<&[f32]>, says: &str| {
        let output = numbers(shape);
        let part = Partial { output: TensorView::new(&output, shape, LAYOUT).unwrap(), log_sum_exp };
        let mut merged = vec![TOUCHED; 12];
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut merged, [1, 1, 6, 2], LAYOUT).unwrap(),
            log_sum_exp: None,
        };
        report.refused("merge", merge_partials(&[part], target, sinks), says);
        assert!(merged.iter().all(|&x| x == TOUCHED));
    };
    merge([1, 1, 5, 2], &lse, None, "partial.seq_len_q");
    merge([1, 1, 6, 3], &lse, None, "partial.value_head_dim");
    merge([1, 1, 6, 2], &short, None, "partial.log_sum_exp.len");
    merge([1, 1, 6, 2], &lse, Some(&[1.0, 2.0]), "sinks.len");
    let causal = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
    report.refused("block", causal.for_block(0, 3), "mask.position");
    report.refused("block", AttentionConfig::new().for_block(usize::MAX, 0), "mask.position");
}
