//! Where a run stands, on disk: whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
/// What a checkpoint's directory is called, before its step.
const PREFIX: &str = "checkpoint-";
/// What it is called while it is being written.
const PARTIAL: &str = "partial-";
/// Older ones are removed.
const KEPT: usize = 2;

/// What a checkpoint knows beside parameters. Everything else is a pure function of the seed and the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps that have been made.
    pub(super) step: u64,
    /// Bytes of `log.jsonl` that belong to them.
    pub(super) log_bytes: u64,
    /// Sum of the losses since the log's last line, as the bits of an f64: it must come back exactly.
    loss_bits: u64,
    /// How many they are.
    losses: u64,
}

impl State {
    /// Counts a step's loss.
    pub(super) fn add(&mut self, loss: f64) {
        self.loss_bits = (f64::from_bits(self.loss_bits) + loss).to_bits();
        self.losses += 1;
    }

    /// The mean of the losses since it was last taken.
    pub(super) fn take_loss(&mut self) -> f64 {
        let mean = f64::from_bits(self.loss_bits) / self.losses.max(1) as f64;
        (self.loss_bits, self.losses) = (0, 0);
        mean
    }
}

/// Writes a checkpoint beside the others of a run and removes the oldest: into a directory of another name, flushed to
/// disk, which then gets its name.
///
/// # Errors
/// [`TrainError::File`]; the checkpoints that were there are still there.
pub(super) fn save<M: Module>(
    dir: &Path,
    state: State,
    model: &M,
    optimizer: &ModuleOptimizer,
) -> Result<PathBuf, TrainError> {
    let partial = dir.join(format!("{PARTIAL}{}", state.step));
    let path = dir.join(format!("{PREFIX}{}", state.step));
    let _ = fs::remove_dir_all(&partial);
    let written = write(&partial, state, model, optimizer);
    if let Err(error) = written {
        // A full disk: what is half-written must not stay.
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    let _ = fs::remove_dir_all(&path);
    fs::rename(&partial, &path).map_err(TrainError::file(&path))?;
    sync(dir)?;
    for old in all(dir)?.into_iter().rev().skip(KEPT) {
        fs::remove_dir_all(&old.1).map_err(TrainError::file(&old.1))?;
    }
    Ok(path)
}

fn write<M: Module>(
    partial: &Path,
    state: State,
    model: &M,
    optimizer: &ModuleOptimizer,
) -> Result<(), TrainError> {
    fs::create_dir_all(partial).map_err(TrainError::file(partial))?;
    let record = |file: &str| {
        let path = partial.join(file);
        move |error: burn::store::RecordError| TrainError::bad(&path, error.to_string())
    };
    model.clone().into_record().save(partial.join(MODEL)).map_err(record(MODEL))?;
    optimizer.save(partial.join(OPTIMIZER)).map_err(record(OPTIMIZER))?;
    let json = serde_json::to_string(&state).expect("two numbers are JSON");
    let path = partial.join(STATE);
    fs::write(&path, json).map_err(TrainError::file(&path))?;
    for file in [MODEL, OPTIMIZER, STATE] {
        sync(&partial.join(file))?;
    }
    sync(partial)
}

fn sync(path: &Path) -> Result<(), TrainError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(TrainError::file(path))
}

/// The newest checkpoint of a run, if there is one.
///
/// # Errors
/// [`TrainError::File`].
pub(super) fn latest(dir: &Path) -> Result<Option<PathBuf>, TrainError> {
    Ok(all(dir)?.pop().map(|(_, path)| path))
}

/// Steps and directories, oldest first.
fn all(dir: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(TrainError::file(dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(TrainError::file(dir))?;
        let name = entry.file_name();
        if let Some(step) =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|step| step.parse().ok())
        {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a checkpoint into a model and an optimizer of the same configuration.
///
/// # Errors
/// [`TrainError::File`] or [`TrainError::BadFile`].
pub(super) fn load<M: Module>(
    path: &Path,
    model: M,
    optimizer: ModuleOptimizer,
) -> Result<(State, M, ModuleOptimizer), TrainError> {
    let record = |file: &str| {
        let path = path.join(file);
        move |error: burn::store::RecordError| TrainError::bad(&path, error.to_string())
    };
    let file = path.join(STATE);
    let json = fs::read_to_string(&file).map_err(TrainError::file(&file))?;
    let state = serde_json::from_str(&json).map_err(|error| TrainError::bad(&file, error.to_string()))?;
    let parameters = ModuleRecord::load(path.join(MODEL)).map_err(record(MODEL))?;
    let model = model.try_load_record(parameters).map_err(record(MODEL))?;
    let optimizer = optimizer.load(path.join(OPTIMIZER)).map_err(record(OPTIMIZER))?;
    Ok((state, model, optimizer))
}
