//! Trains a small causal Transformer with burn's Learner and its terminal dashboard, on a task that only attention to
//! an earlier place solves: a sequence of random tokens, then the same sequence again, to be predicted.
//!
//! ```sh
//! cargo run --release -p regard-burn --example learner -- [EPOCHS [DIRECTORY]]
//! ```
//!
//! Where the output is no terminal, one line is printed for each pass over the data.

use std::path::PathBuf;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::AdamWConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{InferenceStep, Learner, SequenceOutput, SupervisedTraining, TrainOutput, TrainStep};
use regard::{AttentionConfig, Mask, QueryPosition};
use regard_burn::{Error, MultiHeadAttention, MultiHeadAttentionConfig};

mod plain_lines;

const VOCABULARY: usize = 32;
/// Tokens of a sequence before it is repeated.
const HALF: usize = 24;
const MODEL_DIM: usize = 64;
const NUM_HEADS: usize = 4;
const NUM_LAYERS: usize = 2;
const BATCH_SIZE: usize = 32;
const LEARNING_RATE: f64 = 3e-3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let num_epochs = arguments.next().map_or(Ok(6), |epochs| epochs.parse())?;
    let directory =
        arguments.next().map_or_else(|| std::env::temp_dir().join("regard-learner"), PathBuf::from);
    std::fs::create_dir_all(&directory)?;

    let device = Device::flex().autodiff();
    device.seed(1);
    let learner = Learner::new(Model::new(&device)?, AdamWConfig::new().init(), LEARNING_RATE);
    let mut training =
        SupervisedTraining::new(&directory, repeated(0..2048, true), repeated(2048..2304, false))
            .metrics((LossMetric::new(), AccuracyMetric::new()))
            .num_epochs(num_epochs);
    if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        training = training.renderer(Box::new(plain_lines::PlainLines::default()));
    }
    let result = training.launch(learner);
    result.error.map_or(Ok(()), |error| Err(error.to_string().into()))
}

/// A Transformer whose blocks normalise what they read, with rotary positions.
#[derive(Module, Debug)]
struct Model {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

#[derive(Module, Debug)]
struct Block {
    attention_norm: LayerNorm,
    attention: MultiHeadAttention,
    feed_forward_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Model {
    fn new(device: &Device) -> Result<Self, Error> {
        let block = |_| Block::new(device);
        Ok(Self {
            embedding: EmbeddingConfig::new(VOCABULARY, MODEL_DIM).init(device),
            blocks: (0..NUM_LAYERS).map(block).collect::<Result<_, _>>()?,
            norm: LayerNormConfig::new(MODEL_DIM).init(device),
            head: LinearConfig::new(MODEL_DIM, VOCABULARY).init(device),
        })
    }

    /// Tokens `[batch, 2·HALF]`; what is predicted are the tokens `HALF + 1 ..`.
    fn forward(&self, tokens: Tensor<2, Int>) -> SequenceOutput {
        let [batch, seq] = tokens.dims();
        let embedded = self.embedding.forward(tokens.clone());
        let hidden = self.blocks.iter().fold(embedded, |hidden, block| block.forward(hidden));
        let logits = self.head.forward(self.norm.forward(hidden.narrow(1, HALF, HALF - 1)));
        let targets = tokens.narrow(1, HALF + 1, seq - HALF - 1);
        let rows = batch * (HALF - 1);
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = loss.forward(logits.clone().reshape([rows, VOCABULARY]), targets.clone().reshape([rows]));
        SequenceOutput::new(loss, logits, None, targets)
    }
}

impl Block {
    fn new(device: &Device) -> Result<Self, Error> {
        let attention = MultiHeadAttentionConfig::new(MODEL_DIM, NUM_HEADS).with_rotary_base(Some(10_000.0));
        Ok(Self {
            attention_norm: LayerNormConfig::new(MODEL_DIM).init(device),
            attention: attention.init(device)?,
            feed_forward_norm: LayerNormConfig::new(MODEL_DIM).init(device),
            up: LinearConfig::new(MODEL_DIM, 4 * MODEL_DIM).init(device),
            down: LinearConfig::new(4 * MODEL_DIM, MODEL_DIM).init(device),
        })
    }

    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let causal = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
        let attended = self.attention.forward(self.attention_norm.forward(hidden.clone()), &causal);
        // Sizes are the constants above.
        let hidden = hidden + attended.expect("a module attends to what it was made for");
        let raised = Gelu::new().forward(self.up.forward(self.feed_forward_norm.forward(hidden.clone())));
        hidden + self.down.forward(raised)
    }
}

impl TrainStep for Model {
    type Input = Tensor<2, Int>;
    type Output = SequenceOutput;

    fn step(&self, tokens: Tensor<2, Int>) -> TrainOutput<SequenceOutput> {
        let output = self.forward(tokens);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Model {
    type Input = Tensor<2, Int>;
    type Output = SequenceOutput;

    fn step(&self, tokens: Tensor<2, Int>) -> SequenceOutput {
        self.forward(tokens)
    }
}

/// Batches of sequences, each a pure function of its seed.
fn repeated(seeds: std::ops::Range<u64>, shuffle: bool) -> Arc<dyn DataLoader<Tensor<2, Int>>> {
    let sequence = |seed: u64| {
        let mut state = seed;
        let half: Vec<i32> = (0..HALF).map(|_| (next(&mut state) % VOCABULARY as u64) as i32).collect();
        half.repeat(2)
    };
    let loader = DataLoaderBuilder::new(Stack).batch_size(BATCH_SIZE);
    let loader = if shuffle { loader.shuffle(1) } else { loader };
    loader.build(InMemDataset::new(seeds.map(sequence).collect()))
}

/// SplitMix64 (Steele, Lea & Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// Makes a tensor of sequences.
struct Stack;

impl Batcher<Vec<i32>, Tensor<2, Int>> for Stack {
    fn batch(&self, items: Vec<Vec<i32>>, device: &Device) -> Tensor<2, Int> {
        let shape = [items.len(), 2 * HALF];
        Tensor::from_data(TensorData::new(items.concat(), shape), device)
    }
}
