//! The whole encoder.

use regard::Workspace;
use regard::position::LearnedPositions;

use super::config::BertConfig;
use super::layer::BertLayer;
use super::layer_norm::LayerNorm;
use crate::error::LensError;
use crate::files::Weights;
use crate::observer::AttentionObserver;

/// Token ids to hidden states.
#[derive(Debug)]
pub(crate) struct BertEncoder {
    /// `[vocabulary_size, model_dim]`.
    words: Vec<f32>,
    positions: LearnedPositions,
    /// The vector of token type 0, `[model_dim]`: one text is all of one type.
    token_type: Vec<f32>,
    embedding_norm: LayerNorm,
    layers: Vec<BertLayer>,
    model_dim: usize,
}

impl BertEncoder {
    /// Reads the tensors of a `BertModel`, named with or without the prefix `bert.` (models with a task's head
    /// on top have it).
    pub(crate) fn load(weights: &mut Weights, config: &BertConfig) -> Result<Self, LensError> {
        let bare = weights.has("embeddings.word_embeddings.weight");
        let prefixed = weights.has("bert.embeddings.word_embeddings.weight");
        let prefix = if prefixed && !bare { "bert." } else { "" };
        check_layer_count(weights, prefix, config.num_layers)?;
        let dim = config.model_dim;
        let table = |name: &str| format!("{prefix}embeddings.{name}_embeddings.weight");
        let words = weights.read(&table("word"), &[config.vocabulary_size, dim])?;
        let positions = weights.read(&table("position"), &[config.num_positions, dim])?;
        let mut token_type = weights.read(&table("token_type"), &[config.num_token_types, dim])?;
        token_type.truncate(dim);
        let norm = format!("{prefix}embeddings.LayerNorm");
        let embedding_norm = LayerNorm::load(weights, &norm, dim, config.layer_norm_eps)?;
        let layers = (0..config.num_layers)
            .map(|layer| BertLayer::load(weights, &format!("{prefix}encoder.layer.{layer}"), config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words,
            positions: LearnedPositions::new(positions, config.num_positions, dim)?,
            token_type,
            embedding_norm,
            layers,
            model_dim: dim,
        })
    }

    /// Numbers per token.
    pub(crate) fn model_dim(&self) -> usize {
        self.model_dim
    }

    /// The last layer's output, `[ids, model_dim]`. Ids must be within the vocabulary, and no more of them than
    /// there are positions.
    pub(crate) fn run(
        &self,
        ids: &[u32],
        observer: &mut dyn AttentionObserver,
    ) -> Result<Vec<f32>, LensError> {
        let dim = self.model_dim;
        let mut hidden = Vec::with_capacity(ids.len() * dim);
        for &id in ids {
            let word = &self.words[id as usize * dim..][..dim];
            hidden.extend(word.iter().zip(&self.token_type).map(|(word, token_type)| word + token_type));
        }
        self.positions.add_to(&mut hidden, [1, ids.len()], 0)?;
        self.embedding_norm.apply(&mut hidden);
        let mut workspace = Workspace::new();
        for (number, layer) in self.layers.iter().enumerate() {
            layer.forward(number, &mut hidden, &mut workspace, observer)?;
        }
        Ok(hidden)
    }
}

/// Refuses weights with more layers than the configuration says: running only the first ones would be silent
/// nonsense.
fn check_layer_count(weights: &Weights, prefix: &str, num_layers: usize) -> Result<(), LensError> {
    let start = format!("{prefix}encoder.layer.");
    let layer_of = |name: &str| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok();
    match weights.names().filter_map(layer_of).max() {
        Some(last) if last >= num_layers => Err(LensError::Config {
            path: weights.path().to_owned(),
            field: "encoder.layer",
            expected: format!("layers 0 to {} (num_hidden_layers in config.json)", num_layers - 1),
            found: format!("layer {last}"),
        }),
        _ => Ok(()),
    }
}
