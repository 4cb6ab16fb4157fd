//! `regard serve`: the page, live on this machine. A browser sends a text and the number of a model that was loaded at
//! the start; it names no file and no id.

mod guard;

use std::io::{Write, stdout};
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use regard_lens::Model;
use regard_lens::profile::ProfileOptions;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::guard::{Guard, Refusal};
use crate::arguments::ServeArguments;
use crate::failure::Failure;
use crate::focus::default_focus;
use crate::model;
use crate::page::{LiveForm, PageRequest, live_page};

/// The most bytes of a form; a byte of text may take three.
const MAX_FORM_BYTES: usize = 256 << 10;

/// What the page opens with.
const FIRST_TEXT: &str = "The cat sat on the mat because it was tired";

/// What requests share.
struct Served {
    models: Vec<Model>,
    max_tokens: usize,
    guard: Guard,
    /// One run at a time: each takes all processors.
    turn: Semaphore,
}

/// What the browser sends.
#[derive(Deserialize)]
struct Ask {
    text: String,
    model: usize,
}

pub(crate) fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let models = match arguments.model.as_slice() {
        [] => vec![model::load(None)?],
        names => names.iter().map(|name| model::load(Some(name))).collect::<Result<_, _>>()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(listen(models, arguments))
}

async fn listen(models: Vec<Model>, arguments: &ServeArguments) -> Result<(), Failure> {
    let port = arguments.port;
    let cannot =
        |error: std::io::Error| Failure::failed(format!("cannot listen on 127.0.0.1:{port}: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    let guard = Guard::new(port).map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
    let address = guard.address();
    let served =
        Arc::new(Served { models, max_tokens: arguments.max_tokens, guard, turn: Semaphore::new(1) });
    // Before anybody can know that there is something to stop.
    let stopped = stopped();
    writeln!(stdout(), "{address}\nonly for this machine, until Ctrl-C")?;
    stdout().flush()?;
    axum::serve(listener, router(served))
        .with_graceful_shutdown(stopped)
        .await
        .map_err(|error| Failure::failed(format!("stopped serving: {error}")))
}

/// Ends when the user, or the system, asks to stop, at any time from this call on; runs that have begun are finished.
fn stopped() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let signals = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    };
    async move {
        #[cfg(unix)]
        match signals {
            (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            // Without handlers, the system's own end the process.
            _ => std::future::pending().await,
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

fn router(served: Arc<Served>) -> Router {
    Router::new()
        .route("/{token}/", get(first))
        .route("/{token}/look", post(look))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn_with_state(served.clone(), guarded))
        .with_state(served)
}

/// Lets nothing in that the guard turns away, and nothing out without the headers that keep the page to itself.
async fn guarded(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let mut response = match served.guard.check(request.method(), request.headers(), path) {
        // What browsers ask for by themselves.
        Err(Refusal::Token) if path == "/favicon.ico" => StatusCode::NO_CONTENT.into_response(),
        Err(Refusal::Token) => problem(StatusCode::NOT_FOUND, "not here: use the address that was printed"),
        Err(Refusal::Host | Refusal::Origin) => problem(StatusCode::FORBIDDEN, "not for other sites"),
        Ok(()) => next.run(request).await,
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn first(State(served): State<Arc<Served>>) -> Response {
    answer(served, Ask { text: FIRST_TEXT.to_owned(), model: 0 }).await
}

async fn look(State(served): State<Arc<Served>>, Form(ask): Form<Ask>) -> Response {
    answer(served, ask).await
}

async fn answer(served: Arc<Served>, ask: Ask) -> Response {
    let Ok(_turn) = served.turn.try_acquire() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "busy with another text; try again");
    };
    let running = served.clone();
    match tokio::task::spawn_blocking(move || run(&running, &ask)).await {
        Ok(Ok(html)) => {
            let html =
                (StatusCode::OK, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], Body::from(html));
            html.into_response()
        }
        Ok(Err(Failure::Usage(message))) => problem(StatusCode::BAD_REQUEST, &message),
        Ok(Err(Failure::Failed(message))) => problem(StatusCode::UNPROCESSABLE_ENTITY, &message),
        Ok(Err(Failure::NobodyListens)) | Err(_) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the run broke off")
        }
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    let message = format!("{}\n", crate::visible::visible(message));
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], message).into_response()
}

fn run(served: &Served, ask: &Ask) -> Result<String, Failure> {
    let model = served
        .models
        .get(ask.model)
        .ok_or_else(|| Failure::usage("no such model was loaded at the start"))?;
    // Browsers send line breaks as CR LF.
    let text = ask.text.replace("\r\n", "\n");
    let text = model.tokenize(text.trim_end_matches('\n'))?;
    let tokens = text.tokens.len();
    if tokens > served.max_tokens {
        let most = served.max_tokens;
        return Err(Failure::usage(format!(
            "the text has {tokens} tokens; at most {most} are read here (--max-tokens)"
        )));
    }
    let focus = default_focus(&text, model.info().causal)
        .ok_or_else(|| Failure::usage("the text has no tokens of its own: give at least one word"))?;
    let options = ProfileOptions::default();
    let request = PageRequest { model, text: &text, focus: focus.token, head: None, options };
    let names = served.models.iter().map(|model| model.info().name.as_str()).collect();
    let path = served.guard.form_path();
    live_page(&request, &LiveForm { path: &path, models: names, chosen: ask.model })
}
