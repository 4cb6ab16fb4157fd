//! Who may ask: this machine's own browser, on the page that this run handed out.

use axum::http::{HeaderMap, Method, header};

/// Bytes of a run's token.
const TOKEN_BYTES: usize = 16;

/// What every request is held against.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    token: String,
    /// `127.0.0.1:8080` and `localhost:8080`.
    hosts: [String; 2],
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A name that is not ours leads here: another site's, perhaps (DNS rebinding).
    Host,
    /// Another page sends the browser here.
    Origin,
    /// The address is not the one that was printed.
    Token,
}

impl Guard {
    /// A new token for a port, from the system's random numbers.
    pub(super) fn new(port: u16) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { token, hosts: ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}")) })
    }

    /// Where the page is.
    pub(super) fn address(&self) -> String {
        format!("http://{}/{}/", self.hosts[0], self.token)
    }

    /// Where its form goes.
    pub(super) fn form_path(&self) -> String {
        format!("/{}/look", self.token)
    }

    /// Lets a request pass whose `Host` is this machine, whose `Origin` (which a form must have) is this page, and
    /// whose path begins with the token.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap, path: &str) -> Result<(), Refusal> {
        let only = |name| {
            let mut values = headers.get_all(name).iter();
            let first = values.next().and_then(|value| value.to_str().ok());
            first.filter(|_| values.next().is_none())
        };
        let is_ours = |host: &str| self.hosts.iter().any(|ours| ours == host);
        if !only(header::HOST).is_some_and(is_ours) {
            return Err(Refusal::Host);
        }
        let origin = only(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
        let has_origin = headers.contains_key(header::ORIGIN);
        if has_origin && !origin.is_some_and(is_ours) || !has_origin && method != Method::GET {
            return Err(Refusal::Origin);
        }
        let token = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
        if same(token.as_bytes(), self.token.as_bytes()) { Ok(()) } else { Err(Refusal::Token) }
    }
}

/// Equality that takes as long wherever the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn check(method: Method, host: &str, origin: Option<&str>, path: &str) -> Result<(), Refusal> {
        let guard = Guard { token: "abc".into(), hosts: ["127.0.0.1:80".into(), "localhost:80".into()] };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        guard.check(&method, &headers, path)
    }

    #[test]
    fn check__the_page_itself__passes() {
        assert_eq!(check(Method::GET, "127.0.0.1:80", None, "/abc/"), Ok(()));
        assert_eq!(check(Method::POST, "localhost:80", Some("http://localhost:80"), "/abc/look"), Ok(()));
    }

    #[test]
    fn check__another_name_or_page__is_turned_away() {
        for host in ["evil.example:80", "127.0.0.1", "127.0.0.1:81", "localhost:80.evil.example", ""] {
            assert_eq!(check(Method::GET, host, None, "/abc/"), Err(Refusal::Host), "{host}");
        }
        for origin in [None, Some("null"), Some("http://evil.example"), Some("https://localhost:80")] {
            let found = check(Method::POST, "localhost:80", origin, "/abc/look");
            assert_eq!(found, Err(Refusal::Origin), "{origin:?}");
        }
        assert_eq!(
            check(Method::GET, "localhost:80", Some("http://evil.example"), "/abc/"),
            Err(Refusal::Origin)
        );
    }

    #[test]
    fn check__two_hosts__are_turned_away() {
        let guard = Guard { token: "abc".into(), hosts: ["127.0.0.1:80".into(), "localhost:80".into()] };
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "localhost:80".parse().unwrap());
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert_eq!(guard.check(&Method::GET, &headers, "/abc/"), Err(Refusal::Host));
    }

    #[test]
    fn check__wrong_token__is_turned_away() {
        for path in ["/", "/ab/", "/abcd/", "/ABC/", "//abc/", "/%61bc/", ""] {
            assert_eq!(check(Method::GET, "localhost:80", None, path), Err(Refusal::Token), "{path}");
        }
    }

    #[test]
    fn new__each_run__has_another_token_of_128_bits() {
        let (one, other) = (Guard::new(80).unwrap(), Guard::new(80).unwrap());
        assert_eq!(one.token.len(), 32);
        assert_ne!(one.token, other.token);
        assert!(one.address().starts_with("http://127.0.0.1:80/") && one.form_path().ends_with("/look"));
    }
}
