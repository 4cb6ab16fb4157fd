//! What each head does with texts that stay the same for a whole run.

use burn::tensor::{Device, Tensor};
use regard::{
    AttentionConfig, AttentionStatistics, Layout, Mask, QueryPosition, StatisticsRequest, TensorView,
    Workspace,
};

use super::log::HeadMetrics;
use crate::error::TrainError;
use crate::model::{Architecture, Family, Model, Pass, integers};
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};
use crate::vocabulary::Special;

/// Tokens of the repeated sequences, each twice in a row; fewer where the model takes none so long.
const REPEATED: usize = 16;
const SEQUENCES: u64 = 8;

/// Two batches: ordinary text, and random tokens repeated, which only a head that looks for earlier copies can follow
/// (Olsson et al. 2022).
#[derive(Debug)]
pub struct Probe {
    text: Batch,
    repeated: Batch,
    /// Tokens of a sequence that is repeated.
    repeated_len: usize,
}

impl Probe {
    /// A probe of examples as they are read by a model of some sizes, and of random tokens of its vocabulary.
    pub fn new(text: Batch, architecture: &Architecture, special: Special, seed: u64) -> Self {
        let Architecture { vocabulary, positions, .. } = *architecture;
        let repeated_len = REPEATED.min(positions.saturating_sub(1) / 2);
        let example = |index| {
            let mut rng = rng(seed, Purpose::Experiment, 0, index);
            let least =
                [special.pad, special.first, special.last, special.mask].into_iter().max().unwrap_or(0) + 1;
            let once: Vec<u32> = (0..repeated_len)
                .map(|_| rng.u32(least..vocabulary.max(least as usize + 1) as u32))
                .collect();
            let tokens =
                [special.first].into_iter().chain(once.iter().copied()).chain(once.iter().copied()).collect();
            Example { tokens, labels: Vec::new() }
        };
        let examples: Vec<Example> = (0..SEQUENCES).map(example).collect();
        Self { text, repeated: Batch::new(&examples, special.pad), repeated_len }
    }

    /// Every head's metrics, layer by layer.
    ///
    /// # Errors
    /// [`TrainError::Attention`].
    pub fn heads(
        &self,
        model: &Model,
        architecture: &Architecture,
        device: &Device,
    ) -> Result<Vec<HeadMetrics>, TrainError> {
        let text = sums(model, architecture, (&self.text, 0), device)?;
        let repeated = sums(model, architecture, (&self.repeated, self.repeated_len), device)?;
        let heads = text.into_iter().zip(repeated).enumerate().map(|(i, (text, repeated))| HeadMetrics {
            layer: i / architecture.heads,
            head: i % architecture.heads,
            entropy: text.entropy.mean(),
            previous: text.previous.mean(),
            induction: repeated.induction.mean(),
        });
        Ok(heads.collect())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, number: f32) {
        self.sum += f64::from(number);
        self.count += 1;
    }

    fn mean(self) -> f32 {
        if self.count == 0 { 0.0 } else { (self.sum / self.count as f64) as f32 }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct HeadSums {
    entropy: Mean,
    previous: Mean,
    induction: Mean,
}

/// Induction is summed up over rows after `from`.
fn sums(
    model: &Model,
    architecture: &Architecture,
    (batch, from): (&Batch, usize),
    device: &Device,
) -> Result<Vec<HeadSums>, TrainError> {
    let shape = [batch.lens.len(), batch.seq_len];
    let mut pass = Pass { lens: &batch.lens, seen: Some(Vec::new()), ..Pass::default() };
    model.hidden(architecture, integers(batch.tokens.iter().copied(), shape, device), &mut pass)?;
    let mask = match architecture.family {
        Family::Bert => Mask::default(),
        Family::Llama => Mask::causal(QueryPosition::TopLeft),
    };
    let config = AttentionConfig::new().with_mask(mask.with_key_lengths(&batch.lens));
    let mut heads = Vec::new();
    for seen in pass.seen.unwrap_or_default() {
        let found = layer_statistics(seen, batch, &config)?;
        for head in 0..architecture.heads {
            let mut sums = HeadSums::default();
            for (example, &len) in batch.lens.iter().enumerate() {
                // The first row has nothing before it.
                for row in 1..len {
                    let at = (example * architecture.heads + head) * batch.seq_len + row;
                    sums.entropy.add(found.entropy[at] / (found.visible_keys[at].max(2) as f32).ln());
                    sums.previous.add(found.offset_mass[at]);
                    if row > from {
                        sums.induction.add(found.induction_mass[at]);
                    }
                }
            }
            heads.push(sums);
        }
    }
    Ok(heads)
}

/// Entropy, mass on the token before and after earlier copies, of every row of a layer's queries and keys,
/// `[batch_size, heads, seq_len, head_dim]`.
pub(crate) fn layer_statistics(
    seen: [Tensor<4>; 2],
    batch: &Batch,
    config: &AttentionConfig<'_>,
) -> Result<AttentionStatistics, TrainError> {
    let failed = |error: regard::AttentionError| TrainError::Attention(error.to_string());
    let shapes = seen.each_ref().map(Tensor::dims);
    let numbers = seen.map(|tensor| tensor.into_data().try_into_vec::<f32>().unwrap_or_default());
    let view = |at: usize| TensorView::new(&numbers[at], shapes[at], Layout::BatchHeadSeqDim).map_err(failed);
    let request = StatisticsRequest::new().with_offsets(&[-1]).with_token_ids(&batch.tokens);
    let (query, key) = (view(0)?, view(1)?);
    regard::attention_statistics(query, key, &request, config, &mut Workspace::new()).map_err(failed)
}
