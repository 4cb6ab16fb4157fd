//! `regard serve` as a browser, and as who should not, sees it.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A server that stops with the test.
struct Server {
    child: Child,
    host: String,
    /// `/…/`
    path: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// A server of all-MiniLM-L6-v2, if it has been fetched; else says that the test is skipped.
    fn start() -> Option<Self> {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/all-MiniLM-L6-v2");
        if !model.join("model.safetensors").is_file() {
            eprintln!("SKIPPED: serve: no model in {}; run scripts/fetch-minilm", model.display());
            return None;
        }
        Some(Self::of(Some(model)))
    }

    /// A server of a model, or of the one that it takes by itself.
    fn of(model: Option<PathBuf>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regard"));
        command.args(["serve", "--max-tokens", "200"]);
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("the address comes first");
        let (host, path) = address.split_once('/').unwrap();
        Self { child, host: host.to_owned(), path: format!("/{path}") }
    }

    /// Status and all that came back.
    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).expect("UTF-8");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer)
    }

    fn get(&self, host: &str, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    }

    fn post(&self, origin: &str, form: &str) -> (u16, String) {
        let Self { host, path, .. } = self;
        let len = form.len();
        self.send(&format!(
            "POST {path}look HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {len}\r\nConnection: close\r\n\r\n{form}"
        ))
    }

    fn own_origin(&self) -> String {
        format!("Origin: http://{}\r\n", self.host)
    }
}

#[test]
fn serve__its_own_page__shows_the_text_that_was_sent() {
    let Some(server) = Server::start() else { return };
    let (status, page) = server.get(&server.host, &server.path);
    assert_eq!(status, 200);
    assert!(page.contains("form-action 'self'") && page.contains("frame-ancestors 'none'"), "policies");
    assert!(page.contains("no-store") && page.contains("\"regard-page/1\""));
    let (status, page) =
        server.post(&server.own_origin(), "model=0&text=Birds+sing+%3Cb%3E+because+they+can");
    assert_eq!(status, 200);
    assert!(page.contains("\nBirds sing &lt;b&gt; because they can</textarea>"), "the form holds it");
    assert!(!page.contains("<b>"));
}

#[test]
fn serve__who_is_not_the_page__is_turned_away() {
    let Some(server) = Server::start() else { return };
    let Server { host, path, .. } = &server;
    assert_eq!(server.get("evil.example", path).0, 403);
    assert_eq!(server.get("localhost", path).0, 403, "without its port");
    assert_eq!(server.get(host, "/").0, 404);
    assert_eq!(
        server.get(host, &format!("{}0/", &path[..path.len() - 2])).0,
        if path.ends_with("0/") { 200 } else { 404 }
    );
    assert_eq!(server.get(host, &format!("{path}../../etc/passwd")).0, 404);
    assert_eq!(server.get(host, "/favicon.ico").0, 204);
    for origin in ["", "Origin: null\r\n", "Origin: http://evil.example\r\n", "Origin: https://localhost\r\n"]
    {
        assert_eq!(server.post(origin, "model=0&text=a").0, 403, "{origin}");
    }
}

#[test]
fn serve__requests_that_make_no_sense__are_refused_and_it_goes_on() {
    let Some(server) = Server::start() else { return };
    let own = server.own_origin();
    for (form, expected) in [
        ("model=1&text=a", 400),
        ("model=-1&text=a", 422),
        ("model=%2Fetc%2Fpasswd&text=a", 422),
        ("text=a", 422),
        ("model=0", 422),
        ("model=0&text=", 400),
        ("model=0&text=+%0D%0A+", 400),
    ] {
        let (status, answer) = server.post(&own, form);
        assert_eq!(status, expected, "{form}: {answer}");
    }
    let (status, answer) = server.post(&own, &format!("model=0&text={}", "word+".repeat(300)));
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("at most 200"), "{answer}");
    let (status, _) = server.post(&own, &format!("model=0&text={}", "a".repeat(300_000)));
    assert_eq!(status, 413);
    assert_eq!(server.post(&own, "model=0&text=still+here").0, 200);
}

#[cfg(unix)]
#[test]
fn serve__interrupt__ends_it_without_an_error() {
    let Some(mut server) = Server::start() else { return };
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(&server.host).is_err(), "nobody listens any more");
}

#[cfg(feature = "builtin")]
#[test]
fn serve__without_a_model__serves_the_built_in_one() {
    let server = Server::of(None);
    let (status, page) = server.get(&server.host, &server.path);
    assert_eq!(status, 200);
    assert!(page.contains("built-in small model"), "{page}");
}

#[test]
fn serve__model_that_is_not_there__is_refused() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_regard")).args(["serve", "--model", "./nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere"));
}
