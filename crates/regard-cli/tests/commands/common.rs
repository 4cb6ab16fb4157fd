//! Running the command as its users do.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The line of a run that was refused with this code: the only thing that it wrote.
    #[track_caller]
    pub(crate) fn refusal(self, code: i32) -> String {
        let said = self.stderr;
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{said}");
        let line = said.strip_suffix('\n').expect("the message ends its line");
        assert!(line.starts_with("regard: ") && !line.chars().any(char::is_control), "{line:?}");
        line.to_owned()
    }

    /// What a successful run wrote.
    pub(crate) fn written(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }
}

/// The command without the caller's settings for colour and width.
pub(crate) fn regard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regard"));
    for variable in ["NO_COLOR", "COLORTERM", "COLUMNS", "TERM"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A tiny model that is always there.
pub(crate) fn tiny(name: &str) -> PathBuf {
    workspace().join("golden/tiny").join(name)
}

/// The text without the SGR sequences; any other control character but a line break is an error.
pub(crate) fn without_styles(written: &str) -> String {
    let mut plain = String::new();
    let mut parts = written.split("\x1b[");
    plain += parts.next().unwrap_or_default();
    for part in parts {
        let (style, rest) = part.split_once('m').expect("only SGR sequences");
        assert!(style.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'), "{style:?}");
        plain += rest;
    }
    assert!(!plain.chars().any(|c| c.is_control() && c != '\n'), "{plain:?}");
    plain
}

/// The folder of all-MiniLM-L6-v2, if it has been fetched; else says that the test is skipped.
pub(crate) fn minilm() -> Option<PathBuf> {
    let folder = workspace().join("models/all-MiniLM-L6-v2");
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED: {test}: no model in {}; run scripts/fetch-minilm", folder.display());
    None
}
