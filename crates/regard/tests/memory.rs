//! Memory: what a call says it needs, what it takes, and that a reused workspace takes nothing.
//!
//! One test in one process, because the counting allocator counts everything.
#![allow(non_snake_case)]

use regard::layer::{KvCache, PagedKvCache};
use regard::{
    AttentionConfig, AttentionOutput, Layout, Mask, Parallelism, QueryPosition, TensorView, TensorViewMut,
    Workspace, attention_scratch_bytes, attention_with,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

struct Call {
    heads: [usize; 2],
    seq: [usize; 2],
    dim: usize,
    query: Vec<f32>,
    key: Vec<f32>,
    output: Vec<f32>,
}

impl Call {
    fn new(heads: [usize; 2], seq: [usize; 2], dim: usize) -> Self {
        let numbers = |len: usize| (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let query: Vec<f32> = numbers(heads[0] * seq[0] * dim);
        let output = vec![0.0; query.len()];
        Self { heads, seq, dim, key: numbers(heads[1] * seq[1] * dim), query, output }
    }

    fn views(&self) -> (TensorView<'_, f32>, TensorView<'_, f32>) {
        let query = [1, self.heads[0], self.seq[0], self.dim];
        let key = [1, self.heads[1], self.seq[1], self.dim];
        (
            TensorView::new(&self.query, query, Layout::BatchHeadSeqDim).unwrap(),
            TensorView::new(&self.key, key, Layout::BatchHeadSeqDim).unwrap(),
        )
    }

    fn scratch_bytes(&self, config: &AttentionConfig<'_>) -> usize {
        let (query, key) = self.views();
        attention_scratch_bytes(query, key, key, config).unwrap()
    }

    /// Allocations that one call makes, and the most bytes of them that live at once.
    fn run(&mut self, config: &AttentionConfig<'_>, workspace: &mut Workspace) -> (u64, usize) {
        let mut output = std::mem::take(&mut self.output);
        let (query, key) = self.views();
        let profiler = dhat::Profiler::builder().testing().build();
        let target = TensorViewMut::new(&mut output, query.shape(), Layout::BatchHeadSeqDim).unwrap();
        let target = AttentionOutput { output: target, log_sum_exp: None };
        attention_with(query, key, key, target, config, workspace).unwrap();
        let taken = dhat::HeapStats::get();
        drop(profiler);
        self.output = output;
        (taken.total_blocks, taken.max_bytes)
    }
}

#[test]
fn memory__stays_linear_as_announced_and_is_reused() {
    let config = AttentionConfig::new().with_parallelism(Parallelism::Sequential);

    // Announced = taken, for tiles, row dots and key splits.
    for (heads, seq, dim) in [([4, 2], [300, 500], 64), ([8, 2], [1, 9000], 128), ([2, 2], [30, 5000], 40)] {
        let mut call = Call::new(heads, seq, dim);
        let announced = call.scratch_bytes(&config);
        let mut workspace = Workspace::new();
        let (_, taken) = call.run(&config, &mut workspace);
        assert!(taken <= announced + 4096, "{seq:?}: announced {announced}, took {taken}");
        assert!(taken * 2 >= announced, "{seq:?}: announced {announced}, took {taken}");
        assert!(workspace.size_bytes() <= announced + 4096);
    }

    // Linear: eight times the sequence takes at most about eight times the scratch.
    let bytes = |n: usize| Call::new([1, 1], [n, n], 64).scratch_bytes(&config);
    let (short, long) = (bytes(4_096), bytes(32_768));
    assert!(long < 9 * short, "{short} bytes at 4,096, {long} at 32,768");

    // A steady decode: the sequence grows by a key a step, nothing is allocated once the workspace is large
    // enough; in a pool of two threads as on one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for parallelism in [Parallelism::Sequential, Parallelism::Pool] {
        let mut call = Call::new([8, 2], [1, 6000], 64);
        let (allocations, _) = pool.install(|| {
            let mut workspace = Workspace::new();
            let step = |call: &mut Call, workspace: &mut Workspace, len: usize| {
                let lengths = [len];
                let mask = Mask::causal(QueryPosition::BottomRight).with_key_lengths(&lengths);
                call.run(&AttentionConfig::new().with_mask(mask).with_parallelism(parallelism), workspace)
            };
            step(&mut call, &mut workspace, 6000);
            for _ in 0..50 {
                step(&mut call, &mut workspace, 6000); // rayon's own queues grow once
            }
            (5900..6000)
                .map(|len| step(&mut call, &mut workspace, len))
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        });
        assert_eq!(allocations, 0, "{parallelism:?}");
    }

    // The same with caches that hold the keys: nothing is allocated, appending included, while pages are taken.
    for parallelism in [Parallelism::Sequential, Parallelism::Pool] {
        let config = AttentionConfig::new()
            .with_mask(Mask::causal(QueryPosition::BottomRight))
            .with_parallelism(parallelism);
        let mut contiguous = KvCache::new(2, 2, 2040, [64, 64]).unwrap();
        let mut paged = PagedKvCache::new(2, 2, [300, 16], [64, 64]).unwrap();
        let (mut call, mut workspace) = (Call::new([16, 4], [1, 1], 64), Workspace::new());
        let allocations = pool.install(|| {
            let mut of_steps = |steps: usize| {
                let Call { query, key, output, .. } = &mut call;
                let layout = Layout::BatchHeadSeqDim;
                let query = TensorView::new(query, [2, 8, 1, 64], layout).unwrap();
                let row = TensorView::new(key, [2, 2, 1, 64], layout).unwrap();
                let profiler = dhat::Profiler::builder().testing().build();
                for _ in 0..steps {
                    contiguous.append(row, row).unwrap();
                    let target = TensorViewMut::new(output, query.shape(), layout).unwrap();
                    let target = AttentionOutput { output: target, log_sum_exp: None };
                    contiguous.attend(query, target, &config, &mut workspace).unwrap();
                    paged.append(row, row).unwrap();
                    let target = TensorViewMut::new(output, query.shape(), layout).unwrap();
                    let target = AttentionOutput { output: target, log_sum_exp: None };
                    paged.attend(query, target, &config, &mut workspace).unwrap();
                }
                let taken = dhat::HeapStats::get().total_blocks;
                drop(profiler);
                taken
            };
            of_steps(1800);
            of_steps(200)
        });
        assert_eq!((paged.lengths(), paged.free_pages()), (&[2000, 2000][..], 50));
        assert_eq!(allocations, 0, "{parallelism:?}");
    }

    // No room: an error, and not an abort, for a request that is too large for any machine.
    let data = [0.5f32; 8];
    let (rows, keys) = (1usize << 24, 1usize << 40);
    let query = TensorView::with_strides(&data, [1, 1, rows, 8], [0, 0, 0, 1]).unwrap();
    let key = TensorView::with_strides(&data, [1, 1, keys, 8], [0, 0, 0, 1]).unwrap();
    let mut output = vec![0.0f32; rows * 8];
    let target = TensorViewMut::new(&mut output, [1, 1, rows, 8], Layout::BatchHeadSeqDim).unwrap();
    let error = regard::attention(query, key, key, target, &config).unwrap_err();
    assert!(matches!(error, regard::AttentionError::AllocationFailed { .. }), "{error}");
}
