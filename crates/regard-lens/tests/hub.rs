//! Models by id from a Hub, which here is a server on the loopback interface. Nothing else is reached.
#![cfg(feature = "hub")]
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use std::path::{Path, PathBuf};

use common::hub_server::{Answer, HubServer};
use common::tiny::{TempDir, TinyBert, load_and_run};
use regard_lens::{Hub, HubProblem, LensError, Model, resolve_model};
use safetensors::Dtype;

const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// A Hub that has the tiny model, written to `dir`, as `some-org/tiny-bert`.
fn serve(dir: &Path) -> HubServer {
    TinyBert::new().write(dir);
    let mut server = HubServer::new();
    for file in FILES {
        server.add(file, std::fs::read(dir.join(file)).unwrap());
    }
    server
}

#[track_caller]
fn problem(result: Result<PathBuf, LensError>) -> HubProblem {
    let error = result.unwrap_err();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    assert!(line.starts_with("model \"some-org/tiny-bert\": no such directory; http://127.0.0.1:"), "{line}");
    match error {
        LensError::Hub { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hub__a_model_by_id__is_downloaded_once_and_runs() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let server = serve(files.path()).start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    let dir = hub.fetch("some-org/tiny-bert").unwrap();
    assert!(dir.starts_with(cache.path().join("models--some-org--tiny-bert/snapshots")), "{dir:?}");
    assert_eq!(load_and_run(&dir).unwrap(), load_and_run(files.path()).unwrap());
    assert_eq!(Model::load(&dir).unwrap().info().name, "some-org/tiny-bert");

    // A second time the server is not even asked; it may be gone.
    let asked = server.num_requests();
    assert_eq!(hub.fetch("some-org/tiny-bert").unwrap(), dir);
    assert_eq!(server.num_requests(), asked);
    drop(server);
    assert_eq!(hub.fetch("some-org/tiny-bert").unwrap(), dir);
}

#[test]
fn hub__a_revision__is_asked_for_by_its_name() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.revision = "v1.5".to_owned();
    let server = server.start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    load_and_run(&hub.fetch("some-org/tiny-bert@v1.5").unwrap()).unwrap();
    assert!(matches!(problem(hub.fetch("some-org/tiny-bert")), HubProblem::NotFound { .. }));
}

#[test]
fn hub__weights_behind_a_redirect__are_followed_and_held_to_their_sha256() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    let weights = std::fs::read(files.path().join("model.safetensors")).unwrap();
    server.redirect("model.safetensors", weights);
    let server = server.start();
    let dir = Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert").unwrap();
    load_and_run(&dir).unwrap();
}

#[test]
fn hub__weights_that_are_not_the_announced_ones__are_refused_and_not_kept() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    let mut weights = std::fs::read(files.path().join("model.safetensors")).unwrap();
    server.redirect("model.safetensors", weights.clone());
    *weights.last_mut().unwrap() ^= 1;
    server.replace_redirected("model.safetensors", weights);
    let server = server.start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    for _ in 0..2 {
        let HubProblem::BadDownload { file, problem } = problem(hub.fetch("some-org/tiny-bert")) else {
            panic!()
        };
        assert_eq!(file, "model.safetensors");
        assert!(problem.starts_with("expected SHA-256"), "{problem}");
    }
}

#[test]
fn hub__shards__all_of_them_are_downloaded_once() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    TinyBert::new().write_sharded(files.path(), 3);
    let mut server = HubServer::new();
    for entry in std::fs::read_dir(files.path()).unwrap() {
        let entry = entry.unwrap();
        server.add(entry.file_name().to_str().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    let server = server.start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    let dir = hub.fetch("some-org/tiny-bert").unwrap();
    assert_eq!(load_and_run(&dir).unwrap(), load_and_run(files.path()).unwrap());
    let asked = server.num_requests();
    assert_eq!(hub.fetch("some-org/tiny-bert").unwrap(), dir);
    assert_eq!(server.num_requests(), asked);
}

#[test]
fn hub__nobody_listening__says_so_in_one_line_with_the_alternative() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let cache = TempDir::new();
    let error = Hub::new(&endpoint, cache.path()).fetch("some-org/tiny-bert").unwrap_err();
    assert!(matches!(&error, LensError::Hub { problem: HubProblem::Offline { .. }, .. }), "{error:?}");
    let line = error.to_string();
    let start = format!("model \"some-org/tiny-bert\": no such directory; {endpoint}: cannot be reached (");
    let end = "; offline, give a model's directory instead (scripts/fetch-minilm makes one)";
    assert!(line.starts_with(&start) && line.ends_with(end) && !line.contains('\n'), "{line}");
}

#[test]
fn hub__no_such_model_or_file__named_as_not_found() {
    let cache = TempDir::new();
    let server = HubServer::new().start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    assert!(
        matches!(problem(hub.fetch("some-org/tiny-bert")), HubProblem::NotFound { file } if file == "config.json")
    );

    let files = TempDir::new();
    for missing in ["config.json", "tokenizer.json"] {
        let cache = TempDir::new();
        let mut server = serve(files.path());
        server.answer(missing, Answer::Status(404));
        let server = server.start();
        let hub = Hub::new(&server.endpoint(), cache.path());
        assert!(
            matches!(problem(hub.fetch("some-org/tiny-bert")), HubProblem::NotFound { file } if file == missing)
        );
    }
}

#[test]
fn hub__no_safetensors_weights__said_so() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.answer("model.safetensors", Answer::Status(404));
    server.add("pytorch_model.bin", b"PK\x03\x04".to_vec());
    let server = server.start();
    let problem = problem(Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert"));
    assert!(matches!(problem, HubProblem::NoSafetensors), "{problem:?}");
    assert!(!server.asked_for("pytorch_model.bin"));
}

#[test]
fn hub__another_status__given_with_its_number() {
    let files = TempDir::new();
    for status in [401, 403, 429, 500, 503] {
        let cache = TempDir::new();
        let mut server = serve(files.path());
        server.answer("config.json", Answer::Status(status));
        let server = server.start();
        let problem = problem(Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert"));
        assert!(matches!(&problem, HubProblem::Status { status: s, .. } if *s == status), "{problem:?}");
        assert!(problem.to_string().contains(&status.to_string()));
    }
}

#[test]
fn hub__a_download_that_ends_early__refused_and_finished_the_next_time() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.answer("model.safetensors", Answer::CutOff);
    let server = server.start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    let HubProblem::BadDownload { file, problem } = problem(hub.fetch("some-org/tiny-bert")) else {
        panic!()
    };
    assert_eq!(file, "model.safetensors");
    assert!(problem.starts_with("the download failed: "), "{problem}");
    drop(server);

    let server = serve(files.path()).start();
    let dir = Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert").unwrap();
    load_and_run(&dir).unwrap();
}

#[test]
fn hub__a_server_that_ignores_ranges__its_spliced_file_is_refused_and_then_replaced() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.answer("model.safetensors", Answer::CutOff);
    let server = server.start();
    problem(Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert"));
    drop(server);

    // The rest of the cut-off file is asked for, and the whole file comes.
    let mut server = serve(files.path());
    server.answer("model.safetensors", Answer::WholeFile);
    let server = server.start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    let HubProblem::BadDownload { problem, .. } = problem(hub.fetch("some-org/tiny-bert")) else { panic!() };
    assert!(problem.starts_with("expected "), "{problem}");
    load_and_run(&hub.fetch("some-org/tiny-bert").unwrap()).unwrap();
}

#[test]
fn hub__wrong_content__is_refused_when_it_is_loaded() {
    let files = TempDir::new();
    let html = b"<html>please log in</html>".to_vec();
    for file in FILES {
        let cache = TempDir::new();
        let mut server = serve(files.path());
        server.add(file, html.clone());
        let server = server.start();
        let dir = Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert").unwrap();
        let line = Model::load(&dir).unwrap_err().to_string();
        assert!(line.contains(file), "{line}");
    }
}

#[test]
fn hub__an_index_that_names_other_places__is_refused_before_they_are_asked_for() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.answer("model.safetensors", Answer::Status(404));
    server.add("model.safetensors.index.json", br#"{"weight_map":{"a":"../../evil.safetensors"}}"#.to_vec());
    let server = server.start();
    let problem = problem(Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert"));
    assert!(
        matches!(&problem, HubProblem::Failed { reason } if reason.contains("weight_map")),
        "{problem:?}"
    );
    assert!(!server.asked_for("evil"));
}

#[test]
fn hub__answers_without_a_hubs_headers__refused() {
    let files = TempDir::new();
    for answer in [Answer::Plain, Answer::Etag("../../../evil"), Answer::Commit("../evil"), Answer::Nonsense]
    {
        let (cache, shown) = (TempDir::new(), format!("{answer:?}"));
        let mut server = serve(files.path());
        server.answer("config.json", answer);
        let server = server.start();
        let problem = problem(Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert"));
        assert!(matches!(problem, HubProblem::Failed { .. }), "{shown}: {problem:?}");
        let written = std::fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(written, 0, "{shown}");
    }
}

#[test]
fn hub__a_model_that_changes_during_the_download__is_fetched_whole_from_the_new_revision() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.move_after = Some(3);
    let server = server.start();
    let dir = Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert").unwrap();
    for file in FILES {
        assert!(dir.join(file).exists(), "{file}");
    }
    load_and_run(&dir).unwrap();
}

#[test]
fn hub__an_id_of_another_form__is_refused_without_asking() {
    let cache = TempDir::new();
    let server = HubServer::new().start();
    let hub = Hub::new(&server.endpoint(), cache.path());
    for id in ["tiny-bert", "../tiny-bert", "a/b/c", "a/..", "", "some-org/tiny-bert@../x"] {
        assert!(matches!(hub.fetch(id), Err(LensError::ModelNotFound { .. })), "{id:?}");
    }
    assert_eq!(server.num_requests(), 0);
}

#[test]
fn hub__half_precision_weights__are_downloaded_like_any_other() {
    let (files, cache) = (TempDir::new(), TempDir::new());
    let mut server = serve(files.path());
    server.add("model.safetensors", TinyBert::new().weights(Dtype::BF16));
    let server = server.start();
    let dir = Hub::new(&server.endpoint(), cache.path()).fetch("some-org/tiny-bert").unwrap();
    assert_eq!(Model::load(&dir).unwrap().info().dtype, "BF16");
}

/// The environment belongs to the process, so each case runs this test again in a process of its own.
#[test]
fn resolve_model__hugging_faces_variables__decide_server_and_cache() {
    const ID: &str = "REGARD_LENS_TEST_MODEL";
    if let Ok(id) = std::env::var(ID) {
        match resolve_model(&id) {
            Ok(dir) => println!("found {}", dir.display()),
            Err(error) => println!("failed {error}"),
        }
        return;
    }
    let files = TempDir::new();
    let server = serve(files.path()).start();
    let resolve = |variables: &[(&str, &Path)]| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "resolve_model__hugging_faces_variables__decide_server_and_cache",
            "--nocapture",
        ]);
        for name in ["HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command
            .env(ID, "some-org/tiny-bert")
            .env("HF_ENDPOINT", server.endpoint())
            .envs(variables.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let (home, cache, empty) = (TempDir::new(), TempDir::new(), TempDir::new());
    let found = |dir: PathBuf| format!("found {}/models--some-org--tiny-bert/snapshots/", dir.display());
    let output = resolve(&[("HF_HOME", home.path())]);
    assert!(output.contains(&found(home.path().join("hub"))), "{output}");
    let output = resolve(&[("HF_HOME", home.path()), ("HF_HUB_CACHE", cache.path())]);
    assert!(output.contains(&found(cache.path().to_owned())), "{output}");

    let asked = server.num_requests();
    let offline = ("HF_HUB_OFFLINE", Path::new("1"));
    let output = resolve(&[("HF_HOME", home.path()), offline]);
    assert!(output.contains(&found(home.path().join("hub"))), "{output}");
    let output = resolve(&[("HF_HOME", empty.path()), offline]);
    assert!(output.contains("HF_HUB_OFFLINE is set and config.json is not in the cache"), "{output}");
    assert_eq!(server.num_requests(), asked);
}
