//! Forward calls and probabilities: a typed error with nothing written, or every element written.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use regard::{
    AttentionOutput, HeadBlock, Layout, TensorViewMut, Workspace, attention_probs, attention_scratch_bytes,
    attention_with,
};
use regard_fuzz::call::{Call, UNTOUCHED, is_untouched};

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let Ok(call) = Call::new(&mut u) else { return };
    let (Some(query), Some(key), Some(value)) = (call.query.view(), call.key.view(), call.value.view()) else {
        return;
    };
    let [b, h, s_q, _] = query.shape();
    let shape = [b, h, s_q, value.shape()[3]];
    let mut output = vec![UNTOUCHED; shape.iter().product()];
    let mut log_sum_exp = vec![UNTOUCHED; b * h * s_q];
    call.with_config(|config| {
        let announced = attention_scratch_bytes(query, key, value, config);
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut output, shape, Layout::BatchHeadSeqDim).expect("its own shape"),
            log_sum_exp: Some(&mut log_sum_exp),
        };
        let result = attention_with(query, key, value, target, config, &mut Workspace::new());
        assert_eq!(announced.is_ok(), result.is_ok());
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
            assert!(is_untouched(&output) && is_untouched(&log_sum_exp));
            return;
        }
        let written = |numbers: &[f32]| numbers.iter().all(|x| x.to_bits() != UNTOUCHED.to_bits());
        assert!(written(&output) && written(&log_sum_exp));
        let s_kv = key.shape()[2];
        let (Ok(batch), Ok(head)) = (u.int_in_range(0..=b), u.int_in_range(0..=h)) else { return };
        let (Ok(row), Ok(first)) = (u.int_in_range(0..=s_q), u.int_in_range(0..=s_kv)) else { return };
        let block = HeadBlock { batch, head, rows: row..s_q, keys: first..s_kv };
        let mut probs = vec![UNTOUCHED; (s_q - row) * (s_kv - first)];
        let result = attention_probs(query, key, &log_sum_exp, &block, config, &mut probs);
        assert!(result.is_ok() && written(&probs) || result.is_err() && is_untouched(&probs));
    });
});
