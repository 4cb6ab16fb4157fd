//! Attention written for other programs, and read from them.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use std::path::{Path, PathBuf};

use common::NoObserver;
use common::golden::{TinyGolden, max_abs_difference};
use common::tiny::TempDir;
use regard_lens::exchange::{AttentionMaps, SavePlan};
use regard_lens::view::{HeadId, HeadView, Queries, ViewOptions, Viewer};
use regard_lens::{LensError, Model, TokenizedText};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

fn open(name: &str) -> (Model, TokenizedText, TinyGolden) {
    let (model, golden) = (TinyGolden::load_model(name), TinyGolden::open(name));
    let tokens = model.tokenize(&golden.text).unwrap();
    (model, tokens, golden)
}

fn save(model: &Model, tokens: &TokenizedText, heads: Option<&[HeadId]>, path: &Path) -> u64 {
    let plan = SavePlan::new(path, model, tokens, heads).unwrap();
    let bytes = plan.bytes();
    let mut saver = plan.start().unwrap();
    let hidden = model.run(tokens, &mut saver).unwrap();
    saver.finish(&hidden).unwrap();
    bytes
}

fn numbers(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().to_vec();
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn save__chosen_heads__holds_what_hugging_face_computes() {
    let dir = TempDir::new();
    for name in ["bert", "gpt2", "llama"] {
        let (model, tokens, golden) = open(name);
        let n = tokens.tokens.len();
        let path = dir.path().join(format!("{name}.safetensors"));
        let heads = ["L1.H1", "L0.H0"].map(|head| head.parse().unwrap());
        let bytes = save(&model, &tokens, Some(&heads), &path);
        let file = std::fs::read(&path).unwrap();
        assert_eq!(file.len() as u64, bytes, "as announced");
        let (_, header) = SafeTensors::read_metadata(&file).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        assert_eq!((metadata["format"].as_str(), &metadata["text"]), ("regard-save/1", &golden.text));
        let spellings: Vec<String> = serde_json::from_str(&metadata["tokens"]).unwrap();
        assert_eq!(spellings.len(), n);
        let file = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(file.names().len(), 2 * 5 + 3);
        for id in heads {
            let expected = golden.tensor(&format!("probs.{}", id.layer));
            let found = numbers(&file, &format!("probs.{id}"));
            assert!(max_abs_difference(&found, &expected[id.head * n * n..][..n * n]) <= 1e-5, "{name} {id}");
            let hidden = numbers(&file, &format!("hidden.L{}", id.layer));
            assert!(max_abs_difference(&hidden, &golden.tensor(&format!("hidden.{}", id.layer))) <= 1e-4);
            // softmax(q·k)·v is the head's output: the parts belong together.
            let (output, value) = (format!("output.{id}"), format!("value.{id}"));
            let (output, value) = (numbers(&file, &output), numbers(&file, &value));
            let dim = value.len() / n;
            let dense = (0..n * dim).map(|i| {
                (0..n)
                    .map(|j| f64::from(found[i / dim * n + j]) * f64::from(value[j * dim + i % dim]))
                    .sum::<f64>() as f32
            });
            assert!(max_abs_difference(&output, &dense.collect::<Vec<_>>()) <= 1e-5);
            assert_eq!(numbers(&file, &format!("query.{id}")).len() % n, 0);
        }
        let last = numbers(&file, "hidden.last");
        assert!(
            max_abs_difference(&last, &golden.tensor(&format!("hidden.{}", model.info().layers))) <= 1e-4
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no other file stays");
        std::fs::remove_file(path).unwrap();
    }
}

fn views(
    look: impl FnOnce(Viewer<'_>),
    tokens: &TokenizedText,
    info: &regard_lens::ModelInfo,
) -> Vec<HeadView> {
    let mut heads = Vec::new();
    let mut on_head = |head| {
        heads.push(head);
        Ok(())
    };
    let options =
        ViewOptions { queries: Queries::All, top: 3, keep_special: true, map_size: [0, 0], map_head: None };
    look(Viewer::new(tokens, info, options, &mut on_head));
    heads
}

#[test]
fn maps__saved_by_us__give_the_same_view_as_the_model() {
    let dir = TempDir::new();
    for name in ["bert", "llama"] {
        let (model, tokens, _) = open(name);
        let path = dir.path().join(format!("{name}.safetensors"));
        save(&model, &tokens, None, &path);
        let maps = AttentionMaps::open(&path).unwrap();
        let info = maps.info().unwrap();
        assert_eq!((info.layers, info.heads), (model.info().layers, model.info().heads));
        assert_eq!((info.causal, info.dtype.as_str()), (model.info().causal, "F32"));
        let expected =
            views(|mut viewer| drop(model.run(&tokens, &mut viewer).unwrap()), &tokens, model.info());
        let found = views(|mut viewer| viewer.look_at_maps(&maps).unwrap(), &tokens, &info);
        assert_eq!(found, expected, "{name}");
        assert!(maps.max_row_sum_error() < 1e-6);
    }
}

#[test]
fn save__too_large_or_nowhere__is_refused_and_leaves_nothing() {
    let dir = TempDir::new();
    let (model, tokens, _) = open("llama");
    let outside = [HeadId { layer: 99, head: 0 }];
    let path = dir.path().join("a.safetensors");
    assert!(matches!(
        SavePlan::new(&path, &model, &tokens, Some(&outside)),
        Err(LensError::NoSuchHead { .. })
    ));
    let mut long = tokens.clone();
    long.tokens = std::iter::repeat_n(tokens.tokens[0].clone(), 40_000).collect();
    let error = SavePlan::new(&path, &model, &long, None).unwrap_err();
    assert!(matches!(error, LensError::TooMuchMemory { .. }) && error.to_string().contains("fewer heads"));
    for nowhere in [dir.path().to_owned(), dir.path().join("no/such/folder"), PathBuf::from("/")] {
        let plan = SavePlan::new(&nowhere, &model, &tokens, None).unwrap();
        assert!(matches!(plan.start(), Err(LensError::Write { .. })), "{}", nowhere.display());
    }
    // A run that is not finished.
    drop(SavePlan::new(&path, &model, &tokens, None).unwrap().start().unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // A file that is there stays as it is until the new one is complete.
    std::fs::write(&path, "old").unwrap();
    let saver = SavePlan::new(&path, &model, &tokens, None).unwrap().start().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    drop(saver);
    let mut saver = SavePlan::new(&path, &model, &tokens, None).unwrap().start().unwrap();
    let hidden = model.run(&tokens, &mut saver).unwrap();
    saver.finish(&hidden).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 1000);
    assert_eq!(model.run(&tokens, &mut NoObserver).unwrap(), hidden, "saving changes nothing");
}

/// Uniform rows, `[2, 3, 4, 4]`.
fn uniform(dtype: Dtype) -> Vec<u8> {
    let number = match dtype {
        Dtype::F16 => half::f16::from_f32(0.25).to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f32(0.25).to_le_bytes().to_vec(),
        Dtype::F32 => 0.25f32.to_le_bytes().to_vec(),
        Dtype::F64 => 0.25f64.to_le_bytes().to_vec(),
        Dtype::I32 => 1i32.to_le_bytes().to_vec(),
        other => panic!("{other:?}"),
    };
    number.repeat(2 * 3 * 4 * 4)
}

fn safetensors_file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn npy_file(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn open_bytes(dir: &TempDir, bytes: &[u8]) -> Result<AttentionMaps, LensError> {
    let path = dir.path().join("maps");
    std::fs::write(&path, bytes).unwrap();
    AttentionMaps::open(&path)
}

#[test]
fn maps__every_type_and_container__are_read() {
    let dir = TempDir::new();
    let shape = [2, 3, 4, 4];
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
        let file = safetensors_file(&[("a", dtype, &shape, uniform(dtype))]);
        let maps = open_bytes(&dir, &file).unwrap();
        let mut row = [0.0; 8];
        maps.probs(HeadId { layer: 1, head: 2 }, 2..4, &mut row).unwrap();
        assert_eq!((row, maps.tokens()), ([0.25; 8], 4));
    }
    for (descr, dtype) in [("<f2", Dtype::F16), ("<f4", Dtype::F32), ("<f8", Dtype::F64)] {
        for shape in ["(2, 3, 4, 4)", "(2, 1, 3, 4, 4)"] {
            let maps = open_bytes(&dir, &npy_file(descr, "False", shape, &uniform(dtype))).unwrap();
            let info = maps.info().unwrap();
            assert_eq!((info.layers, info.heads, info.causal), (2, 3, false));
        }
    }
    let two =
        [("attention", Dtype::F32, &shape[..], uniform(Dtype::F32)), ("b", Dtype::F32, &[1], vec![0; 4])];
    assert!(open_bytes(&dir, &safetensors_file(&two)).is_ok());
}

#[test]
fn maps__hostile_or_wrong__are_refused_with_a_remedy() {
    let dir = TempDir::new();
    let f32s = uniform(Dtype::F32);
    let one = |dtype, shape: &[usize], data: Vec<u8>| safetensors_file(&[("a", dtype, shape, data)]);
    for (bytes, said) in [
        (Vec::new(), "length"),
        (vec![0xff; 100], "header"),
        (b"\x80\x04 a pickle".to_vec(), "pickle"),
        (b"PK\x03\x04 a zip".to_vec(), "zip"),
        (one(Dtype::F32, &[6, 4, 4], f32s.clone()), "torch.stack"),
        (one(Dtype::F32, &[2, 3, 2, 8], f32s.clone()), "torch.stack"),
        (one(Dtype::F32, &[0, 3, 4, 4], Vec::new()), "torch.stack"),
        (one(Dtype::I32, &[2, 3, 4, 4], uniform(Dtype::I32)), "I32"),
        (
            safetensors_file(&[("x", Dtype::F32, &[1], vec![0; 4]), ("y", Dtype::F32, &[1], vec![0; 4])]),
            "\"attention\"",
        ),
        (npy_file("|O", "False", "(2, 3, 4, 4)", &f32s), "astype"),
        (npy_file(">f4", "False", "(2, 3, 4, 4)", &f32s), "astype"),
        (npy_file("<f4", "True", "(2, 3, 4, 4)", &f32s), "ascontiguousarray"),
        (npy_file("<f4", "False", "(2, 3, 4, 4)", &f32s[4..]), "384 bytes"),
        (npy_file("<f4", "False", "(1024, 4096, 32768, 32768)", &f32s), "bytes"),
        (npy_file("<f4", "False", "(99999999999, 1, 1, 1)", &f32s), "torch.stack"),
        (npy_file("<f4", "False", "()", &f32s), "torch.stack"),
        (b"\x93NUMPY".to_vec(), "header"),
    ] {
        let error = open_bytes(&dir, &bytes).unwrap_err().to_string();
        assert!(error.contains(said), "{said:?} is not in {error:?}");
        assert!(!error.contains('\n'));
    }
    assert!(AttentionMaps::open(dir.path()).is_err(), "a directory");
    assert!(AttentionMaps::open(&dir.path().join("nothing")).is_err());
}

#[test]
fn maps__rows_that_are_no_probabilities__are_refused_where_they_are_read() {
    let dir = TempDir::new();
    let shape = [2, 3, 4, 4];
    for (number, said) in
        [(0.5f32, "the sum 1.25"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.25, "-0.25")]
    {
        let mut data = uniform(Dtype::F32);
        // Layer 1, head 2, row 3, key 1.
        data[((5 * 4 + 3) * 4 + 1) * 4..][..4].copy_from_slice(&number.to_le_bytes());
        let maps = open_bytes(&dir, &safetensors_file(&[("a", Dtype::F32, &shape, data)])).unwrap();
        let mut row = [0.0; 4];
        let id = HeadId { layer: 1, head: 2 };
        maps.probs(id, 2..3, &mut row).unwrap();
        let error = maps.probs(id, 3..4, &mut row).unwrap_err().to_string();
        assert!(error.contains("L1.H2, row 3") && error.contains(said), "{error}");
        assert!(error.contains("after the softmax"), "{error}");
    }
    let data = uniform(Dtype::F32);
    let maps = open_bytes(&dir, &safetensors_file(&[("a", Dtype::F32, &shape, data)])).unwrap();
    let mut row = [0.0; 4];
    assert!(maps.probs(HeadId { layer: 2, head: 0 }, 0..1, &mut row).is_err());
    assert!(maps.probs(HeadId { layer: 0, head: 0 }, 4..5, &mut row).is_err());
    assert!(maps.probs(HeadId { layer: 0, head: 0 }, 0..2, &mut row).is_err());
}
