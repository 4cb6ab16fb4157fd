//! A tiny model of each layout against what Hugging Face transformers computes with it (golden/tiny).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::golden::{TinyGolden, max_abs_difference};
use regard_lens::{AttentionObserver, LayerAttention, LensError, Model, Predicts};

/// Compares every layer's input and every head's probabilities.
struct CompareLayers<'a> {
    golden: &'a TinyGolden,
    layers: usize,
    hidden_error: f32,
    probs_error: f32,
}

impl AttentionObserver for CompareLayers<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let expected = self.golden.tensor(&format!("hidden.{}", attention.layer));
        self.hidden_error = self.hidden_error.max(max_abs_difference(attention.input, &expected));
        let [_, heads, seq_len, _] = attention.query.shape();
        let expected = self.golden.tensor(&format!("probs.{}", attention.layer));
        assert_eq!(expected.len(), heads * seq_len * seq_len);
        let mut probs = vec![0.0; seq_len * seq_len];
        for (head, expected) in expected.chunks(seq_len * seq_len).enumerate() {
            attention.probs(head, 0..seq_len, &mut probs)?;
            self.probs_error = self.probs_error.max(max_abs_difference(&probs, expected));
        }
        self.layers += 1;
        Ok(())
    }
}

/// The softmax of some logits, in f64.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let terms: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = terms.iter().sum();
    terms.iter().map(|term| term / sum).collect()
}

/// Ids, hidden states, probabilities of every head and logits.
fn check(name: &str, predicts: Predicts) -> (Model, TinyGolden) {
    let (model, golden) = (TinyGolden::load_model(name), TinyGolden::open(name));
    compare(name, &model, &golden, predicts);
    (model, golden)
}

fn compare(name: &str, model: &Model, golden: &TinyGolden, predicts: Predicts) {
    assert_eq!(model.info().predicts, predicts);
    assert_eq!(model.info().causal, predicts == Predicts::NextToken);
    let tokens = model.tokenize(&golden.text).unwrap();
    let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, golden.ids);

    let mut observer = CompareLayers { golden, layers: 0, hidden_error: 0.0, probs_error: 0.0 };
    let hidden = model.run(&tokens, &mut observer).unwrap();
    assert_eq!(observer.layers, model.info().layers);
    let last = max_abs_difference(&hidden.data, &golden.tensor(&format!("hidden.{}", observer.layers)));
    let logits = model.logits(&hidden, &golden.positions).unwrap();
    let expected = golden.tensor("logits");
    let logits_error = max_abs_difference(&logits, &expected);
    let vocabulary = model.vocabulary_size();
    assert_eq!(logits.len(), golden.positions.len() * vocabulary);
    let mut shares_error = 0.0f64;
    for (found, expected) in logits.chunks(vocabulary).zip(expected.chunks(vocabulary)) {
        for (found, expected) in softmax(found).iter().zip(softmax(expected)) {
            shares_error = shares_error.max((found - expected).abs());
        }
    }
    println!(
        "{name}: {} tokens, max abs error: hidden {:.1e}, last {last:.1e}, probs {:.1e}, logits \
         {logits_error:.1e}, predictions {shares_error:.1e}",
        ids.len(),
        observer.hidden_error,
        observer.probs_error
    );
    assert!(observer.hidden_error <= 1e-4 && last <= 1e-4, "{name}: {} {last}", observer.hidden_error);
    assert!(observer.probs_error <= 1e-5, "{name}: {}", observer.probs_error);
    assert!(shares_error <= 1e-5 && logits_error <= 1e-3, "{name}: {shares_error} {logits_error}");
}

/// `fill` names the largest of the expected logits at each mask.
fn check_fill(name: &str) {
    let (model, golden) = check(name, Predicts::MaskedToken);
    let tokens = model.tokenize(&golden.text).unwrap();
    let filled = model.fill(&tokens, 3).unwrap();
    // The last of the positions is the last token.
    assert_eq!(filled.len(), golden.positions.len() - 1);
    let vocabulary = model.vocabulary_size();
    for (place, filled) in filled.iter().enumerate() {
        assert_eq!(filled.index, golden.positions[place]);
        let expected = softmax(&golden.tensor("logits")[place * vocabulary..][..vocabulary]);
        check_top(&filled.predictions, &expected);
    }
    let error = model.next_token(&tokens, 3).unwrap_err();
    assert!(matches!(error, LensError::NoPrediction { .. }), "{error:?}");
    let mask = model.mask_token().unwrap();
    let unmasked = model.tokenize("The cat sat").unwrap();
    let error = model.fill(&unmasked, 3).unwrap_err();
    assert!(error.to_string().contains(mask), "{error}");
}

/// `next_token` names the largest of the expected logits at the last token.
fn check_next(name: &str) {
    let (model, golden) = check(name, Predicts::NextToken);
    let tokens = model.tokenize(&golden.text).unwrap();
    let expected = golden.tensor("logits");
    let last = &expected[expected.len() - model.vocabulary_size()..];
    check_top(&model.next_token(&tokens, 3).unwrap(), &softmax(last));
    assert_eq!(model.mask_token(), None);
    let error = model.fill(&tokens, 3).unwrap_err();
    assert!(matches!(error, LensError::NoPrediction { .. }), "{error:?}");
}

fn check_top(predictions: &[regard_lens::Prediction], expected: &[f64]) {
    let mut order: Vec<usize> = (0..expected.len()).collect();
    order.sort_by(|&a, &b| expected[b].total_cmp(&expected[a]));
    assert_eq!(predictions.len(), 3);
    for (prediction, id) in predictions.iter().zip(order) {
        assert_eq!(prediction.id as usize, id);
        assert!((f64::from(prediction.prob) - expected[id]).abs() <= 1e-5);
        assert!(!prediction.token.is_empty());
    }
}

#[test]
fn bert__masked_language_model__matches_transformers_and_fills_the_mask() {
    check_fill("bert");
}

#[test]
fn distilbert__two_masks__matches_transformers_and_fills_both() {
    check_fill("distilbert");
}

#[test]
fn roberta__padding_token_in_the_text__matches_transformers_and_fills_the_mask() {
    check_fill("roberta");
}

#[test]
fn gpt2__bytes_of_one_character_apart__matches_transformers() {
    check_next("gpt2");
}

#[test]
fn gpt2__scores_scaled_by_layer_and_own_decoder__matches_transformers() {
    check_next("gpt2_scaled");
}

#[test]
fn llama__grouped_heads_tied_and_llama3_scaling__matches_transformers() {
    check_next("llama");
}

#[test]
fn llama__longer_than_its_positions_with_dynamic_scaling_and_biases__matches_transformers() {
    let (model, golden) = check("llama_dynamic", Predicts::NextToken);
    assert!(golden.ids.len() > 8 && model.info().max_tokens == 24);
    check_next("llama_dynamic");
}

#[test]
fn llama__one_key_head_and_yarn__matches_transformers() {
    check_next("llama_yarn");
}

#[cfg(feature = "gguf")]
#[test]
fn gguf__every_storage_type__matches_transformers_with_the_same_weights() {
    check_next("llama_gguf");
    let model = TinyGolden::load_model("llama_gguf");
    let mut dtypes: Vec<&str> = model.info().dtype.split(", ").collect();
    dtypes.sort_unstable();
    assert_eq!(dtypes, ["BF16", "F16", "F32", "Q4_0", "Q4_1", "Q8_0"]);
}

#[test]
fn llama__trained_by_regard_train__matches_transformers() {
    let model = Model::load(&TinyGolden::dir("../trained/llama")).unwrap();
    compare("trained llama", &model, &TinyGolden::trained("llama"), Predicts::NextToken);
}

#[cfg(feature = "builtin")]
#[test]
fn bert__trained_by_regard_train_and_built_in__matches_transformers() {
    compare("built in", &Model::builtin().unwrap(), &TinyGolden::trained("builtin"), Predicts::MaskedToken);
}

#[test]
fn byte_level_tokens__any_text__stand_for_whole_characters_and_words() {
    let (model, golden) = (TinyGolden::load_model("gpt2"), TinyGolden::open("gpt2"));
    let tokens = model.tokenize(&golden.text).unwrap();
    let surface = |index: usize| {
        let token = &tokens.tokens[index];
        tokens.text.get(token.start..token.end).unwrap().trim()
    };
    let of_face: Vec<usize> =
        (0..tokens.tokens.len()).filter(|&token| surface(token).contains('😀')).collect();
    assert!(of_face.len() > 1, "the text has a character of several tokens");
    for &token in &of_face {
        assert_eq!(surface(token), "😀");
        assert_eq!(tokens.tokens[token].word, tokens.tokens[of_face[0]].word);
    }
    assert!(tokens.tokens.iter().all(|token| !token.special && token.word.is_some()));
    assert!(tokens.tokens.windows(2).all(|pair| pair[0].word <= pair[1].word));
}
