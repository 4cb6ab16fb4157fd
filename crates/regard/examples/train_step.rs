//! Trains a multi-head attention layer to look something up: every sequence has one marked position, and every
//! position must say which token is there.
//!
//! `cargo run --release --example train_step`

use fastrand::Rng;
use regard::layer::{ForwardPass, Linear, MultiHeadAttention, OptionGradients};
use regard::{AttentionConfig, AttentionError, Workspace};

const TOKENS: usize = 8;
const MODEL_DIM: usize = TOKENS + 1; // one-hot token, mark
const BATCH: usize = 32;
const SEQ_LEN: usize = 12;
const STEPS: usize = 300;

/// Input rows of a batch, `[BATCH, SEQ_LEN, MODEL_DIM]`, and the marked token of each sequence.
fn batch(rng: &mut Rng) -> (Vec<f32>, Vec<usize>) {
    let mut input = vec![0.0; BATCH * SEQ_LEN * MODEL_DIM];
    let mut answers = Vec::with_capacity(BATCH);
    for sequence in input.chunks_exact_mut(SEQ_LEN * MODEL_DIM) {
        let marked = rng.usize(..SEQ_LEN);
        for (position, row) in sequence.chunks_exact_mut(MODEL_DIM).enumerate() {
            let token = rng.usize(..TOKENS);
            row[token] = 1.0;
            if position == marked {
                row[TOKENS] = 1.0;
                answers.push(token);
            }
        }
    }
    (input, answers)
}

/// Mean cross-entropy of logits `[BATCH, SEQ_LEN, TOKENS]`, how many of them are right, and the derivative.
fn cross_entropy(logits: &[f32], answers: &[usize]) -> (f32, f32, Vec<f32>) {
    let (mut loss, mut right, rows) = (0.0, 0.0, (BATCH * SEQ_LEN) as f32);
    let mut d_logits = Vec::with_capacity(logits.len());
    for (row, logits) in logits.chunks_exact(TOKENS).enumerate() {
        let answer = answers[row / SEQ_LEN];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|x| (x - largest).exp()).sum();
        loss += largest + total.ln() - logits[answer];
        right += f32::from(logits[answer] == largest);
        d_logits.extend(
            logits
                .iter()
                .enumerate()
                .map(|(token, x)| ((x - largest).exp() / total - f32::from(token == answer)) / rows),
        );
    }
    (loss / rows, right / rows, d_logits)
}

/// Adam (Kingma & Ba 2015, algorithm 1): running means of each gradient and of its square.
#[derive(Default)]
struct Adam {
    step: i32,
    means: Vec<[Vec<f32>; 2]>,
}

impl Adam {
    fn update(&mut self, parameters: Vec<(&str, &mut [f32])>, gradients: Vec<(&str, &[f32])>) {
        const RATE: f32 = 0.02;
        const DECAY: f32 = 0.9;
        const SQUARE_DECAY: f32 = 0.999;
        self.step += 1;
        if self.means.is_empty() {
            self.means = gradients.iter().map(|(_, g)| [vec![0.0; g.len()], vec![0.0; g.len()]]).collect();
        }
        let (bias, square_bias) = (1.0 - DECAY.powi(self.step), 1.0 - SQUARE_DECAY.powi(self.step));
        for (((_, parameter), (_, gradient)), [mean, square]) in
            parameters.into_iter().zip(gradients).zip(&mut self.means)
        {
            for (i, d) in gradient.iter().enumerate() {
                mean[i] += (1.0 - DECAY) * (d - mean[i]);
                square[i] += (1.0 - SQUARE_DECAY) * (d * d - square[i]);
                parameter[i] -= RATE * (mean[i] / bias) / ((square[i] / square_bias).sqrt() + 1e-8);
            }
        }
    }
}

fn main() -> Result<(), AttentionError> {
    let mut rng = Rng::with_seed(1);
    let mut linear = |inputs: usize, outputs: usize| {
        let spread = 1.0 / (inputs as f32).sqrt();
        let weight = (0..inputs * outputs).map(|_| (2.0 * rng.f32() - 1.0) * spread).collect();
        Linear::new(weight, Some(vec![0.0; outputs]), inputs, outputs)
    };
    // Two heads of 8; the output projection writes the logits.
    let (query, key, value) = (linear(MODEL_DIM, 16)?, linear(MODEL_DIM, 16)?, linear(MODEL_DIM, 16)?);
    let mut layer = MultiHeadAttention::new(query, key, value, linear(16, TOKENS)?, [2, 2])?;
    let (config, mut workspace, mut adam) = (AttentionConfig::new(), Workspace::new(), Adam::default());

    for step in 0..=STEPS {
        let (input, answers) = batch(&mut rng);
        let projection = layer.project(&input, [BATCH, SEQ_LEN], config.parallelism)?;
        let attended = projection.attend(&config, &mut workspace)?;
        let logits = layer.project_output(&attended, config.parallelism)?;
        let (loss, accuracy, d_logits) = cross_entropy(&logits, &answers);
        if step % 50 == 0 {
            println!("step {step:3}: loss {loss:.4}, {:5.1} % right", accuracy * 100.0);
        }
        if step == STEPS {
            assert!(accuracy > 0.99, "the layer did not learn to look the token up");
            break;
        }
        let pass = ForwardPass { input: &input, memory: None, projection: &projection, attended: &attended };
        let gradients =
            layer.backward(pass, &d_logits, OptionGradients::default(), &config, &mut workspace)?;
        adam.update(layer.parameters_mut(), gradients.parameters());
    }
    Ok(())
}
