//! Downloads through `hf-hub`, into the cache that Hugging Face's own tools share.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::DEFAULT_ENDPOINT;
use super::model_id::{ModelId, is_plain};
use crate::error::{HubProblem, LensError};
use crate::files::{INDEX_FILE, Origin, SINGLE_FILE, sha256, shard_names};

/// How long the server's first answer may take before we call it out of reach: without a limit, a network that
/// swallows packets would be waited for some minutes.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// The Hugging Face Hub, or a mirror of it, and the local cache.
///
/// Only public models: no access token is read or sent. Progress is drawn on standard error if that is a
/// terminal.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    offline: bool,
}

impl Hub {
    /// A server (as in `https://huggingface.co`) and a cache directory.
    pub fn new(endpoint: &str, cache: &Path) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, cache: cache.to_owned(), offline: false }
    }

    /// The Hub that the environment describes, by the variables of Hugging Face's own tools: the server
    /// `HF_ENDPOINT`; the cache `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in
    /// `XDG_CACHE_HOME` or `~/.cache`; and `HF_HUB_OFFLINE=1`, which allows only what is cached.
    ///
    /// # Errors
    /// [`LensError::Hub`] if there is no place for a cache.
    pub fn from_env() -> Result<Self, LensError> {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, LensError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let path = |name| variable(name).map(PathBuf::from);
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let default_home = || {
            let home = home.filter(|home| !home.as_os_str().is_empty());
            let caches = path("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        };
        let in_home = || path("HF_HOME").or_else(default_home).map(|home| home.join("hub"));
        let Some(cache) = path("HF_HUB_CACHE").or_else(in_home) else {
            let reason = "no home directory for the cache; set HF_HOME".to_owned();
            return Err(LensError::Hub {
                id: String::new(),
                endpoint,
                problem: HubProblem::Failed { reason },
            });
        };
        let on = ["1", "true", "yes", "on"];
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| on.contains(&value.to_lowercase().as_str()));
        Ok(Self { offline, ..Self::new(&endpoint, &cache) })
    }

    /// The directory of a model (`org/name` or `org/name@revision`) in the cache, downloaded if need be.
    ///
    /// What is cached is used without asking the server.
    ///
    /// # Errors
    /// [`LensError::ModelNotFound`] if the id is not of that form; [`LensError::Hub`].
    pub fn fetch(&self, id: &str) -> Result<PathBuf, LensError> {
        self.fetch_model(&ModelId::parse(id)?)
    }

    /// Works in a thread of its own: its first answer can be waited for with a limit, and `hf-hub`, which panics
    /// on some answers that no Hub gives, cannot take the caller down.
    pub(super) fn fetch_model(&self, id: &ModelId) -> Result<PathBuf, LensError> {
        let (sender, receiver) = mpsc::channel();
        let (hub, model) = (self.clone(), id.clone());
        thread::spawn(move || {
            let result = hub.download(&model, &sender);
            // Nobody listens any more if the first answer came too late.
            let _ = sender.send(Progress::Done(result));
        });
        let mut wait = receiver.recv_timeout(FIRST_ANSWER);
        while let Ok(Progress::Answered) = wait {
            wait = receiver.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        let result = match wait {
            Ok(Progress::Done(result)) => result,
            Ok(Progress::Answered) | Err(RecvTimeoutError::Disconnected) => {
                Err(HubProblem::Failed { reason: "the server's answers are not those of a Hub".to_owned() })
            }
            Err(RecvTimeoutError::Timeout) => {
                let reason = format!("no answer within {} seconds", FIRST_ANSWER.as_secs());
                Err(HubProblem::Offline { reason })
            }
        };
        let (id, endpoint) = (id.to_string(), self.endpoint.clone());
        result.map_err(|problem| LensError::Hub { id, endpoint, problem })
    }

    fn download(&self, id: &ModelId, progress: &Sender<Progress>) -> Result<PathBuf, HubProblem> {
        let cache = Cache::new(self.cache.clone());
        let revision = id.revision.clone().unwrap_or_else(|| "main".to_owned());
        let repo = Repo::with_revision(id.repository.clone(), RepoType::Model, revision);
        let api = ApiBuilder::from_cache(cache.clone())
            .with_token(None)
            .with_endpoint(self.endpoint.clone())
            .build()
            .map_err(|error| problem("", error))?;
        let source = Source {
            remote: api.repo(repo.clone()),
            api,
            cache: cache.repo(repo),
            offline: self.offline,
            progress,
        };
        // The branch may move between two files; then the second round finds all of them at its new place.
        for _ in 0..2 {
            if let Some(dir) = source.fetch_all()? {
                return Ok(dir);
            }
        }
        Err(HubProblem::Failed { reason: "the model changed during the download".to_owned() })
    }
}

enum Progress {
    /// The server has answered for the first time, or again.
    Answered,
    Done(Result<PathBuf, HubProblem>),
}

/// One repository.
struct Source<'a> {
    api: Api,
    remote: ApiRepo,
    cache: CacheRepo,
    offline: bool,
    progress: &'a Sender<Progress>,
}

impl Source<'_> {
    /// Every file that a model needs; `None` if they are not of one revision.
    fn fetch_all(&self) -> Result<Option<PathBuf>, HubProblem> {
        let mut paths = vec![self.fetch("config.json")?, self.fetch("tokenizer.json")?];
        let single = match (self.cache.get(SINGLE_FILE), self.cache.get(INDEX_FILE)) {
            // A cached index says that there is no single file, without asking the server.
            (None, Some(_)) => None,
            _ => absent_as_none(self.fetch(SINGLE_FILE))?,
        };
        match single {
            Some(path) => paths.push(path),
            None => {
                let index = absent_as_none(self.fetch(INDEX_FILE))?.ok_or(HubProblem::NoSafetensors)?;
                let shards =
                    shard_names(&index).map_err(|error| HubProblem::Failed { reason: error.to_string() })?;
                paths.push(index);
                for shard in shards {
                    paths.push(self.fetch(&shard)?);
                }
            }
        }
        let mut dirs: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
        Ok(dirs.pop_first().filter(|_| dirs.is_empty()).map(Path::to_owned))
    }

    fn fetch(&self, file: &str) -> Result<PathBuf, HubProblem> {
        if let Some(path) = self.cache.get(file) {
            return Ok(path);
        }
        if self.offline {
            let reason = format!("HF_HUB_OFFLINE is set and {file} is not in the cache");
            return Err(HubProblem::Offline { reason });
        }
        let metadata = self.api.metadata(&self.remote.url(file)).map_err(|error| problem(file, error))?;
        // A fetch that nobody waits for any more goes on, for the next run.
        let _ = self.progress.send(Progress::Answered);
        // hf-hub makes paths of these two; a server must not choose them freely.
        let etag = metadata.etag();
        if !is_plain(metadata.commit_hash()) || !is_plain(etag.strip_prefix("W/").unwrap_or(etag)) {
            let reason = format!("{file}: the server's commit or etag is not a plain name");
            return Err(HubProblem::Failed { reason });
        }
        let path = self.remote.download(file).map_err(|error| {
            if matches!(error, ApiError::InvalidResume) {
                remove(&self.cache.blob_path(etag).with_extension("part"));
            }
            problem(file, error)
        })?;
        verify(&path, metadata.size() as u64, etag).map_err(|problem| {
            if let Ok(blob) = path.canonicalize() {
                remove(&blob);
            }
            remove(&path);
            HubProblem::BadDownload { file: file.to_owned(), problem }
        })?;
        Ok(path)
    }
}

/// Holds a downloaded file to the announced length and, where the etag is its SHA-256 (large files), to that.
fn verify(path: &Path, size: u64, etag: &str) -> Result<(), String> {
    let found = path.metadata().map_err(|error| error.to_string())?.len();
    if found != size {
        return Err(format!("expected {size} bytes, found {found}"));
    }
    if etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let found = sha256(&[Origin::File(path.to_owned())]).map_err(|error| error.to_string())?;
        if found != etag.to_ascii_lowercase() {
            return Err(format!("expected SHA-256 {etag}, found {found}"));
        }
    }
    Ok(())
}

/// Removes a spoilt file from the cache. Failing is no harm: the next run meets it again and says so again.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn absent_as_none(result: Result<PathBuf, HubProblem>) -> Result<Option<PathBuf>, HubProblem> {
    match result {
        Ok(path) => Ok(Some(path)),
        Err(HubProblem::NotFound { .. }) => Ok(None),
        Err(problem) => Err(problem),
    }
}

fn problem(file: &str, error: ApiError) -> HubProblem {
    let file = file.to_owned();
    let error = match error {
        ApiError::RequestError(error) => *error,
        ApiError::IoError(error) => {
            return HubProblem::BadDownload { file, problem: format!("the download failed: {error}") };
        }
        ApiError::InvalidResume => {
            return HubProblem::BadDownload {
                file,
                problem: "an earlier download left a wrong part, now removed".to_owned(),
            };
        }
        other => return HubProblem::Failed { reason: format!("{file}: {other}") },
    };
    match error {
        ureq::Error::StatusCode(404) => HubProblem::NotFound { file },
        ureq::Error::StatusCode(status) => HubProblem::Status { file, status },
        ureq::Error::Io(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(_) => HubProblem::Offline { reason: error.to_string() },
        other => HubProblem::Failed { reason: format!("{file}: {other}") },
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn hub(variables: &[(&str, &str)], home: Option<&str>) -> Result<Hub, LensError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Hub::from_variables(|name| variables.get(name).map(OsString::from), home.map(PathBuf::from))
    }

    #[test]
    fn hub__environment__decides_cache_and_server_as_in_hugging_faces_tools() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")], "/c"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "relative")], "relative/hub"),
        ];
        for (variables, cache) in cases {
            let hub = hub(variables, Some("/home/me")).unwrap();
            assert_eq!(hub.cache, Path::new(cache), "{variables:?}");
            assert_eq!(hub.endpoint, "https://huggingface.co");
            assert!(!hub.offline);
        }
        let hub =
            hub(&[("HF_ENDPOINT", "http://127.0.0.1:9/"), ("HF_HUB_OFFLINE", "YES")], Some("/")).unwrap();
        assert_eq!((hub.endpoint.as_str(), hub.offline), ("http://127.0.0.1:9", true));
    }

    #[test]
    fn hub__no_home_and_no_variable__says_what_to_set() {
        for home in [None, Some("")] {
            let line = hub(&[], home).unwrap_err().to_string();
            assert!(line.contains("set HF_HOME"), "{line}");
        }
        assert!(hub(&[("HF_HOME", "/h")], None).is_ok());
    }
}
