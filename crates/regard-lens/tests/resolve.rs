//! Where a model is looked for.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::tiny::{TempDir, TinyBert};
use regard_lens::{LensError, resolve_model};

#[test]
fn resolve_model__a_path_that_exists__is_that_path() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    assert_eq!(resolve_model(dir.path().to_str().unwrap()).unwrap(), dir.path());
}

#[test]
fn resolve_model__neither_a_directory_nor_an_id__says_what_an_id_looks_like() {
    for model in ["", "absent", "./absent", "../absent/model", "/absent", "a/b/c", "\u{1b}[31m/x"] {
        let error = resolve_model(model).unwrap_err();
        assert!(matches!(error, LensError::ModelNotFound { .. }), "{model:?}: {error:?}");
        let line = error.to_string();
        assert!(line.contains("no such directory, and not a model id either (expected org/name"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

#[cfg(not(feature = "hub"))]
#[test]
fn resolve_model__an_id_in_a_build_without_the_hub__says_so_and_names_the_alternative() {
    let line = resolve_model("some-org/tiny-bert").unwrap_err().to_string();
    assert!(
        line.contains("this build cannot download (cargo feature `hub`); give a model's directory"),
        "{line}"
    );
}
