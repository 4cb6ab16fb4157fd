//! Attention under 60 combinations of options against PyTorch in float64: outputs and all gradients, on every
//! instruction set. golden/README.md says how the numbers were made.
#![allow(non_snake_case)]

mod common;

use std::collections::BTreeMap;

use common::isas;
use regard::reference::{Cotangents, Reference};
use regard::{
    AttentionConfig, AttentionGradients, AttentionOutput, BackwardInputs, Isa, Layout, Mask, QueryPosition,
    RelativeBias, TensorView, TensorViewMut, Window, Workspace, attention_backward, attention_with,
};
use regard_testkit::{Golden, golden_path};
use serde_json::Value;

/// The largest error of each tensor, as a share of max(1, max|r|).
type Errors = BTreeMap<&'static str, f64>;

struct Case {
    name: String,
    options: Value,
    golden: Golden,
    /// The stored inputs by name, f32; those that a case lacks are not there.
    inputs: BTreeMap<&'static str, Vec<f32>>,
    keep: Vec<bool>,
    offsets: Vec<i64>,
    key_lengths: Vec<usize>,
}

const INPUTS: [&str; 9] = [
    "query",
    "key",
    "value",
    "attention_bias",
    "alibi_slopes",
    "relative_bias",
    "sinks",
    "d_output",
    "d_log_sum_exp",
];

impl Case {
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(golden_path("options/cases.json")).unwrap();
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(all.len(), 60);
        all.into_iter().map(Self::read).collect()
    }

    fn read(options: Value) -> Self {
        let name = options["name"].as_str().unwrap().to_owned();
        let golden = Golden::open(&format!("options/{name}.safetensors"));
        let tensors = golden.tensors();
        let there = INPUTS.into_iter().filter(|name| tensors.tensor(name).is_ok());
        let inputs = there.map(|name| (name, golden.f32s(name))).collect();
        let keep = tensors.tensor("keep").map(|keep| keep.data().iter().map(|&byte| byte != 0).collect());
        let keep = keep.unwrap_or_default();
        let integers = |name| -> Vec<i64> {
            options[name].as_array().into_iter().flatten().map(|n| n.as_i64().unwrap()).collect()
        };
        let key_lengths = integers("key_lengths").into_iter().map(|n| n as usize).collect();
        let offsets = integers("position");
        Self { name, options, golden, inputs, keep, offsets, key_lengths }
    }

    fn shape(&self, tensor: &str) -> [usize; 4] {
        self.golden.shape(tensor).try_into().unwrap()
    }

    fn view(&self, tensor: &str) -> TensorView<'_, f32> {
        TensorView::new(&self.inputs[tensor], self.shape(tensor), Layout::BatchHeadSeqDim).unwrap()
    }

    /// Left and right of a window or of a relative bias.
    fn sides(&self, option: &str) -> Option<[usize; 2]> {
        let sides = self.options[option].as_array()?;
        Some([0, 1].map(|side| sides[side].as_u64().unwrap() as usize))
    }

    fn mask(&self) -> Mask<'_> {
        let position = match &self.options["position"] {
            Value::Null => QueryPosition::TopLeft,
            Value::Array(_) => QueryPosition::OffsetPerSequence(&self.offsets),
            Value::Number(offset) => QueryPosition::Offset(offset.as_i64().unwrap()),
            Value::String(corner) if corner == "bottom_right" => QueryPosition::BottomRight,
            other => panic!("{}: position {other}", self.name),
        };
        let keep = (!self.keep.is_empty())
            .then(|| TensorView::new(&self.keep, self.shape("keep"), Layout::BatchHeadSeqDim).unwrap());
        Mask {
            causal: self.options["causal"] == true,
            window: self.sides("window").map(|[left, right]| Window { left, right }),
            position,
            key_lengths: (!self.key_lengths.is_empty()).then_some(&self.key_lengths),
            keep,
        }
    }

    fn config(&self) -> AttentionConfig<'_> {
        let mut config = AttentionConfig::new().with_mask(self.mask());
        if self.inputs.contains_key("attention_bias") {
            config = config.with_attention_bias(self.view("attention_bias"));
        }
        if let Some(slopes) = self.inputs.get("alibi_slopes") {
            config = config.with_alibi_slopes(slopes);
        }
        if let Some([left, right]) = self.sides("relative") {
            config = config.with_relative_bias(RelativeBias::new(&self.inputs["relative_bias"], left, right));
        }
        if let Some(sinks) = self.inputs.get("sinks") {
            config = config.with_sinks(sinks);
        }
        if let Some(softcap) = self.options["softcap"].as_f64() {
            config = config.with_softcap(softcap as f32);
        }
        if let Some(scale) = self.options["scale"].as_f64() {
            config = config.with_softmax_scale(scale as f32);
        }
        config
    }

    /// Adds the error of one tensor, which must be within `tolerance` times max(1, max|r|).
    fn compare(
        &self,
        tensor: &'static str,
        found: &[f64],
        tolerance: f64,
        errors: &mut Errors,
    ) -> Result<(), String> {
        let expected = self.golden.numbers(tensor);
        assert_eq!(found.len(), expected.len(), "{}: {tensor}", self.name);
        let finite = expected.iter().filter(|r| r.is_finite());
        let size = finite.fold(1.0f64, |largest, r| largest.max(r.abs()));
        for (i, (x, r)) in found.iter().zip(&expected).enumerate() {
            // A row without an allowed key: −∞ in the log-sum-exp.
            let error = if x == r { 0.0 } else { (x - r).abs() / size };
            if error.is_nan() || error > tolerance {
                return Err(format!("{}: {tensor}[{i}] is {x}, expected {r}", self.name));
            }
            let worst = errors.entry(tensor).or_default();
            *worst = worst.max(error);
        }
        Ok(())
    }

    fn run_reference(&self, errors: &mut Errors) -> Result<(), String> {
        let wide = |name: &str| -> Vec<f64> {
            self.inputs.get(name).into_iter().flatten().map(|&x| f64::from(x)).collect()
        };
        let (query, key, value) = (self.view("query"), self.view("key"), self.view("value"));
        let reference = Reference::<f64>::new(query, key, value, &self.config()).unwrap();
        let forward = reference.forward();
        let cotangents = Cotangents { d_output: wide("d_output"), d_log_sum_exp: wide("d_log_sum_exp") };
        let gradients = reference.backward(&cotangents);
        // The default scale is rounded to f32 there; PyTorch's is not.
        let mut compare = |tensor, found: &[f64]| self.compare(tensor, found, 1e-6, errors);
        compare("output", &forward.output)?;
        compare("log_sum_exp", &forward.log_sum_exp)?;
        compare("d_query", &gradients.d_query.sum)?;
        compare("d_key", &gradients.d_key.sum)?;
        compare("d_value", &gradients.d_value.sum)?;
        for (input, tensor, gradient) in [
            ("attention_bias", "d_attention_bias", &gradients.d_attention_bias),
            ("relative_bias", "d_relative_bias", &gradients.d_relative_bias),
            ("sinks", "d_sinks", &gradients.d_sinks),
        ] {
            if self.inputs.contains_key(input) {
                compare(tensor, &gradient.sum)?;
            }
        }
        Ok(())
    }

    fn run_kernels(&self, isa: Isa, errors: &mut Errors) -> Result<(), String> {
        let (query, key, value) = (self.view("query"), self.view("key"), self.view("value"));
        let config = self.config().with_isa(isa);
        let mut workspace = Workspace::new();
        // Whatever is not written stays NaN and fails.
        let unwritten = |tensor: &str| vec![f32::NAN; self.inputs.get(tensor).map_or(0, Vec::len)];

        let shape = self.shape("output");
        let mut output = unwritten("d_output");
        let mut log_sum_exp = vec![f32::NAN; shape[..3].iter().product()];
        let target =
            AttentionOutput { output: contiguous(&mut output, shape), log_sum_exp: Some(&mut log_sum_exp) };
        attention_with(query, key, value, target, &config, &mut workspace).map_err(|e| e.to_string())?;

        let mut d = ["query", "key", "value", "attention_bias", "relative_bias", "sinks"].map(unwritten);
        let [d_query, d_key, d_value, d_attention_bias, d_relative_bias, d_sinks] = &mut d;
        let inputs = BackwardInputs {
            output: TensorView::new(&output, shape, Layout::BatchHeadSeqDim).unwrap(),
            log_sum_exp: &log_sum_exp,
            d_output: self.view("d_output"),
            d_log_sum_exp: self.inputs.get("d_log_sum_exp").map(Vec::as_slice),
        };
        let gradients = AttentionGradients {
            d_query: contiguous(d_query, query.shape()),
            d_key: contiguous(d_key, key.shape()),
            d_value: contiguous(d_value, value.shape()),
            d_attention_bias: config.attention_bias.map(|bias| contiguous(d_attention_bias, bias.shape())),
            d_relative_bias: config.relative_bias.map(|_| &mut d_relative_bias[..]),
            d_sinks: config.sinks.map(|_| &mut d_sinks[..]),
        };
        attention_backward(query, key, value, inputs, gradients, &config, &mut workspace)
            .map_err(|e| e.to_string())?;

        let [d_query, d_key, d_value, d_attention_bias, d_relative_bias, d_sinks] = &d;
        for (tensor, found) in [
            ("output", &output),
            ("log_sum_exp", &log_sum_exp),
            ("d_query", d_query),
            ("d_key", d_key),
            ("d_value", d_value),
            ("d_attention_bias", d_attention_bias),
            ("d_relative_bias", d_relative_bias),
            ("d_sinks", d_sinks),
        ] {
            if !found.is_empty() {
                let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
                self.compare(tensor, &found, 1e-5, errors).map_err(|e| format!("{isa}: {e}"))?;
            }
        }
        Ok(())
    }
}

fn contiguous(data: &mut [f32], shape: [usize; 4]) -> TensorViewMut<'_, f32> {
    TensorViewMut::new(data, shape, Layout::BatchHeadSeqDim).unwrap()
}

fn check_all(what: &str, run: impl Fn(&Case, &mut Errors) -> Result<(), String>) {
    let (cases, mut errors) = (Case::all(), Errors::new());
    let failures: Vec<String> = cases.iter().filter_map(|case| run(case, &mut errors).err()).collect();
    let worst: Vec<String> = errors.iter().map(|(tensor, error)| format!("{tensor} {error:.1e}")).collect();
    let (passed, worst) = (cases.len() - failures.len(), worst.join(", "));
    println!("COUNT: {passed} of {} PyTorch option cases {what}, worst {worst}", cases.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn reference__pytorch_option_cases__agree_forward_and_backward() {
    check_all("by the reference", Case::run_reference);
}

#[test]
fn attention__pytorch_option_cases__agree_forward_and_backward() {
    check_all("by the kernels", |case, errors| {
        isas().into_iter().try_for_each(|isa| case.run_kernels(isa, errors))
    });
}
