//! Memory of statistics: what a call says it needs and what it takes.
//!
//! One test in one process, because the counting allocator counts everything.
#![allow(non_snake_case)]

use regard::{
    AttentionConfig, KeySets, Layout, Parallelism, StatisticsRequest, TensorView, Workspace,
    attention_statistics, attention_statistics_scratch_bytes,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Bytes announced, the most bytes that live at once, and bytes of the results.
fn run(heads: [usize; 2], seq: [usize; 2], dim: usize) -> (usize, usize, usize) {
    let numbers =
        |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect() };
    let (query, key) = (numbers(heads[0] * seq[0] * dim), numbers(heads[1] * seq[1] * dim));
    let query = TensorView::new(&query, [1, heads[0], seq[0], dim], Layout::BatchHeadSeqDim).unwrap();
    let key = TensorView::new(&key, [1, heads[1], seq[1], dim], Layout::BatchHeadSeqDim).unwrap();
    let no_value = TensorView::<f32>::new(&[], [1, heads[1], seq[1], 0], Layout::BatchHeadSeqDim).unwrap();
    let config = AttentionConfig::new().with_parallelism(Parallelism::Sequential);
    let ids: Vec<u32> = (0..seq[1] as u32).map(|i| i * i % 7).collect();
    let request = StatisticsRequest::new()
        .with_top_k(4)
        .with_offsets(&[-1, 0, 1])
        .with_distance_bins(16)
        .with_key_sets(KeySets { num_sets: 3, members: &ids })
        .with_token_ids(&ids)
        .with_received()
        .with_thumbnail([48, 48]);
    let announced = attention_statistics_scratch_bytes(query, key, no_value, &request, &config).unwrap();
    let profiler = dhat::Profiler::builder().testing().build();
    let found = attention_statistics(query, key, &request, &config, &mut Workspace::new()).unwrap();
    let taken = dhat::HeapStats::get();
    drop(profiler);
    let floats = [
        &found.log_sum_exp,
        &found.entropy,
        &found.mean_distance,
        &found.top_probs,
        &found.distance_mass,
        &found.offset_mass,
        &found.key_set_mass,
        &found.same_token_mass,
        &found.induction_mass,
        &found.received,
        &found.thumbnail,
    ];
    let counts = [&found.visible_keys, &found.top_keys, &found.visible_queries];
    let results = floats.map(Vec::len).iter().sum::<usize>() + counts.map(Vec::len).iter().sum::<usize>();
    (announced, taken.max_bytes, results * 4)
}

#[test]
fn statistics_memory__stays_linear_and_is_as_announced() {
    // Tiles, row dots with split keys, tiles with split keys.
    for (heads, seq, dim) in [([4, 2], [300, 500], 64), ([8, 2], [1, 9000], 128), ([2, 2], [120, 5000], 40)] {
        let (announced, taken, results) = run(heads, seq, dim);
        let scratch = taken - results;
        assert!(scratch <= announced + 8192, "{seq:?}: announced {announced}, took {scratch}");
        assert!(scratch * 2 >= announced, "{seq:?}: announced {announced}, took {scratch}");
    }
    let [(_, short, _), (_, long, _)] = [1024, 8192].map(|n| run([1, 1], [n, n], 32));
    assert!(long < 9 * short, "{short} bytes at 1,024, {long} at 8,192");
}
