//! `log.jsonl`: what a run was like, one line each time.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// What one head did with the probe texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeadMetrics {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// Mean entropy of a row in nats, over the logarithm of the number of keys it may see: 1 is uniform.
    pub entropy: f32,
    /// Mean probability of the token before.
    pub previous: f32,
    /// Mean probability of tokens that stand after earlier copies of the row's token, over rows that have such.
    pub induction: f32,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Steps made.
    pub step: u64,
    /// Mean loss since the line before, in nats per label.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Length of the gradient before clipping, at the last step.
    pub gradient_norm: f64,
    /// What each head does.
    pub heads: Vec<HeadMetrics>,
}

/// The file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    /// Opens the log of a run and forgets what comes after `bytes`: lines of steps that will be made again.
    ///
    /// # Errors
    /// [`TrainError::File`], or [`TrainError::BadFile`] if it is shorter.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, TrainError> {
        let open = || -> std::io::Result<(File, u64)> {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            let len = file.metadata()?.len();
            file.set_len(bytes.min(len))?;
            file.seek(SeekFrom::End(0))?;
            Ok((file, len))
        };
        let (file, len) = open().map_err(TrainError::file(path))?;
        if len < bytes {
            return Err(TrainError::bad(path, format!("expected at least {bytes} bytes, found {len}")));
        }
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`TrainError::File`].
    pub fn add(&mut self, entry: &Entry) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(entry).expect("numbers are JSON");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::file(&self.path))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Makes sure that what was added is on disk; its length.
    ///
    /// # Errors
    /// [`TrainError::File`].
    pub fn sync(&self) -> Result<u64, TrainError> {
        self.file.sync_all().map_err(TrainError::file(&self.path))?;
        Ok(self.bytes)
    }

    /// Every line of a log.
    ///
    /// # Errors
    /// [`TrainError::File`] or [`TrainError::BadFile`].
    pub fn read(path: &Path) -> Result<Vec<Entry>, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::file(path))?;
        let entry = |(line, text): (usize, &str)| {
            serde_json::from_str(text)
                .map_err(|error| TrainError::bad(path, format!("line {}: {error}", line + 1)))
        };
        text.lines().enumerate().map(entry).collect()
    }
}
