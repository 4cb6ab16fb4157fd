//! A control: the architecture without what training made of it.

use std::path::Path;

use super::random::Random;
use crate::error::LensError;
use crate::files::{Origin, TensorSource};
use crate::model::Model;
use crate::open::{Opened, open};

/// Standard deviation of every matrix before training, in BERT, GPT-2 and Llama.
const SPREAD: f64 = 0.02;

impl Model {
    /// The model at `path` as it might have been before its training: the same architecture, tokenizer and
    /// sizes, its matrices drawn from N(0, 0.02²), its biases 0, its norms' weights 1 (Devlin et al. 2018;
    /// Radford et al. 2019).
    ///
    /// What an untrained model finds, architecture and data give away; only what lies above it was learnt.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn untrained(path: &Path, seed: u64) -> Result<Self, LensError> {
        Self::build(before_training(open(path)?, seed))
    }

    /// The built-in model before its training. See [`Self::untrained`].
    ///
    /// # Errors
    /// As [`Model::builtin`].
    #[cfg(feature = "builtin")]
    pub fn untrained_builtin(seed: u64) -> Result<Self, LensError> {
        Self::build_builtin(before_training(crate::builtin::opened()?, seed))
    }
}

fn before_training(opened: Opened, seed: u64) -> Opened {
    let weights = Box::new(BeforeTraining { file: opened.weights, random: Random::new(seed) });
    Opened { weights, ..opened }
}

/// The names of a file's tensors, and other numbers in them.
struct BeforeTraining {
    file: Box<dyn TensorSource>,
    random: Random,
}

impl TensorSource for BeforeTraining {
    fn has(&self, tensor: &str) -> bool {
        self.file.has(tensor)
    }

    fn names(&self) -> Vec<&str> {
        self.file.names()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn files(&self) -> Vec<Origin> {
        self.file.files()
    }

    fn dtype(&self) -> String {
        "F32".to_owned()
    }

    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, LensError> {
        if !self.file.has(tensor) {
            return Err(LensError::MissingTensor {
                path: self.file.path().to_owned(),
                tensor: tensor.to_owned(),
            });
        }
        let len = shape.iter().try_fold(1usize, |len, &size| len.checked_mul(size));
        let bytes = len.map_or(usize::MAX, |len| len.saturating_mul(size_of::<f32>()));
        let mut numbers = Vec::new();
        let reserved = len.and_then(|len| numbers.try_reserve_exact(len).ok().map(|()| len));
        let len = reserved.ok_or(LensError::AllocationFailed { bytes })?;
        // Vectors are biases or norms; only a norm's gain is called a weight.
        let is_gain = tensor.ends_with("weight") || tensor.ends_with("gamma");
        if shape.len() > 1 {
            numbers.extend((0..len).map(|_| (self.random.normal() * SPREAD) as f32));
        } else {
            numbers.resize(len, if is_gain { 1.0 } else { 0.0 });
        }
        Ok(numbers)
    }
}
