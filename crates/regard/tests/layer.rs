//! Layers and positions against PyTorch's and the papers' numbers, and what they do to order.
#![allow(non_snake_case)]

use fastrand::Rng;
use regard::layer::{Linear, MultiHeadAttention};
use regard::position::{LearnedPositions, RotaryPairs, RotaryPositions, SinusoidalPositions};
use regard::{AttentionConfig, AttentionError, Mask, Parallelism, QueryPosition};
use regard_testkit::{Golden, assert_close};

fn layer(golden: &Golden) -> MultiHeadAttention {
    let heads = golden.numbers("num_heads")[0] as usize;
    MultiHeadAttention::from_safetensors(&golden.tensors(), "", [heads, heads]).unwrap()
}

fn size(golden: &Golden, tensor: &str) -> [usize; 2] {
    let shape = golden.shape(tensor);
    [shape[0], shape[1]]
}

#[test]
fn multi_head_attention__pytorch_goldens__agree() {
    let lengths: Vec<usize> = Golden::open("layer/key_padding.safetensors")
        .numbers("key_lengths")
        .iter()
        .map(|&n| n as usize)
        .collect();
    let plain = AttentionConfig::new();
    for (name, config) in [
        ("self_attention", plain),
        ("self_attention_no_bias", plain),
        ("causal", plain.with_mask(Mask::causal(QueryPosition::TopLeft))),
        ("key_padding", plain.with_mask(Mask::default().with_key_lengths(&lengths))),
    ] {
        let golden = Golden::open(&format!("layer/{name}.safetensors"));
        let output = layer(&golden).forward(&golden.f32s("query"), size(&golden, "query"), &config).unwrap();
        assert_close(name, &output, &golden.numbers("output"), 2e-6);
    }
    for name in ["cross_attention", "cross_attention_kdim"] {
        let golden = Golden::open(&format!("layer/{name}.safetensors"));
        let [batch, seq_len_q] = size(&golden, "query");
        let sizes = [batch, seq_len_q, size(&golden, "key")[1]];
        let (input, memory) = (golden.f32s("query"), golden.f32s("key"));
        assert_eq!(memory, golden.f32s("value"), "the layer reads keys and values from one memory");
        let output = layer(&golden).forward_cross(&input, &memory, sizes, &plain).unwrap();
        assert_close(name, &output, &golden.numbers("output"), 2e-6);
    }
}

#[test]
fn multi_head_attention__keys_of_another_size__project_apart() {
    let mut rng = Rng::with_seed(1);
    let mut linear = |inputs: usize, outputs: usize| {
        let weight = (0..inputs * outputs).map(|_| rng.f32() - 0.5).collect();
        Linear::new(weight, Some((0..outputs).map(|_| rng.f32()).collect()), inputs, outputs).unwrap()
    };
    // 4 query heads of 6 over 2 key heads; values of 5; keys and values read rows of 7.
    let (query, key, value, output) = (linear(8, 24), linear(7, 12), linear(7, 10), linear(20, 3));
    let layer =
        MultiHeadAttention::new(query.clone(), key.clone(), value.clone(), output.clone(), [4, 2]).unwrap();
    let input: Vec<f32> = (0..2 * 3 * 8).map(|i| (i as f32).sin()).collect();
    let memory: Vec<f32> = (0..2 * 5 * 7).map(|i| (i as f32).cos()).collect();
    let found = layer.forward_cross(&input, &memory, [2, 3, 5], &AttentionConfig::new()).unwrap();

    let project = |linear: &Linear, rows: &[f32]| -> Vec<f32> {
        let mut output = vec![0.0; rows.len() / linear.in_features() * linear.out_features()];
        linear.forward(rows, &mut output, Parallelism::Sequential).unwrap();
        output
    };
    let (q, k, v) = (project(&query, &input), project(&key, &memory), project(&value, &memory));
    let mut heads = vec![0.0f32; 2 * 3 * 20];
    for (b, h, i) in (0..2).flat_map(|b| (0..4).flat_map(move |h| (0..3).map(move |i| (b, h, i)))) {
        let at = |data: &[f32], row: usize, width: usize, head: usize, dim: usize| {
            data[row * width + head * dim..][..dim].to_vec()
        };
        let query = at(&q, b * 3 + i, 24, h, 6);
        let scores: Vec<f64> = (0..5)
            .map(|j| {
                let key = at(&k, b * 5 + j, 12, h / 2, 6);
                query.iter().zip(&key).map(|(q, k)| f64::from(q * k)).sum::<f64>() / 6f64.sqrt()
            })
            .collect();
        let total: f64 = scores.iter().map(|s| s.exp()).sum();
        for (j, score) in scores.iter().enumerate() {
            for (c, value) in at(&v, b * 5 + j, 10, h / 2, 5).into_iter().enumerate() {
                heads[(b * 3 + i) * 20 + h * 5 + c] += (score.exp() / total) as f32 * value;
            }
        }
    }
    let expected: Vec<f64> = project(&output, &heads).into_iter().map(f64::from).collect();
    assert_close("grouped cross-attention", &found, &expected, 1e-5);
}

#[test]
fn multi_head_attention__thread_counts__give_the_same_bits() {
    let mut rng = Rng::with_seed(2);
    let mut linear = || {
        let weight = (0..96 * 96).map(|_| (rng.f32() - 0.5) / 5.0).collect();
        Linear::new(weight, None, 96, 96).unwrap()
    };
    let layer = MultiHeadAttention::new(linear(), linear(), linear(), linear(), [6, 6]).unwrap();
    let input: Vec<f32> = (0..3 * 200 * 96).map(|i| (i as f32 * 0.1).sin()).collect();
    let run = |parallelism| {
        let config = AttentionConfig::new().with_parallelism(parallelism);
        layer.forward(&input, [3, 200], &config).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let alone = run(Parallelism::Sequential);
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let parallelism = Parallelism::Threads(threads.try_into().unwrap());
        assert_eq!(pool.install(|| run(parallelism)), alone, "{threads} threads");
    }
}

/// Attention without positions gives a permuted output for a permuted input: it is blind to order.
#[test]
fn attention__without_positions__is_permutation_equivariant_and_with_them_it_is_not() {
    let golden = Golden::open("layer/self_attention.safetensors");
    let (layer, [batch, seq]) = (layer(&golden), size(&golden, "query"));
    let model_dim = golden.shape("query")[2];
    let input = golden.f32s("query");
    let permutation = [3, 0, 6, 1, 5, 2, 4];
    let permute = |rows: &[f32]| -> Vec<f32> {
        let at = |b: usize, i: usize| &rows[(b * seq + i) * model_dim..][..model_dim];
        (0..batch).flat_map(|b| permutation.iter().flat_map(move |&i| at(b, i))).copied().collect()
    };
    let difference = |encode: &dyn Fn(&mut Vec<f32>), rotary: Option<&RotaryPositions>| {
        let run = |mut rows: Vec<f32>| {
            encode(&mut rows);
            let mut projection = layer.project(&rows, [batch, seq], Parallelism::Sequential).unwrap();
            if let Some(rotary) = rotary {
                projection.rotate(rotary, [0, 0]).unwrap();
            }
            let attended = projection.attend(&AttentionConfig::new(), &mut regard::Workspace::new()).unwrap();
            layer.project_output(&attended, Parallelism::Sequential).unwrap()
        };
        let (permuted_output, output_of_permuted) = (permute(&run(input.clone())), run(permute(&input)));
        let pairs = permuted_output.iter().zip(&output_of_permuted);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max)
    };
    let table = (0..seq * model_dim).map(|i| (i as f32 * 0.37).sin()).collect();
    let learned = LearnedPositions::new(table, seq, model_dim).unwrap();
    let head_dim = layer.head_dim();
    let rotary = RotaryPositions::new(head_dim, head_dim, 10_000.0, RotaryPairs::HalfSplit).unwrap();
    let nothing = |_: &mut Vec<f32>| {};
    assert!(difference(&nothing, None) < 1e-5);
    let sinusoidal = SinusoidalPositions::new(model_dim);
    assert!(difference(&|rows| sinusoidal.add_to(rows, [batch, seq], 0).unwrap(), None) > 1e-2);
    assert!(difference(&|rows| learned.add_to(rows, [batch, seq], 0).unwrap(), None) > 1e-2);
    assert!(difference(&nothing, Some(&rotary)) > 1e-2);
}

#[test]
fn rotary__both_pairings_and_an_offset__agree_with_the_formula() {
    let golden = Golden::open("layer/rotary.safetensors");
    let input = golden.f32s("input");
    for (name, pairs) in [("half_split", RotaryPairs::HalfSplit), ("interleaved", RotaryPairs::Interleaved)] {
        let rotary = RotaryPositions::new(8, 8, 10_000.0, pairs).unwrap();
        for offset in [0, 100] {
            let mut rows = input.clone();
            rows.chunks_exact_mut(8).enumerate().for_each(|(p, row)| rotary.at(p + offset).apply(row));
            let expected = golden.numbers(&format!("{name}.offset{offset}"));
            assert_close(&format!("{name} at {offset}"), &rows, &expected, 1e-6);
        }
    }
}

#[test]
fn rotary__scores__depend_on_the_distance_alone_and_norms_stay() {
    let rotary = RotaryPositions::new(16, 12, 10_000.0, RotaryPairs::Interleaved).unwrap();
    let row = |seed: f32| (0..16).map(|i| (i as f32 + seed).sin()).collect::<Vec<f32>>();
    let at = |position: usize, mut row: Vec<f32>| {
        rotary.at(position).apply(&mut row);
        row
    };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let near = dot(&at(5, row(0.3)), &at(2, row(0.9)));
    let far = dot(&at(1005, row(0.3)), &at(1002, row(0.9)));
    assert!((near - far).abs() < 1e-5, "{near} {far}");
    let turned = at(77, row(0.3));
    assert!((dot(&turned, &turned) - dot(&row(0.3), &row(0.3))).abs() < 1e-5);
    assert_eq!(turned[12..], row(0.3)[12..]);
    assert!(RotaryPositions::new(16, 7, 10_000.0, RotaryPairs::HalfSplit).is_err());
    assert!(RotaryPositions::new(16, 18, 10_000.0, RotaryPairs::HalfSplit).is_err());
    assert!(RotaryPositions::new(16, 16, f32::NAN, RotaryPairs::HalfSplit).is_err());
}

#[test]
fn sinusoidal__formula_of_the_paper__agrees() {
    let golden = Golden::open("layer/sinusoidal.safetensors");
    let [positions, model_dim] = size(&golden, "positions");
    let mut rows = vec![0.0; positions * model_dim];
    SinusoidalPositions::new(model_dim).add_to(&mut rows, [1, positions], 0).unwrap();
    assert_close("sinusoidal", &rows, &golden.numbers("positions"), 1e-7);
}

#[test]
fn learned__position_beyond_the_table__is_an_error() {
    let learned = LearnedPositions::new(vec![1.0; 4 * 3], 4, 3).unwrap();
    let mut rows = vec![0.5; 2 * 3 * 3];
    learned.add_to(&mut rows, [2, 3], 1).unwrap();
    assert!(rows.iter().all(|&x| x == 1.5));
    let error = learned.add_to(&mut rows, [2, 3], 2).unwrap_err();
    assert_eq!(error, AttentionError::OutOfBounds { what: "positions", needed: 5, found: 4 });
}

#[test]
fn layer__sizes_that_do_not_fit__are_typed_errors() {
    let linear = |i: usize, o: usize| Linear::new(vec![0.0; i * o], None, i, o).unwrap();
    let new = |q, k, v, o, heads| MultiHeadAttention::new(q, k, v, o, heads).unwrap_err().to_string();
    assert_eq!(
        new(linear(8, 10), linear(8, 8), linear(8, 8), linear(8, 8), [4, 4]),
        "cannot divide query.out_features by num_heads: 10 is not a multiple of 4"
    );
    assert_eq!(
        new(linear(8, 8), linear(8, 6), linear(8, 8), linear(8, 8), [4, 4]),
        "key.out_features: expected size 8, found 6"
    );
    assert!(new(linear(8, 8), linear(8, 8), linear(8, 8), linear(8, 8), [0, 0]).contains("num_heads"));
    assert_eq!(
        new(linear(8, 8), linear(8, 6), linear(8, 6), linear(8, 8), [4, 3]),
        "num_kv_heads must divide num_heads: found 3 kv heads for 4 query heads"
    );
    assert!(Linear::new(vec![0.0; 5], None, 2, 3).is_err());
    let layer =
        MultiHeadAttention::new(linear(8, 8), linear(8, 8), linear(8, 8), linear(8, 8), [2, 2]).unwrap();
    let error = layer.forward(&[0.0; 23], [1, 3], &AttentionConfig::new()).unwrap_err();
    assert_eq!(error, AttentionError::ShapeMismatch { axis: "input.len", expected: 24, found: 23 });
}

#[test]
fn safetensors__missing_or_wrong_weights__are_named() {
    let golden = Golden::open("layer/self_attention.safetensors");
    let tensors = golden.tensors();
    let error = MultiHeadAttention::from_safetensors(&tensors, "encoder.", [4, 4]).unwrap_err();
    assert!(error.to_string().starts_with("weight encoder.out_proj.weight:"), "{error}");
    let error = Linear::from_safetensors(&tensors, "query").unwrap_err();
    assert!(error.to_string().starts_with("weight query.weight:"), "{error}");
}

fn file(tensors: &[(&str, &[usize], Vec<f32>)], half: Option<safetensors::Dtype>) -> Vec<u8> {
    let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, numbers)| {
            let bytes = match half {
                Some(safetensors::Dtype::F16) => {
                    numbers.iter().flat_map(|&x| regard::f16::from_f32(x).to_bits().to_le_bytes()).collect()
                }
                Some(_) => {
                    numbers.iter().flat_map(|&x| regard::bf16::from_f32(x).to_bits().to_le_bytes()).collect()
                }
                None => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            (*name, shape.to_vec(), bytes)
        })
        .collect();
    let dtype = half.unwrap_or(safetensors::Dtype::F32);
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (*name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn safetensors__projections_by_name_and_type__are_the_layer_from_slices() {
    // Small multiples of 1/8 are exact in f16 and bf16.
    let numbers =
        |seed: usize| (0..36).map(|i| ((i * 7 + seed * 5) % 13) as f32 / 8.0 - 0.75).collect::<Vec<_>>();
    let bias = vec![0.5, -0.25, 0.0, 0.125, 1.0, -1.0];
    let tensors: Vec<(&str, &[usize], Vec<f32>)> = vec![
        ("a.q_proj.weight", &[6, 6], numbers(1)),
        ("a.k_proj.weight", &[6, 6], numbers(2)),
        ("a.v_proj.weight", &[6, 6], numbers(3)),
        ("a.v_proj.bias", &[6], bias.clone()),
        ("a.o_proj.weight", &[6, 6], numbers(4)),
    ];
    let linear = |seed, bias| Linear::new(numbers(seed), bias, 6, 6).unwrap();
    // Values alone have a bias: where projections are stacked, the others' stays 0.
    let layer = MultiHeadAttention::new(
        linear(1, None),
        linear(2, None),
        linear(3, Some(bias)),
        linear(4, None),
        [2, 2],
    )
    .unwrap();
    let input: Vec<f32> = (0..4 * 6).map(|i| (i as f32).sin()).collect();
    let expected = layer.forward(&input, [1, 4], &AttentionConfig::new()).unwrap();
    for half in [None, Some(safetensors::Dtype::F16), Some(safetensors::Dtype::BF16)] {
        let bytes = file(&tensors, half);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let loaded = MultiHeadAttention::from_safetensors(&file, "a.", [2, 2]).unwrap();
        assert_eq!(loaded.forward(&input, [1, 4], &AttentionConfig::new()).unwrap(), expected, "{half:?}");
    }
    let unbiased =
        MultiHeadAttention::new(linear(1, None), linear(2, None), linear(3, None), linear(4, None), [2, 2]);
    let key = |layer: &MultiHeadAttention| {
        let projection = layer.project(&input, [1, 4], Parallelism::Sequential).unwrap();
        (0..4).map(|i| projection.key().at([0, 1, i, 2])).collect::<Vec<_>>()
    };
    assert_eq!(key(&layer), key(&unbiased.unwrap()));
}

#[test]
fn positions__that_start_later__are_the_later_ones() {
    let mut all = vec![0.0; 5 * 6];
    SinusoidalPositions::new(6).add_to(&mut all, [1, 5], 0).unwrap();
    let mut later = vec![0.0; 2 * 6];
    SinusoidalPositions::new(6).add_to(&mut later, [1, 2], 3).unwrap();
    assert_eq!(later, all[18..]);
    SinusoidalPositions::new(6).add_to(&mut later, [1, 2], usize::MAX).unwrap();

    let linear = || Linear::new((0..64).map(|i| (i as f32 * 0.3).cos()).collect(), None, 8, 8).unwrap();
    let layer = MultiHeadAttention::new(linear(), linear(), linear(), linear(), [1, 1]).unwrap();
    let rotary = RotaryPositions::new(8, 8, 10_000.0, RotaryPairs::HalfSplit).unwrap();
    let input: Vec<f32> = (0..8).map(|i| i as f32 / 8.0).collect();
    let mut projection = layer.project(&input, [1, 1], Parallelism::Sequential).unwrap();
    let mut expected: Vec<f32> = (0..8).map(|c| projection.key().at([0, 0, 0, c])).collect();
    rotary.at(7).apply(&mut expected);
    projection.rotate(&rotary, [3, 7]).unwrap();
    assert_eq!((0..8).map(|c| projection.key().at([0, 0, 0, c])).collect::<Vec<_>>(), expected);
}

#[test]
fn attended__log_sum_exp__is_the_kernels() {
    let golden = Golden::open("layer/self_attention.safetensors");
    let (layer, size) = (layer(&golden), size(&golden, "query"));
    let projection = layer.project(&golden.f32s("query"), size, Parallelism::Sequential).unwrap();
    let config = AttentionConfig::new();
    let attended = projection.attend(&config, &mut regard::Workspace::new()).unwrap();
    let (query, key, value) = (projection.query(), projection.key(), projection.value());
    let truth = regard::reference::Reference::<f64>::new(query, key, value, &config).unwrap().forward();
    assert_close("log_sum_exp", attended.log_sum_exp(), &truth.log_sum_exp, 1e-5);
}

#[test]
fn multi_head_attention__values_without_elements__give_the_output_bias() {
    let (query, key) =
        (Linear::new(vec![0.5; 8], None, 2, 4).unwrap(), Linear::new(vec![0.5; 8], None, 2, 4).unwrap());
    let value = Linear::new(vec![], None, 2, 0).unwrap();
    let output = Linear::new(vec![], Some(vec![3.0, 4.0]), 0, 2).unwrap();
    let layer = MultiHeadAttention::new(query, key, value, output, [2, 2]).unwrap();
    let output = layer.forward(&[1.0; 6], [1, 3], &AttentionConfig::new()).unwrap();
    assert_eq!(output, [3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn safetensors__pytorchs_names__are_the_layer_from_slices() {
    let numbers = |len: usize, seed: usize| {
        (0..len).map(|i| ((i * 7 + seed * 5) % 13) as f32 / 8.0 - 0.75).collect::<Vec<_>>()
    };
    let linear = |inputs, seed, bias| Linear::new(numbers(inputs * 6, seed), bias, inputs, 6).unwrap();
    let bias = numbers(18, 5);
    let part = |i: usize| Some(bias[i * 6..][..6].to_vec());
    let layer = |kv_dim: usize| {
        let (query, key, value) =
            (linear(6, 1, part(0)), linear(kv_dim, 2, part(1)), linear(kv_dim, 3, part(2)));
        MultiHeadAttention::new(query, key, value, linear(6, 4, None), [3, 3]).unwrap()
    };
    let load = |tensors: &[(&str, &[usize], Vec<f32>)]| {
        let bytes = file(tensors, None);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        MultiHeadAttention::from_safetensors(&file, "attn.", [3, 3])
    };
    let stacked = [numbers(36, 1), numbers(36, 2), numbers(36, 3)].concat();
    let together: Vec<(&str, &[usize], Vec<f32>)> = vec![
        ("attn.in_proj_weight", &[18, 6], stacked),
        ("attn.in_proj_bias", &[18], bias.clone()),
        ("attn.out_proj.weight", &[6, 6], numbers(36, 4)),
    ];
    assert_eq!(load(&together).unwrap(), layer(6));

    // kdim = vdim = 4: three weights, one bias.
    let mut apart: Vec<(&str, &[usize], Vec<f32>)> = vec![
        ("attn.q_proj_weight", &[6, 6], numbers(36, 1)),
        ("attn.k_proj_weight", &[6, 4], numbers(24, 2)),
        ("attn.v_proj_weight", &[6, 4], numbers(24, 3)),
        ("attn.in_proj_bias", &[18], bias.clone()),
        ("attn.out_proj.weight", &[6, 6], numbers(36, 4)),
    ];
    let found = load(&apart).unwrap();
    assert_eq!(found, layer(4));
    assert_eq!((found.model_dim(), found.kv_model_dim(), found.value_head_dim()), (6, 4, 2));

    apart[3] = ("attn.in_proj_bias", &[17], numbers(17, 5));
    let error = load(&apart).unwrap_err().to_string();
    assert_eq!(error, "weight attn.in_proj_bias: expected shape [18], found [17]");
    let error = load(&[&apart[..2], &apart[4..]].concat()).unwrap_err().to_string();
    assert!(error.starts_with("weight attn.v_proj_weight:"), "{error}");

    // A key and value without a position would change every output: they must not be ignored.
    for name in ["attn.bias_k", "attn.bias_v"] {
        let with_bias = [&together[..], &[(name, &[1, 1, 6][..], numbers(6, 6))]].concat();
        let error = load(&with_bias).unwrap_err();
        assert!(matches!(&error, AttentionError::Weight { name: found, .. } if found == name), "{error}");
    }
}
