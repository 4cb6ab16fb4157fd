//! Interventions, explanations, rollout and ablation against dense arithmetic in f64, on the tiny models.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::golden::{TinyGolden, load_minilm, max_abs_difference};
use common::tiny::{TempDir, TinyBert};
use common::{NoObserver, tiny};
use regard_lens::evidence::{
    AblationRequest, Compared, MeasuredBy, Replacement, ablate, align, compare, explain, rollout,
};
use regard_lens::view::HeadId;
use regard_lens::{
    AttentionObserver, Change, Interventions, LayerAttention, LensError, Model, TokenizedText,
};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// Layouts with every kind of block, position, scale and head.
const LAYOUTS: [&str; 7] = ["bert", "distilbert", "roberta", "gpt2", "gpt2_scaled", "llama", "llama_yarn"];

const ZERO: AblationRequest<'static> =
    AblationRequest { with: Replacement::Zero, keep_patterns: false, max_masked: 100 };

fn open(name: &str) -> (Model, TokenizedText, TinyGolden) {
    let (model, golden) = (TinyGolden::load_model(name), TinyGolden::open(name));
    let tokens = model.tokenize(&golden.text).unwrap();
    (model, tokens, golden)
}

fn head(name: &str) -> HeadId {
    name.parse().unwrap()
}

/// The model's directory again, with one head's part of the output projection set to 0 in the weight file.
fn with_zeroed_columns(name: &str, id: HeadId, heads: usize) -> TempDir {
    let (from, dir) = (TinyGolden::dir(name), TempDir::new());
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
    let of_layer = format!(".{}.", id.layer);
    let ends = [
        "attention.output.dense.weight",
        "attention.out_lin.weight",
        "attn.c_proj.weight",
        "self_attn.o_proj.weight",
    ];
    let is_projection = |name: &str| name.contains(&of_layer) && ends.iter().any(|end| name.ends_with(end));
    let mut changed = 0;
    let tensors: Vec<(String, Vec<u8>, safetensors::Dtype, Vec<usize>)> = names
        .iter()
        .map(|name| {
            let tensor = file.tensor(name).unwrap();
            let (mut data, shape) = (tensor.data().to_vec(), tensor.shape().to_vec());
            if is_projection(name) {
                changed += 1;
                // GPT-2 stores what the other layouts do, transposed.
                let transposed = name.ends_with("c_proj.weight");
                let inputs = if transposed { shape[0] } else { shape[1] };
                let slot = id.head * inputs / heads..(id.head + 1) * inputs / heads;
                let bytes = data.len() / shape.iter().product::<usize>();
                for (i, number) in data.chunks_exact_mut(bytes).enumerate() {
                    let input = if transposed { i / shape[1] } else { i % shape[1] };
                    if slot.contains(&input) {
                        number.fill(0);
                    }
                }
            }
            (name.clone(), data, tensor.dtype(), shape)
        })
        .collect();
    assert_eq!(changed, 1, "{names:?}");
    let views = tensors
        .iter()
        .map(|(name, data, dtype, shape)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    dir
}

#[test]
fn zero__any_layout__equals_zeroing_the_output_projections_columns() {
    for name in LAYOUTS {
        let (model, tokens, _) = open(name);
        for id in [head("L0.H1"), HeadId { layer: model.info().layers - 1, head: 0 }] {
            let dir = with_zeroed_columns(name, id, model.info().heads);
            let expected = Model::load(dir.path()).unwrap().run(&tokens, &mut NoObserver).unwrap();
            let without = Interventions::without(&[id]);
            let found = model.run_with(&tokens, &without, &mut NoObserver).unwrap();
            let plain = model.run(&tokens, &mut NoObserver).unwrap();
            let error = max_abs_difference(&found.data, &expected.data);
            assert!(error <= 1e-6, "{name} {id}: {error}");
            assert!(max_abs_difference(&found.data, &plain.data) > 1e-3, "{name} {id}: it matters");
        }
    }
}

#[test]
fn interventions__none__change_no_bit() {
    for name in LAYOUTS {
        let (model, tokens, _) = open(name);
        let plain = model.run(&tokens, &mut NoObserver).unwrap();
        assert_eq!(model.run_with(&tokens, &Interventions::new(), &mut NoObserver).unwrap(), plain);
    }
}

#[test]
fn frozen__its_own_pattern__changes_nothing_but_rounding_and_of_another_text_does() {
    for name in LAYOUTS {
        let (model, tokens, _) = open(name);
        let plain = model.run(&tokens, &mut NoObserver).unwrap();
        let id = head("L1.H0");
        let own = model.pattern(&tokens, id).unwrap();
        let same = Interventions::new().with(id, Change::Frozen(own));
        let found = model.run_with(&tokens, &same, &mut NoObserver).unwrap();
        let error = max_abs_difference(&found.data, &plain.data);
        assert!(error <= 2e-5, "{name}: {error}");

        let mut other = tokens.clone();
        let ids: Vec<u32> = other.tokens.iter().rev().map(|token| token.id).collect();
        other.tokens.iter_mut().zip(ids).for_each(|(token, id)| token.id = id);
        let pattern = model.pattern(&other, id).unwrap();
        let frozen = Interventions::new().with(id, Change::Frozen(pattern.clone()));
        let found = model.run_with(&tokens, &frozen, &mut NoObserver).unwrap();
        assert!(max_abs_difference(&found.data, &plain.data) > 1e-4, "{name}");

        let mut shorter = tokens.clone();
        shorter.tokens.pop();
        let error = model.run_with(&shorter, &frozen, &mut NoObserver).unwrap_err();
        assert!(matches!(error, LensError::PatternLength { expected, found, .. } if expected + 1 == found));
    }
}

#[test]
fn interventions__head_outside_the_model__are_refused() {
    let (model, tokens, _) = open("llama");
    for id in [HeadId { layer: usize::MAX, head: 0 }, HeadId { layer: 0, head: 99 }] {
        let error = model.run_with(&tokens, &Interventions::without(&[id]), &mut NoObserver).unwrap_err();
        assert!(matches!(error, LensError::NoSuchHead { .. }), "{error}");
        assert!(matches!(model.pattern(&tokens, id), Err(LensError::NoSuchHead { .. })));
        assert!(matches!(explain(&model, &tokens, id, 0), Err(LensError::NoSuchHead { .. })));
    }
}

/// The head's output of every row of one layer, in f64 as it stands, and the projection's weight.
struct Layer {
    layer: usize,
    /// `[heads, tokens, value_dim]`.
    output: Vec<f64>,
    /// `[kv_heads, tokens, value_dim]`.
    value: Vec<f64>,
    sizes: [usize; 4],
    weight: Vec<f64>,
    bias: Option<Vec<f32>>,
}

impl AttentionObserver for Layer {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        if attention.layer == self.layer {
            let [_, heads, tokens, dim] = attention.output.shape();
            let kv_heads = attention.value.shape()[1];
            self.sizes = [heads, kv_heads, tokens, dim];
            let place = |i: usize| [0, i / (tokens * dim), i / dim % tokens, i % dim];
            self.output = (0..heads * tokens * dim).map(|i| attention.output.at(place(i)).into()).collect();
            self.value = (0..kv_heads * tokens * dim).map(|i| attention.value.at(place(i)).into()).collect();
            self.weight = attention.output_projection.weight().iter().map(|&w| w.into()).collect();
            self.bias = attention.output_projection.bias().map(<[f32]>::to_vec);
        }
        Ok(())
    }
}

#[test]
fn explain__every_head_and_row__agrees_with_hugging_face_and_dense_arithmetic() {
    for name in LAYOUTS {
        let (model, tokens, golden) = open(name);
        let (n, heads) = (tokens.tokens.len(), model.info().heads);
        for layer in 0..model.info().layers {
            let expected = golden.tensor(&format!("probs.{layer}"));
            let mut dense =
                Layer { layer, output: vec![], value: vec![], sizes: [0; 4], weight: vec![], bias: None };
            model.run(&tokens, &mut dense).unwrap();
            let [_, kv_heads, _, dim] = dense.sizes;
            let inputs = heads * dim;
            for query in [0, n / 2, n - 1] {
                let mut shares = 0.0;
                for head in 0..heads {
                    let found = explain(&model, &tokens, HeadId { layer, head }, query).unwrap();
                    let row = &expected[(head * n + query) * n..][..n];
                    assert!(found.probs_error < 1e-6 && found.log_sum_exp_error < 1e-5, "{name} {found:?}");
                    assert_eq!(found.slot, head * dim..(head + 1) * dim);
                    let mut sum = 0.0;
                    for (key, expected) in found.keys.iter().zip(row) {
                        let Some(seen) = key.seen else {
                            assert!(model.info().causal && key.key > query && key.kernel_prob == 0.0);
                            continue;
                        };
                        assert!((seen.prob - f64::from(*expected)).abs() <= 1e-5, "{name}");
                        assert!((seen.score - seen.dot * found.softmax_scale).abs() < 1e-12);
                        assert!((seen.exp - (seen.score - found.max_score).exp()).abs() < 1e-12);
                        let value = &dense.value[(head / (heads / kv_heads) * n + key.key) * dim..][..dim];
                        let size = projected(&dense.weight, inputs, head * dim, value);
                        assert!((seen.value_size - length(&size)).abs() < 1e-9);
                        assert!((seen.added - seen.prob * length(&size)).abs() < 1e-9);
                        sum += seen.prob;
                    }
                    assert!((sum - 1.0).abs() < 1e-12);
                    let output = &dense.output[(head * n + query) * dim..][..dim];
                    let adds = length(&projected(&dense.weight, inputs, head * dim, output));
                    assert!((found.head_size - adds).abs() < 1e-5, "{name}: {} {adds}", found.head_size);
                    shares += found.share.unwrap();
                }
                if dense.bias.is_none() {
                    assert!((shares - 1.0).abs() < 1e-5, "{name}: {shares}");
                }
            }
        }
        let error = explain(&model, &tokens, head("L0.H0"), n).unwrap_err();
        assert!(matches!(error, LensError::Attention(_)), "{error}");
    }
}

fn projected(weight: &[f64], inputs: usize, slot: usize, numbers: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| numbers.iter().enumerate().map(|(i, x)| row[slot + i] * x).sum();
    weight.chunks(inputs).map(row).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn rollout__every_token__equals_the_dense_product() {
    for name in LAYOUTS {
        let (model, tokens, golden) = open(name);
        let (n, heads, layers) = (tokens.tokens.len(), model.info().heads, model.info().layers);
        // R = Â_L · … · Â_1, all of it.
        let mean = |layer: usize| -> Vec<f64> {
            let probs = golden.tensor(&format!("probs.{layer}"));
            let at = |i: usize| (0..heads).map(|head| f64::from(probs[head * n * n + i])).sum::<f64>();
            (0..n * n).map(|i| at(i) / heads as f64).collect()
        };
        let identity = |i: usize| if i / n == i % n { 1.0 } else { 0.0 };
        let mut product: Vec<f64> = (0..n * n).map(identity).collect();
        for layer in 0..layers {
            let attention = mean(layer);
            let mixed: Vec<f64> = (0..n * n).map(|i| 0.5 * attention[i] + 0.5 * identity(i)).collect();
            let cell = |i: usize| (0..n).map(|k| mixed[i / n * n + k] * product[k * n + i % n]).sum();
            product = (0..n * n).map(cell).collect();
        }
        let last = mean(layers - 1);
        for token in 0..n {
            let found = rollout(&model, &tokens, token).unwrap();
            for key in 0..n {
                assert!((found.mass[key] - product[token * n + key]).abs() < 1e-5, "{name} {token} {key}");
                assert!((found.last_layer[key] - last[token * n + key]).abs() < 1e-5);
            }
            assert!((found.mass.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        }
        assert!(matches!(rollout(&model, &tokens, n), Err(LensError::Attention(_))));
    }
}

fn log_softmax(logits: &[f32], id: u32) -> f64 {
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    f64::from(logits[id as usize]) - sum.ln()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn ablate__decoder__has_the_log_probability_of_each_next_token() {
    for name in ["gpt2", "llama"] {
        let (model, tokens, _) = open(name);
        let n = tokens.tokens.len();
        let sets = [vec![head("L0.H1")], vec![head("L1.H0"), head("L0.H0")]];
        let mut runs = Vec::new();
        let found = ablate(&model, &tokens, &sets, &ZERO, &mut |done, all| runs.push([done, all])).unwrap();
        assert_eq!(runs, [[1, 3], [2, 3], [3, 3]]);
        assert_eq!((found.measured, found.positions.len()), (MeasuredBy::NextTokens, n - 1));
        let expected = |interventions: &Interventions| -> Vec<f64> {
            let hidden = model.run_with(&tokens, interventions, &mut NoObserver).unwrap();
            let logits = model.logits(&hidden, &(0..n - 1).collect::<Vec<_>>()).unwrap();
            let rows = logits.chunks(model.vocabulary_size()).zip(&tokens.tokens[1..]);
            rows.map(|(row, token)| log_softmax(row, token.id)).collect()
        };
        let plain = expected(&Interventions::new());
        assert!(close(&found.plain, &plain, 1e-6));
        let loss = -plain.iter().sum::<f64>() / (n - 1) as f64;
        assert!((found.loss().unwrap() - loss).abs() < 1e-6);
        for (effect, heads) in found.effects.iter().zip(&sets) {
            let without = expected(&Interventions::without(heads));
            assert!(close(&effect.values, &without, 1e-6));
            let rise = found.loss_without(effect).unwrap() - found.loss().unwrap();
            assert!((found.size(effect) - rise).abs() < 1e-12 && rise.abs() > 1e-6);
        }
        assert!(found.verification.rows > 0);
    }
}

#[test]
fn ablate__masked_language_model__masks_one_token_at_a_time() {
    let (model, _, _) = open("bert");
    let tokens = model.tokenize("the cat sat on the mat").unwrap();
    let mask = model.tokenize("[MASK]").unwrap().tokens[1].id;
    let sets = [vec![head("L1.H1")]];
    let found = ablate(&model, &tokens, &sets, &ZERO, &mut |_, _| ()).unwrap();
    assert_eq!(found.measured, MeasuredBy::MaskedTokens { of: tokens.tokens.len() - 2 });
    for (i, &at) in found.positions.iter().enumerate() {
        let mut masked = tokens.clone();
        masked.tokens[at].id = mask;
        for (interventions, value) in [
            (Interventions::new(), found.plain[i]),
            (Interventions::without(&sets[0]), found.effects[0].values[i]),
        ] {
            let hidden = model.run_with(&masked, &interventions, &mut NoObserver).unwrap();
            let expected = log_softmax(&model.logits(&hidden, &[at]).unwrap(), tokens.tokens[at].id);
            assert!((value - expected).abs() < 1e-6, "{value} {expected}");
        }
    }
    let few = AblationRequest { max_masked: 2, ..ZERO };
    let found = ablate(&model, &tokens, &sets, &few, &mut |_, _| ()).unwrap();
    assert_eq!(found.positions, [1, tokens.tokens.len() / 2]);
}

#[test]
fn ablate__model_without_a_head__measures_hidden_states() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    let model = Model::load(dir.path()).unwrap();
    let tokens = model.tokenize(tiny::TEXT).unwrap();
    let sets = [vec![head("L1.H0")]];
    let found = ablate(&model, &tokens, &sets, &ZERO, &mut |_, _| ()).unwrap();
    assert_eq!((found.measured, found.loss()), (MeasuredBy::HiddenStates, None));
    let whole = model.run(&tokens, &mut NoObserver).unwrap();
    let without = model.run_with(&tokens, &Interventions::without(&sets[0]), &mut NoObserver).unwrap();
    for (&at, &cosine) in found.positions.iter().zip(&found.effects[0].values) {
        let row = |data: &[f32]| -> Vec<f64> { data[at * 8..][..8].iter().map(|&x| x.into()).collect() };
        let (a, b) = (row(&whole.data), row(&without.data));
        let dot: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        assert!((cosine - dot / (length(&a) * length(&b))).abs() < 1e-12);
    }
    assert!(found.size(&found.effects[0]) > 0.0);
    assert_eq!(found.plain, vec![1.0; found.positions.len()]);
}

#[test]
fn ablate__patterns_kept__leaves_later_attention_as_it_was() {
    for name in ["bert", "llama"] {
        let (model, tokens, _) = open(name);
        let sets = [vec![head("L0.H1")]];
        let kept = AblationRequest { keep_patterns: true, max_masked: 3, ..ZERO };
        let with = ablate(&model, &tokens, &sets, &kept, &mut |_, _| ()).unwrap();
        let without =
            ablate(&model, &tokens, &sets, &AblationRequest { max_masked: 3, ..ZERO }, &mut |_, _| ())
                .unwrap();
        assert!(close(&with.plain, &without.plain, 1e-6));
        assert!(!close(&with.effects[0].values, &without.effects[0].values, 1e-6), "{name}");
        // A head of the last layer has no later attention to change.
        let sets = [vec![HeadId { layer: model.info().layers - 1, head: 0 }]];
        let with = ablate(&model, &tokens, &sets, &kept, &mut |_, _| ()).unwrap();
        let without =
            ablate(&model, &tokens, &sets, &AblationRequest { max_masked: 3, ..ZERO }, &mut |_, _| ())
                .unwrap();
        assert!(close(&with.effects[0].values, &without.effects[0].values, 1e-4), "{name}");
    }
}

#[test]
fn ablate__pattern_of_the_same_text__loses_nothing() {
    let (model, tokens, _) = open("gpt2");
    let request = AblationRequest { with: Replacement::PatternOf(&tokens), ..ZERO };
    let found = ablate(&model, &tokens, &[vec![head("L1.H1")]], &request, &mut |_, _| ()).unwrap();
    assert!(found.size(&found.effects[0]).abs() < 1e-5);
    let mut shorter = tokens.clone();
    shorter.tokens.pop();
    let request = AblationRequest { with: Replacement::PatternOf(&shorter), ..ZERO };
    let error = ablate(&model, &tokens, &[vec![head("L1.H1")]], &request, &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, LensError::PatternLength { .. }), "{error}");
}

#[test]
fn ablate__one_token_of_a_decoder__has_nothing_to_predict() {
    let (model, tokens, _) = open("gpt2");
    let one = TokenizedText { tokens: tokens.tokens[..1].to_vec(), ..tokens };
    let error = ablate(&model, &one, &[vec![head("L0.H0")]], &ZERO, &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, LensError::NothingToPredict));
}

#[test]
fn compare__the_same_text__moves_nothing() {
    for name in ["bert", "llama"] {
        let (model, tokens, _) = open(name);
        let side = Compared { model: &model, tokens: &tokens, query: tokens.tokens.len() - 1 };
        let found = compare([side, side], &align(&tokens, &tokens)).unwrap();
        assert_eq!(found.heads.len(), model.info().layers * model.info().heads);
        assert!(found.heads.iter().all(|head| head.total_variation == 0.0 && head.jensen_shannon == 0.0));
        let outside = Compared { query: tokens.tokens.len(), ..side };
        assert!(compare([side, outside], &align(&tokens, &tokens)).is_err());
    }
}

#[test]
fn compare__tired_and_soft__L3_H1_moves_from_cat_to_mat() {
    let Some(model) = load_minilm() else { return };
    let texts = ["tired", "soft"]
        .map(|end| model.tokenize(&format!("The cat sat on the mat because it was {end}")).unwrap());
    let alignment = align(&texts[0], &texts[1]);
    assert!(alignment.only_a.is_empty() && alignment.only_b.is_empty());
    let side = |i: usize| Compared { model: &model, tokens: &texts[i], query: 8 };
    let found = compare([side(0), side(1)], &alignment).unwrap();
    let head = found.heads.iter().find(|head| head.id.to_string() == "L3.H1").unwrap();
    let naive: f64 = head.probs[0].iter().zip(&head.probs[1]).map(|(a, b)| f64::from((a - b).abs())).sum();
    assert!((head.total_variation - naive / 2.0).abs() < 1e-6);
    assert!((head.probs[0][2] - 0.487).abs() < 2e-3 && (head.probs[1][6] - 0.204).abs() < 2e-3);
    assert!(head.total_variation > 0.3, "{}", head.total_variation);
}

#[test]
fn explain__minilm__finds_0_487_for_it_and_cat() {
    let Some(model) = load_minilm() else { return };
    let tokens = model.tokenize("The cat sat on the mat because it was tired").unwrap();
    let found = explain(&model, &tokens, head("L3.H1"), 8).unwrap();
    let cat = found.keys[2].seen.unwrap();
    assert!((cat.prob - 0.487).abs() < 5e-4, "{cat:?}");
    assert!(found.probs_error < 1e-6);
}
