//! Caches of keys and values: steps agree with a prefill, pages with one tensor bit by bit, and what is refused
//! leaves no trace.
#![allow(non_snake_case)]

#[path = "../common/mod.rs"]
mod common;

mod agreement;
mod refusals;

use common::{Memory, Tensor, TestElement, isas, normal, threads, window};
use fastrand::Rng;
use regard::layer::{KvCache, PagedKvCache, PagedView};
use regard::{
    AttentionConfig, AttentionError, AttentionOutput, Layout, Mask, Parallelism, QueryPosition, TensorView,
    Workspace, attention_with, f16,
};

/// Either cache.
enum Cache<T> {
    Contiguous(KvCache<T>),
    Paged(PagedKvCache<T>),
}

/// Calls the same method of either.
macro_rules! either {
    ($cache:expr, $name:ident => $call:expr) => {
        match $cache {
            Cache::Contiguous($name) => $call,
            Cache::Paged($name) => $call,
        }
    };
}

use either;

const PAGE_LENS: [usize; 5] = [1, 3, 16, 128, 200];

/// Both kinds, with room for `capacity` positions of each sequence.
fn caches<T: TestElement>(sizes: [usize; 3], head_dims: [usize; 2]) -> Vec<Cache<T>> {
    let [batch, kv_heads, capacity] = sizes;
    let paged = |page_len: usize| {
        let pages = [batch * capacity.div_ceil(page_len), page_len];
        Cache::Paged(PagedKvCache::new(batch, kv_heads, pages, head_dims).unwrap())
    };
    let contiguous = Cache::Contiguous(KvCache::new(batch, kv_heads, capacity, head_dims).unwrap());
    std::iter::once(contiguous).chain(PAGE_LENS.map(paged)).collect()
}

fn random<T: TestElement>(shape: [usize; 4], memory: Memory, seed: u64) -> Tensor<T> {
    let mut rng = Rng::with_seed(seed);
    Tensor::new(shape, &memory, || normal(&mut rng))
}

/// Rows `rows` of sequences `batch` of a tensor, where it lies.
fn part<T: TestElement>(
    tensor: &Tensor<T>,
    batch: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
) -> TensorView<'_, T> {
    let [_, heads, _, dim] = tensor.shape;
    let shape = [batch.len(), heads, rows.len(), dim];
    let start = tensor.index([batch.start, 0, rows.start, 0]);
    TensorView::with_strides(&tensor.buffer.data()[start..], shape, tensor.strides).unwrap()
}

/// Output and log-sum-exp of whatever writes to a target of this shape.
fn written(
    shape: [usize; 4],
    run: impl FnOnce(AttentionOutput<'_, f32>) -> Result<(), AttentionError>,
) -> Result<(Vec<f32>, Vec<f32>), AttentionError> {
    let mut output = Tensor::<f32>::unfilled(shape, &Memory::PLAIN);
    let mut log_sum_exp = vec![f32::NAN; shape[0] * shape[1] * shape[2]];
    let result = run(AttentionOutput { output: output.view_mut(), log_sum_exp: Some(&mut log_sum_exp) });
    if result.is_err() {
        assert!(output.numbers().iter().chain(&log_sum_exp).all(|x| x.is_nan()), "written before an error");
    }
    result.map(|()| (output.numbers(), log_sum_exp))
}

fn attend<T: TestElement>(
    cache: &Cache<T>,
    query: TensorView<'_, f32>,
    config: &AttentionConfig<'_>,
    value_dim: usize,
) -> Result<(Vec<f32>, Vec<f32>), AttentionError> {
    let [b, h, s, _] = query.shape();
    let mut workspace = Workspace::new();
    written(
        [b, h, s, value_dim],
        |target| either!(cache, cache => cache.attend(query, target, config, &mut workspace)),
    )
}

fn bits((output, log_sum_exp): &(Vec<f32>, Vec<f32>)) -> Vec<u32> {
    output.iter().chain(log_sum_exp).map(|x| x.to_bits()).collect()
}

/// Fills a cache sequence by sequence in turns, a few rows at a time, so that pages of different sequences mix.
fn fill_in_turns<T: TestElement>(
    cache: &mut Cache<T>,
    (key, value): (&Tensor<T>, &Tensor<T>),
    lengths: &[usize],
) {
    let mut rng = Rng::with_seed(9);
    let mut done = vec![0; lengths.len()];
    while done != lengths {
        let sequence = rng.usize(..lengths.len());
        let rows = done[sequence]..(done[sequence] + rng.usize(1..30)).min(lengths[sequence]);
        let only = sequence..sequence + 1;
        let (key, value) = (part(key, only.clone(), rows.clone()), part(value, only, rows.clone()));
        either!(cache, cache => cache.append_to(sequence, key, value)).unwrap();
        done[sequence] = rows.end;
    }
    assert_eq!(either!(cache, cache => cache.lengths()), lengths);
}
