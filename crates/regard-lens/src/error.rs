//! What can go wrong, in one line each.

use std::fmt;
use std::io;
use std::path::PathBuf;

use regard::AttentionError;

use crate::view::HeadId;

/// Why a model could not be found, loaded or run.
///
/// Displayed as one line that names the file, the field, what was expected, what was found and what to do.
/// Words that come from untrusted files are escaped in it: no control character reaches a terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum LensError {
    /// Neither a directory nor the form of a model id.
    ModelNotFound {
        /// What was asked for.
        model: String,
    },
    /// The Hugging Face Hub did not deliver a model.
    Hub {
        /// The model's id, with its revision if one was asked for.
        id: String,
        /// The server asked.
        endpoint: String,
        /// What went wrong.
        problem: HubProblem,
    },
    /// A model is a directory, and this is something else.
    NotADirectory {
        /// The path given.
        path: PathBuf,
    },
    /// A directory has several GGUF files and nothing says which is meant.
    SeveralModels {
        /// The directory.
        dir: PathBuf,
        /// Their names.
        found: Vec<String>,
    },
    /// A file that every model directory has is not there.
    MissingFile {
        /// The model's directory.
        dir: PathBuf,
        /// The file's name.
        file: &'static str,
    },
    /// A file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A symbolic link in the model's directory points out of it.
    LinkLeavesFolder {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file, or a part of it, is larger than any real model needs.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The file or its part.
        what: &'static str,
        /// The most that is read.
        limit: u64,
        /// What the file has.
        found: u64,
    },
    /// The weights are in a format that is not read: running code (pickle), or simply another one.
    ForeignFormat {
        /// The file.
        path: PathBuf,
        /// Its format, and why it is refused.
        format: &'static str,
    },
    /// The header of a safetensors file breaks the format's rules.
    Header {
        /// The file.
        path: PathBuf,
        /// The tensor or field.
        field: String,
        /// What the rule asks for.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The index of a sharded model names something it must not, or does not fit its shards.
    Index {
        /// The index file or the shard.
        path: PathBuf,
        /// The entry.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A JSON file does not parse or has a field of the wrong type.
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// The configuration describes a model that is inconsistent or that this crate does not run.
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What can be run.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The weights lack a tensor that the configuration implies.
    MissingTensor {
        /// The weight or index file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than the configuration implies.
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<u64>,
    },
    /// A tensor is stored in a type that is not read.
    TensorType {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// The tokenizer could not be loaded, or failed on a text.
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What it says.
        problem: String,
    },
    /// A token's id lies beyond the model's embedding table.
    TokenWithoutEmbedding {
        /// The vocabulary piece.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the table.
        limit: usize,
    },
    /// The text has no tokens besides special ones.
    EmptyText,
    /// The text has more tokens than the model has positions.
    TextTooLong {
        /// Tokens of the text, special ones included.
        found: usize,
        /// The most that the model takes.
        limit: usize,
    },
    /// The model cannot predict what was asked for.
    NoPrediction {
        /// What was asked for.
        wanted: &'static str,
        /// What the model predicts instead.
        found: &'static str,
    },
    /// The text has no mask to fill.
    NoMask {
        /// How this model's vocabulary writes one.
        mask: Option<&'static str>,
    },
    /// A request names a part that the text or the model does not have, or too large a one.
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// What there is.
        expected: String,
        /// What the request says.
        found: String,
    },
    /// A file of annotations breaks its format's rules.
    Annotation {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected and what was found.
        problem: String,
    },
    /// A probe cannot be made with this model.
    Probe {
        /// What it lacks, and what to do.
        problem: String,
    },
    /// Memory for a weight could not be allocated.
    AllocationFailed {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The model has no such head.
    NoSuchHead {
        /// The head asked for.
        head: HeadId,
        /// Layers of the model.
        layers: usize,
        /// Query heads of each layer.
        heads: usize,
    },
    /// A frozen attention pattern is of another text length than the one it is used on.
    PatternLength {
        /// The head.
        head: HeadId,
        /// Tokens of the text that the model runs on.
        expected: usize,
        /// Tokens of the text that the pattern comes from.
        found: usize,
    },
    /// What was asked for would take more memory, or room on the disk, than is allowed.
    TooMuchMemory {
        /// What takes it.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// The most that is allowed.
        limit: u64,
        /// What helps.
        remedy: &'static str,
    },
    /// A file of attention matrices is not what it should be.
    Maps {
        /// The file.
        path: PathBuf,
        /// The field, or the head and row.
        field: String,
        /// What can be read, and how to make it.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A file could not be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// One token has no next one to predict.
    NothingToPredict,
    /// A layer of `regard` refused its input, or was asked for something it does not have.
    Attention(AttentionError),
    /// An observer stopped the run.
    Observer(Box<dyn std::error::Error + Send + Sync>),
}

/// Why the Hub did not deliver.
#[derive(Debug)]
#[non_exhaustive]
pub enum HubProblem {
    /// No answer: no network, no such host, nobody listening, or forbidden by `HF_HUB_OFFLINE`.
    Offline {
        /// What the attempt ended with.
        reason: String,
    },
    /// This build has no access to the Hub (cargo feature `hub`).
    NotBuilt,
    /// The repository, its revision, or a file that the model needs is not there.
    NotFound {
        /// The file asked for.
        file: String,
    },
    /// The server answered with another status than success.
    Status {
        /// The file asked for.
        file: String,
        /// The HTTP status.
        status: u16,
    },
    /// A download ended early, or its bytes are not the ones that the server announced.
    BadDownload {
        /// The file.
        file: String,
        /// What happened.
        problem: String,
    },
    /// The repository has no safetensors weights.
    NoSafetensors,
    /// The server's answers are not those of a Hub, or the cache cannot be written.
    Failed {
        /// What happened.
        reason: String,
    },
}

impl LensError {
    /// The message, not yet escaped.
    fn line(&self) -> String {
        match self {
            Self::ModelNotFound { model } => format!(
                "model {model:?}: no such directory, and not a model id either (expected org/name or org/name@revision)"
            ),
            Self::Hub { id, endpoint, problem } => {
                format!("model {id:?}: no such directory; {endpoint}: {problem}")
            }
            Self::NotADirectory { path } => format!(
                "{}: expected a model's directory (config.json, tokenizer.json, model.safetensors), found a file",
                path.display()
            ),
            Self::SeveralModels { dir, found } => format!(
                "{}: expected one .gguf file, found {}; name the file instead of the directory",
                dir.display(),
                found.join(", ")
            ),
            Self::MissingFile { dir, file } => format!(
                "{}: expected a file {file}, found none; download the whole model (config.json, tokenizer.json, model.safetensors)",
                dir.display()
            ),
            Self::Read { path, source } => format!("{}: cannot be read: {source}", path.display()),
            Self::LinkLeavesFolder { path, target } => format!(
                "{}: expected a file inside the model's directory, found a link to {}; copy the file into the directory",
                path.display(),
                target.display()
            ),
            Self::TooLarge { path, what, limit, found } => {
                format!("{}: {what}: expected at most {limit}, found {found}", path.display())
            }
            Self::ForeignFormat { path, format } => format!(
                "{}: expected safetensors, found {format}; convert it with transformers: model.save_pretrained(dir, safe_serialization=True)",
                path.display()
            ),
            Self::Header { path, field, expected, found } => format!(
                "{}: header: {field}: expected {expected}, found {found}; the file is damaged or hostile, download it again",
                path.display()
            ),
            Self::Index { path, field, problem } => {
                format!("{}: {field}: {problem}; download the model again", path.display())
            }
            Self::Json { path, source } => format!("{}: {source}", path.display()),
            Self::Config { path, field, expected, found } => {
                format!("{}: {field}: expected {expected}, found {found}", path.display())
            }
            Self::MissingTensor { path, tensor } => format!(
                "{}: expected a tensor {tensor}, found none; config.json and the weights are not of the same model",
                path.display()
            ),
            Self::TensorShape { path, tensor, expected, found } => format!(
                "{}: tensor {tensor}: expected shape {expected:?}, found {found:?}; config.json and the weights are not of the same model",
                path.display()
            ),
            Self::TensorType { path, tensor, found } => format!(
                "{}: tensor {tensor}: expected F32, F16 or BF16, found {found}; save the model in one of them",
                path.display()
            ),
            Self::Tokenizer { path, problem } => format!("{}: {problem}", path.display()),
            Self::TokenWithoutEmbedding { token, id, limit } => format!(
                "token {token:?}: expected an id below {limit} (rows of the embedding table), found {id}; tokenizer.json and the weights are not of the same model"
            ),
            Self::OutOfRange { what, expected, found } => format!("{what}: expected {expected}, found {found}"),
            Self::EmptyText => "the text is empty; give at least one word".to_owned(),
            Self::TextTooLong { found, limit } => format!(
                "the text has {found} tokens, the model takes at most {limit}; shorten it or use a model with more positions"
            ),
            Self::NoPrediction { wanted, found } => {
                format!("expected a model that predicts {wanted}, found one that predicts {found}; use another model")
            }
            Self::NoMask { mask: Some(mask) } => {
                format!("the text has no {mask} to fill: write {mask} where a word is missing")
            }
            Self::NoMask { mask: None } => {
                "the vocabulary has no [MASK] or <mask>; tokenizer.json and the weights are not of the same model"
                    .to_owned()
            }
            Self::NoSuchHead { head, layers, heads } => format!(
                "no head {head}: the model has L0.H0 to L{}.H{}",
                layers.saturating_sub(1),
                heads.saturating_sub(1)
            ),
            Self::PatternLength { head, expected, found } => format!(
                "the pattern for {head}: expected one of {expected} tokens, as the text has, found one of {found}; take a text with as many tokens"
            ),
            Self::TooMuchMemory { what, needed, limit, remedy } => format!(
                "{what} would take {} MB, the limit is {} MB; {remedy}",
                needed.div_ceil(1_000_000),
                limit / 1_000_000
            ),
            Self::Maps { path, field, expected, found } => {
                format!("{}: {field}: expected {expected}, found {found}", path.display())
            }
            Self::Write { path, source } => format!("cannot write {}: {source}", path.display()),
            Self::NothingToPredict => {
                "one token alone has no next one to predict; give a longer text".to_owned()
            }
            Self::Annotation { path, line, problem } => format!("{}:{line}: {problem}", path.display()),
            Self::Probe { problem } => problem.clone(),
            Self::AllocationFailed { bytes } => format!("could not allocate {bytes} bytes"),
            Self::Attention(error) => error.to_string(),
            Self::Observer(error) => error.to_string(),
        }
    }
}

impl fmt::Display for LensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(&self.line(), f)
    }
}

impl fmt::Display for HubProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALTERNATIVE: &str = "give a model's directory instead (scripts/fetch-minilm makes one)";
        match self {
            Self::Offline { reason } => write!(f, "cannot be reached ({reason}); offline, {ALTERNATIVE}"),
            Self::NotBuilt => write!(f, "this build cannot download (cargo feature `hub`); {ALTERNATIVE}"),
            Self::NotFound { file } => {
                write!(f, "{file}: not found; check the name and the revision, or {ALTERNATIVE}")
            }
            Self::Status { file, status: status @ (401 | 403) } => write!(
                f,
                "{file}: refused (HTTP {status}): no such model, or a private or gated one; download it with `hf download` and give its directory"
            ),
            Self::Status { file, status } => write!(f, "{file}: HTTP {status}; try again, or {ALTERNATIVE}"),
            Self::BadDownload { file, problem } => write!(f, "{file}: {problem}; try again"),
            Self::NoSafetensors => write!(
                f,
                "expected model.safetensors or model.safetensors.index.json, found neither; choose a revision that has one"
            ),
            Self::Failed { reason } => write!(f, "{reason}; try again, or {ALTERNATIVE}"),
        }
    }
}

/// Escapes what a terminal would act on (control, bidirectional and invisible characters, line breaks).
fn write_escaped(line: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write;
    for c in line.chars() {
        match c {
            '\'' | '"' | '\\' => f.write_char(c)?,
            _ => write!(f, "{}", c.escape_debug())?,
        }
    }
    Ok(())
}

impl std::error::Error for LensError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
            Self::Json { source, .. } => Some(source),
            Self::Attention(error) => Some(error),
            Self::Observer(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<AttentionError> for LensError {
    fn from(error: AttentionError) -> Self {
        Self::Attention(error)
    }
}
