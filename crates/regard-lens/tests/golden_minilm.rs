//! all-MiniLM-L6-v2 against what Hugging Face transformers computes (golden/minilm).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::golden::{Golden, load_minilm, max_abs_difference};
use regard_lens::{AttentionObserver, LayerAttention, LensError};

/// Compares the probabilities of the heads that a golden file holds.
struct CompareProbs<'a> {
    golden: &'a Golden,
    heads_seen: usize,
    worst: f32,
}

impl AttentionObserver for CompareProbs<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let [_, heads, seq_len, _] = attention.query.shape();
        for head in 0..heads {
            let Some(expected) = self.golden.probs(attention.layer, head) else { continue };
            let mut probs = vec![0.0; seq_len * seq_len];
            attention.probs(head, 0..seq_len, &mut probs)?;
            self.worst = self.worst.max(max_abs_difference(&probs, &expected));
            self.heads_seen += 1;
        }
        Ok(())
    }
}

#[test]
fn minilm__golden_texts__hidden_states_and_probabilities_match_transformers() {
    let Some(model) = load_minilm() else { return };
    for golden in Golden::all() {
        let tokens = model.tokenize(&golden.text).unwrap();
        let mut observer = CompareProbs { golden: &golden, heads_seen: 0, worst: 0.0 };
        let hidden = model.run(&tokens, &mut observer).unwrap();
        let expected = golden.hidden_states();
        assert_eq!((hidden.seq_len, hidden.model_dim), (golden.ids.len(), 384));
        let hidden_error = max_abs_difference(&hidden.data, &expected);
        println!(
            "{}: {} tokens, {} heads, max abs error: hidden {hidden_error:.1e}, probs {:.1e}",
            golden.name, hidden.seq_len, observer.heads_seen, observer.worst
        );
        assert_eq!(observer.heads_seen, golden.num_probs());
        assert!(observer.heads_seen >= 4);
        assert!(hidden_error <= 1e-4, "{}: {hidden_error}", golden.name);
        assert!(observer.worst <= 1e-5, "{}: {}", golden.name, observer.worst);
    }
}

#[test]
fn minilm__golden_texts__ids_pieces_and_byte_offsets_match_transformers() {
    let Some(model) = load_minilm() else { return };
    for golden in Golden::all() {
        let tokens = model.tokenize(&golden.text).unwrap();
        let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
        let pieces: Vec<&str> = tokens.tokens.iter().map(|token| token.text.as_str()).collect();
        let offsets: Vec<[usize; 2]> = tokens.tokens.iter().map(|token| [token.start, token.end]).collect();
        assert_eq!(ids, golden.ids, "{}", golden.name);
        assert_eq!(pieces, golden.tokens, "{}", golden.name);
        assert_eq!(offsets, golden.offsets, "{}", golden.name);
        assert_eq!(tokens.text, golden.text);
        let last = ids.len() - 1;
        for (index, token) in tokens.tokens.iter().enumerate() {
            assert_eq!(token.index, index);
            assert_eq!(token.special, index == 0 || index == last, "{}: {token:?}", golden.name);
            assert_eq!(token.word.is_none(), token.special, "{}: {token:?}", golden.name);
        }
    }
}

#[test]
fn minilm__a_split_word__its_pieces_share_one_word() {
    let Some(model) = load_minilm() else { return };
    let tokens = model.tokenize("An unputdownable book").unwrap();
    let words: Vec<_> = tokens.tokens.iter().map(|token| (token.text.as_str(), token.word)).collect();
    let expected = [
        ("[CLS]", None),
        ("an", Some(0)),
        ("un", Some(1)),
        ("##put", Some(1)),
        ("##down", Some(1)),
        ("##able", Some(1)),
        ("book", Some(2)),
        ("[SEP]", None),
    ];
    assert_eq!(words, expected);
}

#[test]
fn minilm__its_info__says_what_the_files_say() {
    let Some(model) = load_minilm() else { return };
    let info = model.info();
    assert_eq!(info.name, "all-MiniLM-L6-v2");
    assert_eq!(info.sha256, Golden::model_sha256());
    assert_eq!((info.layers, info.heads, info.causal), (6, 12, false));
    assert_eq!((info.dtype.as_str(), info.max_tokens), ("F32", 512));
}

#[test]
fn minilm__text_beyond_the_tokenizers_own_truncation__is_neither_cut_nor_padded() {
    let Some(model) = load_minilm() else { return };
    for words in [1, 127, 200, 510] {
        let tokens = model.tokenize(&"cat ".repeat(words)).unwrap();
        assert_eq!(tokens.tokens.len(), words + 2);
        assert!(tokens.tokens.iter().all(|token| token.text != "[PAD]"));
    }
    let tokens = model.tokenize(&"cat ".repeat(200)).unwrap();
    let hidden = model.run(&tokens, &mut common::NoObserver).unwrap();
    assert_eq!(hidden.data.len(), 202 * 384);
    assert!(hidden.data.iter().all(|x| x.is_finite()));
}

#[test]
fn minilm__text_beyond_its_positions__is_refused_with_found_and_limit() {
    let Some(model) = load_minilm() else { return };
    let error = model.tokenize(&"cat ".repeat(511)).unwrap_err();
    assert!(matches!(error, LensError::TextTooLong { found: 513, limit: 512 }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the text has 513 tokens, the model takes at most 512; shorten it or use a model with more positions"
    );
}

#[test]
fn minilm__text_without_words__is_refused_as_empty() {
    let Some(model) = load_minilm() else { return };
    for text in ["", " ", "\n\t ", "\u{0}", "\u{200d}\u{feff}"] {
        let error = model.tokenize(text).unwrap_err();
        assert!(matches!(error, LensError::EmptyText), "{text:?}: {error:?}");
    }
}
