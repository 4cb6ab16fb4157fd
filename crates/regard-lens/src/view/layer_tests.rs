//! The viewer on layers made up so that their probabilities are known.

use regard::layer::Linear;
use regard::{
    AttentionConfig, AttentionOutput, Layout, TensorView, TensorViewMut, Workspace, attention_with,
};

use super::tests::{options, text};
use super::*;
use crate::error::LensError;
use crate::model::{ModelInfo, Predicts};
use crate::observer::{AttentionObserver, LayerAttention};

const TOKENS: usize = 7;

/// A layer whose heads have given probabilities, up to rounding: keys are the unit vectors and queries the logarithms.
struct MadeLayer {
    heads: usize,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    output: Vec<f32>,
    log_sum_exp: Vec<f32>,
    output_projection: Linear,
}

impl MadeLayer {
    /// Each head is the key that a query gives 0.7 to; the other keys share the rest.
    fn new(heads: &[&dyn Fn(usize) -> usize]) -> Self {
        let mut query = Vec::new();
        for key_of in heads {
            for i in 0..TOKENS {
                let rest = 0.3 / (TOKENS - 1) as f32;
                query.extend((0..TOKENS).map(|j| if j == key_of(i) { 0.7f32.ln() } else { rest.ln() }));
            }
        }
        let size = heads.len() * TOKENS * TOKENS;
        let unit = |i: usize| if i / TOKENS % TOKENS == i % TOKENS { 1.0 } else { 0.0 };
        let mut layer = Self {
            heads: heads.len(),
            query,
            key: (0..size).map(unit).collect(),
            value: (0..size).map(|i| (i * 37 % 101) as f32 / 101.0).collect(),
            output: vec![0.0; size],
            log_sum_exp: vec![0.0; heads.len() * TOKENS],
            output_projection: Linear::new(Vec::new(), None, heads.len() * TOKENS, 0).unwrap(),
        };
        let (shape, layout) = (layer.shape(), Layout::BatchHeadSeqDim);
        let view = |data| TensorView::new(data, shape, layout).unwrap();
        attention_with(
            view(&layer.query),
            view(&layer.key),
            view(&layer.value),
            AttentionOutput {
                output: TensorViewMut::new(&mut layer.output, shape, layout).unwrap(),
                log_sum_exp: Some(&mut layer.log_sum_exp),
            },
            &config(),
            &mut Workspace::new(),
        )
        .unwrap();
        layer
    }

    fn shape(&self) -> [usize; 4] {
        [1, self.heads, TOKENS, TOKENS]
    }

    fn attention(&self, layer: usize) -> LayerAttention<'_> {
        let view = |data| TensorView::new(data, self.shape(), Layout::BatchHeadSeqDim).unwrap();
        LayerAttention {
            layer,
            input: &[],
            query: view(&self.query),
            key: view(&self.key),
            value: view(&self.value),
            output: view(&self.output),
            log_sum_exp: &self.log_sum_exp,
            output_projection: &self.output_projection,
            config: config(),
        }
    }
}

fn config() -> AttentionConfig<'static> {
    AttentionConfig::new().with_softmax_scale(1.0)
}

fn model() -> ModelInfo {
    ModelInfo {
        name: "made up".into(),
        sha256: String::new(),
        layers: 2,
        heads: 3,
        causal: false,
        dtype: "F32".into(),
        max_tokens: 8,
        predicts: Predicts::Nothing,
        built_in: false,
    }
}

/// Runs a viewer over layers; the heads it handed out and the rest.
fn run(layers: &[MadeLayer], options: ViewOptions) -> Result<(Vec<HeadView>, Viewed), LensError> {
    let mut heads = Vec::new();
    let mut on_head = |head| {
        heads.push(head);
        Ok(())
    };
    let mut viewer = Viewer::new(&text(&[0, 1, 2, 3, 4]), &model(), options, &mut on_head);
    for (layer, made) in layers.iter().enumerate() {
        viewer.layer(&made.attention(layer))?;
    }
    let viewed = viewer.finish();
    Ok((heads, viewed))
}

fn before(query: usize) -> usize {
    query.saturating_sub(1)
}

/// Token 5 looks at token 2, each other one at itself.
fn link_from_5_to_2(query: usize) -> usize {
    if query == 5 { 2 } else { query }
}

/// The same from token 4, which nobody asks about.
fn link_from_4_to_1(query: usize) -> usize {
    if query == 4 { 1 } else { query }
}

#[test]
fn viewer__layers__hands_out_heads_in_order_with_their_kinds() {
    let layers =
        [MadeLayer::new(&[&before, &|_| 0, &link_from_5_to_2]), MadeLayer::new(&[&before, &|_| 3, &|q| q])];
    let (heads, _) = run(&layers, options(Queries::One(5))).unwrap();
    let found: Vec<String> =
        heads.iter().map(|head| format!("{} {}", head.id, head.rows[0].kind.name())).collect();
    assert_eq!(
        found,
        ["L0.H0 previous", "L0.H1 special", "L0.H2 link", "L1.H0 previous", "L1.H1 topic", "L1.H2 other"]
    );
    assert!((heads[2].rows[0].top[0].prob - 0.7).abs() < 1e-6);
    assert!((heads[2].rows[0].top[0].usual.unwrap() - 0.05).abs() < 1e-6);
}

#[test]
fn picture__most_telling_head__is_the_link_even_if_another_kind_is_stronger() {
    let layers =
        [MadeLayer::new(&[&before, &link_from_5_to_2, &link_from_4_to_1]), MadeLayer::new(&[&before])];
    let wanted = ViewOptions { map_size: [9, 9], ..options(Queries::One(5)) };
    let map = run(&layers, wanted.clone()).unwrap().1.map.unwrap();
    assert_eq!((map.id, map.available), (HeadId { layer: 0, head: 1 }, 5));
    assert_eq!((&map.queries, &map.keys), (&vec![1, 2, 3, 4, 5], &vec![1, 2, 3, 4, 5]));
    assert!((map.row(4)[1] - 0.7).abs() < 1e-6 && (map.row(3)[3] - 0.7).abs() < 1e-6);

    let chosen = ViewOptions { map_head: Some(HeadId { layer: 1, head: 0 }), ..wanted.clone() };
    assert_eq!(run(&layers, chosen).unwrap().1.map.unwrap().id, HeadId { layer: 1, head: 0 });
    let part = ViewOptions { map_size: [2, 3], keep_special: true, ..wanted };
    let map = run(&layers, part).unwrap().1.map.unwrap();
    assert_eq!((map.available, map.queries, map.keys), (7, vec![5, 6], vec![1, 2, 3]));
}

#[test]
fn picture__nothing_to_see__is_none() {
    let special = [MadeLayer::new(&[&|_| 0])];
    let wanted = ViewOptions { map_size: [9, 9], ..options(Queries::One(5)) };
    assert_eq!(run(&special, wanted.clone()).unwrap().1.map, None, "special heads are pictured by name only");
    let named = ViewOptions { map_head: Some(HeadId { layer: 0, head: 0 }), ..wanted.clone() };
    assert!(run(&special, named).unwrap().1.map.is_some());
    assert_eq!(run(&special, ViewOptions { queries: Queries::All, ..wanted }).unwrap().1.map, None);
}

#[test]
fn verification__kernel__agrees_with_the_reference() {
    let layers = [MadeLayer::new(&[&before, &link_from_5_to_2, &|_| 0, &|q| q])];
    let verification = run(&layers, options(Queries::All)).unwrap().1.verification;
    assert_eq!(verification.rows, 4);
    assert!(verification.max_abs_error > 0.0 && verification.max_abs_error < 1e-6, "{verification:?}");
}

#[test]
fn verification__wrong_output_or_log_sum_exp__is_noticed() {
    let made = || MadeLayer::new(&[&before, &link_from_5_to_2, &|_| 0, &|q| q]);
    let error = |layer| run(&[layer], options(Queries::All)).unwrap().1.verification.max_abs_error;
    let mut wrong_output = made();
    wrong_output.output.iter_mut().for_each(|output| *output += 0.01);
    assert!((error(wrong_output) - 0.01).abs() < 1e-5);
    let mut wrong_lse = made();
    wrong_lse.log_sum_exp.iter_mut().for_each(|lse| *lse += 0.01);
    assert!((error(wrong_lse) - 0.01).abs() < 1e-5);
    let mut nan = made();
    nan.output.fill(f32::NAN);
    assert!(error(nan).is_nan());
}

#[test]
fn viewer__callback_that_fails__stops_the_run_with_its_error() {
    let mut on_head = |_| Err("full disk".into());
    let mut viewer = Viewer::new(&text(&[0, 1, 2, 3, 4]), &model(), options(Queries::All), &mut on_head);
    let stopped = viewer.layer(&MadeLayer::new(&[&before]).attention(0));
    assert!(matches!(stopped, Err(LensError::Observer(error)) if error.to_string() == "full disk"));
}
