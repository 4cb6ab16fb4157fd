//! Backward calls, packed batches and merges: a typed error with nothing written, or every element written.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use regard::{
    AttentionConfig, AttentionGradients, AttentionOutput, BackwardInputs, Layout, PackedBatch, PackedLengths,
    Partial, TensorView, TensorViewMut, Workspace, attention_backward, attention_packed, attention_with,
    merge_partials,
};
use regard_fuzz::call::{Call, UNTOUCHED, is_untouched};

const LAYOUT: Layout = Layout::BatchHeadSeqDim;

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let Ok(call) = Call::new(&mut u) else { return };
    call.with_config(|config| run(&call, config, &mut u));
});

fn view(data: &mut [f32], shape: [usize; 4]) -> TensorViewMut<'_, f32> {
    TensorViewMut::new(data, shape, LAYOUT).expect("its own shape")
}

fn run(call: &Call, config: &AttentionConfig<'_>, u: &mut Unstructured<'_>) {
    let (Some(query), Some(key), Some(value)) = (call.query.view(), call.key.view(), call.value.view()) else {
        return;
    };
    let [b, h, s_q, _] = query.shape();
    let shape = [b, h, s_q, value.shape()[3]];
    let mut output = vec![0.0; shape.iter().product()];
    let mut log_sum_exp = vec![0.0; b * h * s_q];
    let mut workspace = Workspace::new();
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, shape, LAYOUT).expect("its own shape"),
        log_sum_exp: Some(&mut log_sum_exp),
    };
    let forward = attention_with(query, key, value, target, config, &mut workspace);
    let fill = |shape: [usize; 4]| vec![UNTOUCHED; shape.iter().product()];
    let [mut d_query, mut d_key, mut d_value] = [query, key, value].map(|view| fill(view.shape()));
    let mut d_bias = config.attention_bias.map(|bias| fill(bias.shape()));
    let mut d_relative = config.relative_bias.map(|bias| vec![UNTOUCHED; bias.table.len()]);
    let mut d_sinks = config.sinks.map(|sinks| vec![UNTOUCHED; sinks.len()]);
    let output_view = TensorView::new(&output, shape, LAYOUT).expect("its own shape");
    let inputs = BackwardInputs {
        output: output_view,
        log_sum_exp: &log_sum_exp,
        d_output: TensorView::new(&call.d_output, shape, LAYOUT).expect("its own shape"),
        d_log_sum_exp: call.d_log_sum_exp.as_deref(),
    };
    let mut gradients = AttentionGradients::new(
        view(&mut d_query, query.shape()),
        view(&mut d_key, key.shape()),
        view(&mut d_value, value.shape()),
    );
    gradients.d_attention_bias =
        d_bias.as_mut().zip(config.attention_bias).map(|(data, bias)| view(&mut data[..], bias.shape()));
    gradients.d_relative_bias = d_relative.as_deref_mut();
    gradients.d_sinks = d_sinks.as_deref_mut();
    let backward = attention_backward(query, key, value, inputs, gradients, config, &mut workspace);
    assert_eq!(forward.is_ok(), backward.is_ok(), "{forward:?} {backward:?}");
    let (none, no_bias) = (vec![], vec![]);
    let all = [
        &d_query,
        &d_key,
        &d_value,
        d_bias.as_ref().unwrap_or(&no_bias),
        d_relative.as_ref().unwrap_or(&none),
        d_sinks.as_ref().unwrap_or(&none),
    ];
    for numbers in all {
        let written = numbers.iter().all(|x| x.to_bits() != UNTOUCHED.to_bits());
        assert!(if backward.is_ok() { written } else { is_untouched(numbers) });
    }

    // The same tensors as one packed batch, cut anywhere (or wrongly).
    let mut cuts = || -> Vec<usize> {
        let mut cuts = vec![0];
        cuts.extend((0..2).filter_map(|_| u.int_in_range(0..=s_q).ok()));
        cuts.push(s_q);
        cuts
    };
    let (query_cuts, key_cuts) = (cuts(), cuts());
    let lengths = PackedLengths { query: &query_cuts, key: &key_cuts };
    let mut packed = fill(shape);
    let target = AttentionOutput { output: view(&mut packed, shape), log_sum_exp: None };
    let _ = attention_packed(PackedBatch { query, key, value, lengths }, target, config, &mut workspace);

    let part = Partial { output: output_view, log_sum_exp: &log_sum_exp };
    let mut merged = vec![UNTOUCHED; output.len()];
    let target = AttentionOutput { output: view(&mut merged, shape), log_sum_exp: None };
    let result = merge_partials(&[part, part], target, config.sinks);
    assert!(result.is_ok() || is_untouched(&merged));
}
