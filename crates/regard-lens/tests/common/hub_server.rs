//! As much of a Hugging Face Hub as a download needs, on the loopback interface.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

/// How a file is answered where that is not as a Hub would.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// The headers, half of the body, and the end.
    CutOff,
    /// The whole file whatever range is asked for (except for the first byte alone, which asks for the size).
    WholeFile,
    /// The bytes, without a Hub's headers.
    Plain,
    Etag(&'static str),
    Commit(&'static str),
    /// Not HTTP.
    Nonsense,
}

/// The repository `some-org/tiny-bert`, to be filled and then started.
pub struct HubServer {
    files: HashMap<String, Vec<u8>>,
    /// Files that lie at another address, by their names there.
    redirected: HashMap<String, Vec<u8>>,
    announced_sha256: HashMap<String, String>,
    answers: HashMap<String, Answer>,
    pub revision: String,
    /// After so many requests the branch points at another commit.
    pub move_after: Option<usize>,
}

/// A server that runs until it is dropped.
pub struct Running {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    pub fn new() -> Self {
        Self {
            files: HashMap::new(),
            redirected: HashMap::new(),
            announced_sha256: HashMap::new(),
            answers: HashMap::new(),
            revision: "main".to_owned(),
            move_after: None,
        }
    }

    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), bytes);
    }

    pub fn answer(&mut self, name: &str, answer: Answer) {
        self.answers.insert(name.to_owned(), answer);
    }

    /// Serves a file as the Hub serves large ones: from another address, with its SHA-256 as etag.
    pub fn redirect(&mut self, name: &str, bytes: Vec<u8>) {
        self.announced_sha256.insert(name.to_owned(), sha256(&bytes));
        self.redirected.insert(name.to_owned(), bytes);
    }

    /// Other bytes behind the redirection than were announced.
    pub fn replace_redirected(&mut self, name: &str, bytes: Vec<u8>) {
        self.redirected.insert(name.to_owned(), bytes);
    }

    pub fn start(self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (requests, stop) = (Arc::clone(&requests), Arc::clone(&stop));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that has gone away is its own business.
                    let _ = self.serve(stream.unwrap(), address, &requests);
                }
            }
        });
        Running { address, requests, stop, thread: Some(thread) }
    }

    fn serve(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        requests: &Mutex<Vec<String>>,
    ) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut start = None;
        let mut only_first_byte = false;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            assert!(!line.starts_with("authorization:"), "a token was sent");
            if let Some(range) = line.strip_prefix("range: bytes=") {
                start = range.split('-').next().and_then(|start| start.parse::<usize>().ok());
                only_first_byte = range == "0-0";
            }
            if line.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(path.clone());
            requests.len()
        };
        let commit = if self.move_after.is_some_and(|after| number > after) {
            "b2".repeat(20)
        } else {
            "a1".repeat(20)
        };

        if let Some(bytes) = path.strip_prefix("/elsewhere/").and_then(|name| self.redirected.get(name)) {
            return send(&mut stream, &[], bytes, start, only_first_byte);
        }
        let prefix = format!("/some-org/tiny-bert/resolve/{}/", self.revision);
        let name = path.strip_prefix(&prefix).unwrap_or_default();
        let mut etag = self.files.get(name).map(|bytes| sha256(bytes)[..40].to_owned()).unwrap_or_default();
        let mut commit = commit;
        match self.answers.get(name) {
            Some(Answer::Status(status)) => return send_status(&mut stream, *status, ""),
            Some(Answer::Nonsense) => return stream.write_all(b"220 mail.example ESMTP\r\n"),
            Some(Answer::Etag(other)) => etag = (*other).to_owned(),
            Some(Answer::Commit(other)) => commit = (*other).to_owned(),
            _ => {}
        }
        if let Some(hash) = self.announced_sha256.get(name) {
            let headers = format!(
                "location: http://{address}/elsewhere/{name}\r\nx-linked-etag: \"{hash}\"\r\nx-repo-commit: {commit}\r\n"
            );
            return send_status(&mut stream, 302, &headers);
        }
        let Some(bytes) = self.files.get(name) else {
            return send_status(&mut stream, 404, "");
        };
        let headers = [format!("etag: \"{etag}\""), format!("x-repo-commit: {commit}")];
        match self.answers.get(name) {
            Some(Answer::Plain) => send(&mut stream, &[], bytes, start, only_first_byte),
            Some(Answer::WholeFile) if !only_first_byte => send(&mut stream, &headers, bytes, None, false),
            Some(Answer::CutOff) if !only_first_byte => {
                let len = bytes.len();
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n")?;
                stream.write_all(&bytes[..len / 2])
            }
            _ => send(&mut stream, &headers, bytes, start, only_first_byte),
        }
    }
}

impl Running {
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn num_requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub fn asked_for(&self, part: &str) -> bool {
        self.requests.lock().unwrap().iter().any(|path| path.contains(part))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

fn send(
    stream: &mut TcpStream,
    headers: &[String],
    bytes: &[u8],
    start: Option<usize>,
    only_first_byte: bool,
) -> std::io::Result<()> {
    let total = bytes.len();
    let from = start.unwrap_or(0).min(total);
    let body = if only_first_byte { &bytes[..1] } else { &bytes[from..] };
    let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n", body.len())?;
    if start.is_some() {
        write!(stream, "content-range: bytes {from}-{}/{total}\r\n", from + body.len() - 1)?;
    }
    for header in headers {
        write!(stream, "{header}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(body)
}

fn send_status(stream: &mut TcpStream, status: u16, headers: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} -\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
