//! Gradients of the layers against PyTorch's and against differences of the loss in f64.
#![allow(non_snake_case)]

use fastrand::Rng;
use regard::layer::{ForwardPass, Linear, MultiHeadAttention, MultiHeadAttentionGradients, OptionGradients};
use regard::position::{RotaryPairs, RotaryPositions};
use regard::reference::Reference;
use regard::{
    AttentionConfig, AttentionError, Layout, Mask, Parallelism, QueryPosition, RelativeBias, TensorView,
    TensorViewMut, Window, Workspace,
};
use regard_testkit::{Golden, assert_close};

/// What a loss is taken through: the inputs, their sizes and the derivative by the output.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    input: &'a [f32],
    memory: Option<&'a [f32]>,
    /// Batch, queries, keys.
    size: [usize; 3],
    d_output: &'a [f32],
}

impl Run<'_> {
    fn gradients(
        &self,
        layer: &MultiHeadAttention,
        rotary: Option<(&RotaryPositions, [usize; 2])>,
        options: OptionGradients<'_>,
        config: &AttentionConfig<'_>,
    ) -> Result<MultiHeadAttentionGradients, AttentionError> {
        let (parallelism, [batch, seq_len, _]) = (config.parallelism, self.size);
        let mut projection = match self.memory {
            Some(memory) => layer.project_cross(self.input, memory, self.size, parallelism)?,
            None => layer.project(self.input, [batch, seq_len], parallelism)?,
        };
        if let Some((rotary, first)) = rotary {
            projection.rotate(rotary, first)?;
        }
        let mut workspace = Workspace::new();
        let attended = projection.attend(config, &mut workspace)?;
        let pass = ForwardPass {
            input: self.input,
            memory: self.memory,
            projection: &projection,
            attended: &attended,
        };
        layer.backward(pass, self.d_output, options, config, &mut workspace)
    }
}

fn random(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

fn linear(rng: &mut Rng, inputs: usize, outputs: usize, has_bias: bool) -> Linear {
    let weight = random(rng, inputs * outputs);
    Linear::new(weight, has_bias.then(|| random(rng, outputs)), inputs, outputs).unwrap()
}

fn bits<'a>(numbers: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    numbers.into_iter().map(|x| x.to_bits()).collect()
}

#[test]
fn backward__pytorch_goldens__agree() {
    let lengths: Vec<usize> = Golden::open("layer/key_padding.safetensors")
        .numbers("key_lengths")
        .iter()
        .map(|&n| n as usize)
        .collect();
    let plain = AttentionConfig::new();
    for (name, config) in [
        ("self_attention", plain),
        ("self_attention_no_bias", plain),
        ("cross_attention", plain),
        ("cross_attention_kdim", plain),
        ("causal", plain.with_mask(Mask::causal(QueryPosition::TopLeft))),
        ("key_padding", plain.with_mask(Mask::default().with_key_lengths(&lengths))),
    ] {
        let golden = Golden::open(&format!("layer/{name}.safetensors"));
        let heads = golden.numbers("num_heads")[0] as usize;
        let mut layer = MultiHeadAttention::from_safetensors(&golden.tensors(), "", [heads, heads]).unwrap();
        let (input, key) = (golden.f32s("query"), golden.f32s("key"));
        let has = |tensor: &str| golden.tensors().tensor(tensor).is_ok();
        let shape = golden.shape("query");
        let d_output = golden.f32s("cotangent");
        let run = Run {
            input: &input,
            memory: has("grad.memory").then_some(&key),
            size: [shape[0], shape[1], golden.shape("key")[1]],
            d_output: &d_output,
        };
        let found = run.gradients(&layer, None, OptionGradients::default(), &config).unwrap();

        let stacked = |parts: [&[f32]; 3]| parts.concat();
        let [query, key, value] = [&found.query, &found.key, &found.value];
        let mut compared = vec![
            ("grad.query", found.d_input.clone()),
            ("grad.out_proj.weight", found.output.d_weight.clone()),
        ];
        if has("in_proj_weight") {
            let stacked = stacked([&query.d_weight, &key.d_weight, &value.d_weight]);
            compared.push(("grad.in_proj_weight", stacked));
        } else {
            compared.push(("grad.q_proj_weight", query.d_weight.clone()));
            compared.push(("grad.k_proj_weight", key.d_weight.clone()));
            compared.push(("grad.v_proj_weight", value.d_weight.clone()));
        }
        compared.extend(found.d_memory.clone().map(|d_memory| ("grad.memory", d_memory)));
        if has("in_proj_bias") {
            let [query, key, value] = [query, key, value].map(|part| part.d_bias.as_deref().unwrap());
            compared.push(("grad.in_proj_bias", stacked([query, key, value])));
            compared.push(("grad.out_proj.bias", found.output.d_bias.clone().unwrap()));
        }
        let goldens = golden.tensors().names().into_iter().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(compared.len(), goldens, "{name}: every gradient of the file is compared");
        for (tensor, found) in compared {
            let expected = golden.numbers(tensor);
            let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            assert_close(&format!("{name}: {tensor}"), &found, &expected, 1e-5 * largest);
        }
        let sizes = |parts: Vec<(&'static str, usize)>| parts;
        let gradients = found.parameters().iter().map(|(name, part)| (*name, part.len())).collect();
        let parameters = layer.parameters_mut().iter().map(|(name, part)| (*name, part.len())).collect();
        assert_eq!(sizes(gradients), sizes(parameters), "{name}");
    }
}

/// A layer and everything it computes from in f64, by name, with the forward pass written out.
struct Widened<'a> {
    numbers: Vec<(&'static str, Vec<f64>)>,
    heads: [usize; 2],
    /// head_dim, value_head_dim.
    dims: [usize; 2],
    run: Run<'a>,
    rotary: Option<(&'a RotaryPositions, [usize; 2])>,
    config: AttentionConfig<'a>,
}

impl Widened<'_> {
    fn get(&self, name: &str) -> &[f64] {
        let named = self.numbers.iter().find(|(candidate, _)| *candidate == name);
        named.map_or(&[], |(_, numbers)| numbers)
    }

    /// x·Wᵀ + b.
    fn project(&self, part: &str, rows: &[f64], out_features: usize) -> Vec<f64> {
        let (weight, bias) = (self.get(&format!("{part}.weight")), self.get(&format!("{part}.bias")));
        let in_features = weight.len() / out_features;
        let rows = rows.chunks_exact(in_features).flat_map(|row| {
            (0..out_features).map(move |o| {
                let products = row.iter().zip(&weight[o * in_features..]).map(|(x, w)| x * w);
                products.sum::<f64>() + bias.get(o).copied().unwrap_or(0.0)
            })
        });
        rows.collect()
    }

    /// From `[batch, seq, heads, dim]` to `[batch, heads, seq, dim]`, each row turned by its position.
    fn heads_apart(&self, rows: &[f64], [heads, seq, dim]: [usize; 3], first: Option<usize>) -> Vec<f64> {
        let mut apart = Vec::with_capacity(rows.len());
        for index in 0..rows.len() / dim {
            let (batch, head, position) = (index / (heads * seq), index / seq % heads, index % seq);
            let mut row = rows[((batch * seq + position) * heads + head) * dim..][..dim].to_vec();
            if let (Some(first), Some(_)) = (first, self.rotary) {
                for i in 0..dim / 2 {
                    let angle = (first + position) as f64 * 10_000f64.powf(-((2 * i) as f64) / dim as f64);
                    let (a, b) = (row[2 * i], row[2 * i + 1]);
                    row[2 * i] = a * angle.cos() - b * angle.sin();
                    row[2 * i + 1] = a * angle.sin() + b * angle.cos();
                }
            }
            apart.extend(row);
        }
        apart
    }

    /// Σ output · d_output.
    fn loss(&self) -> f64 {
        let ([heads, kv_heads], [dim, value_dim]) = (self.heads, self.dims);
        let [batch, seq_q, seq_kv] = self.run.size;
        let input = self.get("input");
        let memory = if self.run.memory.is_some() { self.get("memory") } else { input };
        let query = self.project("query", input, heads * dim);
        let key = self.project("key", memory, kv_heads * dim);
        let value = self.project("value", memory, kv_heads * value_dim);

        let zeros = |shape: [usize; 4]| vec![0.0f32; shape.iter().product()];
        let shapes = [
            [batch, heads, seq_q, dim],
            [batch, kv_heads, seq_kv, dim],
            [batch, kv_heads, seq_kv, value_dim],
        ];
        let data = shapes.map(zeros);
        let views: [TensorView<'_, f32>; 3] =
            std::array::from_fn(|i| TensorView::new(&data[i], shapes[i], Layout::BatchHeadSeqDim).unwrap());
        let mut reference = Reference::<f64>::new(views[0], views[1], views[2], &self.config).unwrap();
        let first = |part: usize| self.rotary.map(|(_, first)| first[part]);
        reference.query = self.heads_apart(&query, [heads, seq_q, dim], first(0));
        reference.key = self.heads_apart(&key, [kv_heads, seq_kv, dim], first(1));
        reference.value = self.heads_apart(&value, [kv_heads, seq_kv, value_dim], None);
        reference.sinks = self.get("sinks").to_vec();
        reference.attention_bias = self.get("attention_bias").to_vec();
        reference.relative_bias = self.get("relative_bias").to_vec();
        let apart = reference.forward().output;

        let row_len = heads * value_dim;
        let mut together = vec![0.0; apart.len()];
        for (index, row) in apart.chunks_exact(value_dim).enumerate() {
            let (batch, head, position) = (index / (heads * seq_q), index / seq_q % heads, index % seq_q);
            together[(batch * seq_q + position) * row_len + head * value_dim..][..value_dim]
                .copy_from_slice(row);
        }
        let out_features = self.run.d_output.len() / (batch * seq_q);
        let output = self.project("output", &together, out_features);
        output.iter().zip(self.run.d_output).map(|(output, &d)| output * f64::from(d)).sum()
    }

    /// (loss(x + step) − loss(x − step)) / 2·step for every number of `name`.
    fn differences(&mut self, name: &str) -> Vec<f64> {
        const STEP: f64 = 1e-5;
        let part = self.numbers.iter().position(|(candidate, _)| *candidate == name).unwrap();
        (0..self.numbers[part].1.len())
            .map(|i| {
                let middle = self.numbers[part].1[i];
                let mut at = |number| {
                    self.numbers[part].1[i] = number;
                    self.loss()
                };
                let difference = (at(middle + STEP) - at(middle - STEP)) / (2.0 * STEP);
                at(middle);
                difference
            })
            .collect()
    }
}

/// Every gradient of a layer with every option against differences; `cross` reads memory rows of another size.
fn check_against_differences(cross: bool, has_bias: [bool; 4], seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let (heads, dims) = ([4, 2], [6, 5]);
    let (model_dim, kv_model_dim) = (8, if cross { 7 } else { 8 });
    let size = if cross { [2, 3, 5] } else { [2, 4, 4] };
    let [batch, seq_q, seq_kv] = size;
    let mut layer = MultiHeadAttention::new(
        linear(&mut rng, model_dim, 24, has_bias[0]),
        linear(&mut rng, kv_model_dim, 12, has_bias[1]),
        linear(&mut rng, kv_model_dim, 10, has_bias[2]),
        linear(&mut rng, 20, 3, has_bias[3]),
        heads,
    )
    .unwrap();
    let input = random(&mut rng, batch * seq_q * model_dim);
    let memory = random(&mut rng, batch * seq_kv * kv_model_dim);
    let d_output = random(&mut rng, batch * seq_q * 3);
    let (sinks, table) = (random(&mut rng, 4), random(&mut rng, 4 * 4));
    let bias = random(&mut rng, 4 * seq_q * seq_kv);
    let bias_shape = [1, 4, seq_q, seq_kv];
    let window = Window { left: 2, right: 2 };
    let config = AttentionConfig::new()
        .with_softcap(1.5)
        .with_sinks(&sinks)
        .with_relative_bias(RelativeBias::new(&table, 2, 1))
        .with_attention_bias(TensorView::new(&bias, bias_shape, Layout::BatchHeadSeqDim).unwrap())
        .with_mask(Mask::window(window, QueryPosition::TopLeft));
    let rotary = RotaryPositions::new(6, 6, 10_000.0, RotaryPairs::Interleaved).unwrap();
    let rotary = Some((&rotary, [3, 1]));
    let run = Run { input: &input, memory: cross.then_some(&memory), size, d_output: &d_output };

    let (mut d_bias, mut d_table, mut d_sinks) =
        (vec![f32::NAN; bias.len()], vec![f32::NAN; 16], [f32::NAN; 4]);
    let options = OptionGradients {
        d_attention_bias: Some(TensorViewMut::new(&mut d_bias, bias_shape, Layout::BatchHeadSeqDim).unwrap()),
        d_relative_bias: Some(&mut d_table),
        d_sinks: Some(&mut d_sinks),
    };
    let found = run.gradients(&layer, rotary, options, &config).unwrap();
    let mut gradients = found.parameters();
    gradients.extend([("input", found.d_input.as_slice()), ("sinks", &d_sinks)]);
    gradients.extend([("attention_bias", d_bias.as_slice()), ("relative_bias", &d_table)]);
    gradients.extend(found.d_memory.as_deref().map(|d_memory| ("memory", d_memory)));

    let wide = |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let mut numbers: Vec<_> = layer.parameters_mut().iter().map(|(name, part)| (*name, wide(part))).collect();
    numbers.extend([("input", wide(&input)), ("sinks", wide(&sinks))]);
    numbers.extend([("attention_bias", wide(&bias)), ("relative_bias", wide(&table))]);
    if cross {
        numbers.push(("memory", wide(&memory)));
    }
    let names: Vec<_> = numbers.iter().map(|(name, _)| *name).collect();
    assert_eq!(gradients.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    assert_eq!(names.len(), 4 + has_bias.iter().filter(|&&b| b).count() + 4 + usize::from(cross));
    let mut widened = Widened { numbers, heads, dims, run, rotary, config };
    for (name, gradient) in gradients {
        let expected = widened.differences(name);
        let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        assert!(largest > 1e-3, "{name} has an influence");
        assert_close(name, gradient, &expected, 1e-5 * largest.max(1.0));
    }
}

#[test]
fn backward__grouped_self_attention_with_every_option__agrees_with_differences() {
    check_against_differences(false, [true; 4], 1);
}

#[test]
fn backward__grouped_cross_attention_from_rows_of_another_size__agrees_with_differences() {
    check_against_differences(true, [true; 4], 2);
}

#[test]
fn backward__biases_of_some_projections__are_the_only_ones_trained() {
    check_against_differences(false, [false, false, true, false], 3);
    check_against_differences(true, [true, false, false, true], 4);
}

/// In cross-attention with the input as memory, the two roles of the input are told apart.
#[test]
fn backward__input_as_its_own_memory__splits_the_gradient_of_self_attention() {
    let mut rng = Rng::with_seed(5);
    let part = |rng: &mut Rng| linear(rng, 12, 12, true);
    let layer =
        MultiHeadAttention::new(part(&mut rng), part(&mut rng), part(&mut rng), part(&mut rng), [3, 3])
            .unwrap();
    let (input, d_output) = (random(&mut rng, 2 * 5 * 12), random(&mut rng, 2 * 5 * 12));
    let own = Run { input: &input, memory: None, size: [2, 5, 5], d_output: &d_output };
    let gradients = |run: Run<'_>| {
        run.gradients(&layer, None, OptionGradients::default(), &AttentionConfig::new()).unwrap()
    };
    let (whole, split) = (gradients(own), gradients(Run { memory: Some(&input), ..own }));
    let sum = split.d_input.iter().zip(split.d_memory.as_ref().unwrap());
    let sum: Vec<f64> = sum.map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
    assert_close("d_input", &whole.d_input, &sum, 1e-5);
    assert_eq!(whole.d_memory, None);
    let split_key: Vec<f64> = split.key.d_weight.iter().map(|&d| f64::from(d)).collect();
    assert_close("key.weight", &whole.key.d_weight, &split_key, 1e-5);
}

#[test]
fn backward__thread_counts__give_the_same_bits() {
    let mut rng = Rng::with_seed(6);
    let layers = [96, 80].map(|kv_model_dim| {
        let mut part = |inputs| linear(&mut rng, inputs, 96, true);
        MultiHeadAttention::new(part(96), part(kv_model_dim), part(kv_model_dim), part(96), [6, 6]).unwrap()
    });
    let (input, memory) = (random(&mut rng, 3 * 200 * 96), random(&mut rng, 3 * 150 * 80));
    let d_output = random(&mut rng, 3 * 200 * 96);
    let own = Run { input: &input, memory: None, size: [3, 200, 200], d_output: &d_output };
    let cross = Run { memory: Some(&memory), size: [3, 200, 150], ..own };
    for (layer, run) in layers.iter().zip([own, cross]) {
        let all = |parallelism| {
            let config = AttentionConfig::new().with_parallelism(parallelism);
            let found = run.gradients(layer, None, OptionGradients::default(), &config).unwrap();
            let inputs = found.d_input.iter().chain(found.d_memory.iter().flatten());
            bits(inputs.chain(found.parameters().iter().flat_map(|(_, part)| part.iter())))
        };
        let alone = all(Parallelism::Sequential);
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let parallelism = Parallelism::Threads(threads.try_into().unwrap());
            assert!(pool.install(|| all(parallelism)) == alone, "{threads} threads");
        }
    }
}

#[test]
fn backward__empty_batches_and_sequences__have_zero_gradients() {
    let mut rng = Rng::with_seed(9);
    let mut part = |inputs| linear(&mut rng, inputs, 8, true);
    let layer = MultiHeadAttention::new(part(8), part(6), part(6), part(8), [2, 2]).unwrap();
    for size in [[0, 3, 2], [2, 0, 3], [2, 3, 0]] {
        let [batch, seq_q, seq_kv] = size;
        let (input, memory) = (vec![1.0; batch * seq_q * 8], vec![1.0; batch * seq_kv * 6]);
        let d_output = vec![1.0; batch * seq_q * 8];
        let run = Run { input: &input, memory: Some(&memory), size, d_output: &d_output };
        let found = run.gradients(&layer, None, OptionGradients::default(), &AttentionConfig::new()).unwrap();
        assert!(found.d_input.iter().chain(found.d_memory.iter().flatten()).all(|&d| d == 0.0), "{size:?}");
        assert!(found.query.d_weight.iter().all(|&d| d == 0.0), "{size:?}");
        let rows = (batch * seq_q) as f32;
        assert_eq!(found.output.d_bias, Some(vec![rows; 8]), "{size:?}");
    }
}

#[test]
fn backward__lengths_that_do_not_fit__are_typed_errors() {
    let mut rng = Rng::with_seed(10);
    let mut layer = |kv_model_dim, kv_heads: usize| {
        let mut part = |inputs, outputs| linear(&mut rng, inputs, outputs, true);
        let kv_len = kv_heads * 2;
        let (key, value) = (part(kv_model_dim, kv_len), part(kv_model_dim, kv_len));
        MultiHeadAttention::new(part(8, 8), key, value, part(8, 5), [4, kv_heads]).unwrap()
    };
    let (own, grouped, apart) = (layer(8, 4), layer(8, 2), layer(6, 4));
    let config = AttentionConfig::new();
    let (input, memory, d_output) = ([0.5; 3 * 8], [0.5; 2 * 6], [0.5; 3 * 5]);
    let mut workspace = Workspace::new();
    let projection = own.project(&input, [1, 3], config.parallelism).unwrap();
    let attended = projection.attend(&config, &mut workspace).unwrap();
    let pass = ForwardPass { input: &input, memory: None, projection: &projection, attended: &attended };
    let mut refused = |layer: &MultiHeadAttention, pass, d_output: &[f32], config: &AttentionConfig<'_>| {
        let mut sinks = [f32::NAN; 4];
        let options =
            OptionGradients { d_sinks: config.sinks.map(|_| &mut sinks[..]), ..OptionGradients::default() };
        let error = layer.backward(pass, d_output, options, config, &mut workspace).unwrap_err();
        assert!(sinks.iter().all(|sink| sink.is_nan()), "refused before anything is written");
        error.to_string()
    };
    let mut with = |pass, d_output: &[f32]| refused(&own, pass, d_output, &config.with_sinks(&[0.0; 4]));
    assert_eq!(with(pass, &d_output[1..]), "d_output.len: expected size 15, found 14");
    assert_eq!(
        with(ForwardPass { input: &input[1..], ..pass }, &d_output),
        "input.len: expected size 24, found 23"
    );
    assert_eq!(
        with(ForwardPass { memory: Some(&memory), ..pass }, &d_output),
        "memory.len: expected size 24, found 12"
    );
    let longer = own.project(&[0.5; 4 * 8], [1, 4], config.parallelism).unwrap();
    assert_eq!(
        with(ForwardPass { projection: &longer, ..pass }, &d_output),
        "attended.seq_len_q: expected size 4, found 3"
    );
    assert_eq!(
        refused(&grouped, pass, &d_output, &config),
        "projection.num_kv_heads: expected size 2, found 4"
    );
    // Self-attention is not what this layer does: its keys are read from rows of 6.
    assert_eq!(refused(&apart, pass, &d_output, &config), "input.len: expected size 18, found 24");
    let sinks = [0.0; 3];
    assert_eq!(
        refused(&own, pass, &d_output, &config.with_sinks(&sinks)),
        "sinks.len: expected size 4, found 3"
    );
    let mut d_sinks = [0.0; 4];
    let options = OptionGradients { d_sinks: Some(&mut d_sinks), ..OptionGradients::default() };
    let error = own.backward(pass, &d_output, options, &config, &mut workspace).unwrap_err();
    assert_eq!(error, AttentionError::MissingOption { option: "sinks" });
}
