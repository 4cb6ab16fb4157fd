//! The page itself: one file that loads nothing, runs only the script whose hash it names, and says so to the browser.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::LiveForm;

const BODY: &str = include_str!("assets/body.html");
const STYLE: &str = include_str!("assets/page.css");
/// One function around all, so that no name leaves it.
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("assets/decode.js"),
    include_str!("assets/state.js"),
    include_str!("assets/drawing.js"),
    include_str!("assets/grid.js"),
    include_str!("assets/text.js"),
    include_str!("assets/card.js"),
    include_str!("assets/export.js"),
    include_str!("assets/main.js"),
    "})();\n",
);

/// Bytes of what is the same on every page.
pub(super) const FIXED_BYTES: usize = BODY.len() + STYLE.len() + SCRIPT.len();

/// What stands on the page before any script has run.
pub(super) struct Static<'a> {
    /// Plain text.
    pub(super) title: &'a str,
    /// Plain text.
    pub(super) about: &'a str,
    /// Rows of a table, HTML.
    pub(super) table: &'a str,
    /// Plain text.
    pub(super) table_note: &'a str,
    /// On a page that is served, and the text that the form begins with.
    pub(super) form: Option<(&'a LiveForm<'a>, &'a str)>,
}

const FILE_PROMISE: &str = "This file contains the text that was looked into. It loads nothing and sends nothing; mind whom you give it to.";
const LIVE_PROMISE: &str = "What you type goes to the regard that runs on this machine, and nowhere else. A page that you save contains the text.";

fn form(live: &LiveForm<'_>, text: &str) -> String {
    let mut options = String::new();
    for (place, model) in live.models.iter().enumerate() {
        let selected = if place == live.chosen { " selected" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(options, "<option value=\"{place}\"{selected}>{}</option>", escape(model));
    }
    // A parser drops the line break after the tag.
    format!(
        "<form class=\"ask\" aria-label=\"Look into a text\" method=\"post\" action=\"{}\">\
         <label class=\"ask-text\">Text<textarea name=\"text\" rows=\"2\" required>\n{}</textarea></label>\
         <label>Model<select name=\"model\">{options}</select></label><button>Look</button></form>",
        escape(live.path),
        escape(text)
    )
}

/// The whole page; `data` is JSON without `<`.
pub(super) fn document(page: &Static<'_>, data: &str) -> String {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action {}",
        source_hash(SCRIPT),
        source_hash(STYLE),
        if page.form.is_some() { "'self'" } else { "'none'" }
    );
    // A form that hides where it comes from would be turned away.
    let referrer = if page.form.is_some() { "same-origin" } else { "no-referrer" };
    let promise = if page.form.is_some() { LIVE_PROMISE } else { FILE_PROMISE };
    let form = page.form.map_or_else(String::new, |(live, text)| form(live, text));
    let (title, about) = (escape(page.title), escape(page.about));
    let mut html = String::with_capacity(FIXED_BYTES + data.len() + page.table.len() + 2_000);
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"{referrer}\">\n\
         <!-- Written by regard {}. This file contains the text that was looked into. -->\n\
         <title>{title} · regard</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        env!("CARGO_PKG_VERSION"),
    );
    for part in BODY.split_inclusive("}}") {
        let (text, name) = part.rsplit_once("{{").unwrap_or((part, ""));
        html.push_str(text);
        html.push_str(match name {
            "title}}" => &title,
            "about}}" => &about,
            "table}}" => page.table,
            "table_note}}" => page.table_note,
            "form}}" => &form,
            "promise}}" => promise,
            _ => "",
        });
    }
    let _ = write!(
        html,
        "<script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    html
}

/// Text as HTML, between tags or in an attribute's double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn source_hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source.as_bytes())))
}

pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn sample() -> String {
        let page = Static { title: "<m>", about: "a & b", table: "<tr></tr>", table_note: "", form: None };
        document(&page, "{\"schema\":1}")
    }

    /// What stands between `start` and `end`.
    fn between<'a>(html: &'a str, start: &str, end: &str) -> &'a str {
        let from = html.find(start).expect(start) + start.len();
        &html[from..from + html[from..].find(end).expect(end)]
    }

    #[test]
    fn document__policy__names_the_hashes_of_what_is_there_and_nothing_else() {
        let html = sample();
        let policy = between(&html, "Content-Security-Policy\" content=\"", "\"");
        let script = between(&html, "<script>", "</script>");
        let style = between(&html, "<style>", "</style>");
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
                source_hash(script),
                source_hash(style)
            )
        );
    }

    #[test]
    fn source_hash__known_text__is_its_sha256_in_base64() {
        // printf abc | openssl dgst -sha256 -binary | base64
        assert_eq!(source_hash("abc"), "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert!(hex_sha256(b"abc").starts_with("ba7816bf"));
    }

    #[test]
    fn document__its_own_code__ends_where_its_tags_do_and_writes_no_markup() {
        let html = sample();
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script").count(), 2);
        assert_eq!(html.matches("</style").count(), 1);
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "setTimeout(\""]
        {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
        for outside in ["http://", "https://", "url(", "@import", "fetch(", "XMLHttpRequest"] {
            let code = SCRIPT.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !code.contains(outside) && !STYLE.contains(outside) && !BODY.contains(outside),
                "{outside}"
            );
        }
    }

    #[test]
    fn document__places__are_filled_once_and_escaped() {
        let html = sample();
        assert!(!html.contains("{{") && html.contains("<tr></tr>"));
        assert!(html.contains("<title>&lt;m&gt; · regard</title>") && html.contains("a &amp; b"));
    }

    #[test]
    fn document__with_a_form__sends_to_itself_alone_and_holds_the_text_as_text() {
        let live = LiveForm { path: "/abc/look", models: vec!["a", "<b>"], chosen: 1 };
        let form = Some((&live, "\n</textarea><script>"));
        let page = Static { title: "m", about: "", table: "", table_note: "", form };
        let html = document(&page, "{}");
        assert!(html.contains("form-action 'self'") && html.contains("content=\"same-origin\""));
        assert!(html.contains("required>\n\n&lt;/textarea&gt;&lt;script&gt;</textarea>"));
        assert!(html.contains("<option value=\"1\" selected>&lt;b&gt;</option>"));
        assert!(sample().contains("form-action 'none'") && !sample().contains("<form"));
    }

    #[test]
    fn escape__markup_and_quotes__are_text() {
        assert_eq!(escape("<a b=\"'\">&"), "&lt;a b=&quot;&#39;&quot;&gt;&amp;");
    }
}
