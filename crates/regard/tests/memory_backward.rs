//! Memory of the backward: what a call says it needs, what it takes, and that a reused workspace takes nothing.
//!
//! One test in one process, because the counting allocator counts everything.
#![allow(non_snake_case)]

use regard::{
    AttentionConfig, AttentionError, AttentionGradients, BackwardInputs, Layout, Parallelism, TensorView,
    TensorViewMut, Workspace, attention_backward, attention_backward_scratch_bytes,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

struct Call {
    heads: [usize; 2],
    seq: [usize; 2],
    dim: usize,
    query: Vec<f32>,
    key: Vec<f32>,
    log_sum_exp: Vec<f32>,
    gradients: [Vec<f32>; 3],
}

impl Call {
    fn new(heads: [usize; 2], seq: [usize; 2], dim: usize) -> Self {
        let numbers =
            |len: usize| (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect::<Vec<f32>>();
        let (query, key) = (numbers(heads[0] * seq[0] * dim), numbers(heads[1] * seq[1] * dim));
        let gradients = [query.clone(), key.clone(), key.clone()];
        Self { heads, seq, dim, log_sum_exp: vec![5.0; heads[0] * seq[0]], query, key, gradients }
    }

    fn shapes(&self) -> [[usize; 4]; 2] {
        [0, 1].map(|i| [1, self.heads[i], self.seq[i], self.dim])
    }

    /// Bytes announced, allocations made, and the most bytes of them that live at once.
    fn run(&mut self, config: &AttentionConfig<'_>, workspace: &mut Workspace) -> (usize, u64, usize) {
        let [query_shape, key_shape] = self.shapes();
        let layout = Layout::BatchHeadSeqDim;
        let query = TensorView::new(&self.query, query_shape, layout).unwrap();
        let key = TensorView::new(&self.key, key_shape, layout).unwrap();
        let inputs = BackwardInputs {
            output: query,
            log_sum_exp: &self.log_sum_exp,
            d_output: query,
            d_log_sum_exp: None,
        };
        let announced = attention_backward_scratch_bytes(query, key, key, inputs, config).unwrap();
        let [d_query, d_key, d_value] = &mut self.gradients;
        let gradients = AttentionGradients::new(
            TensorViewMut::new(d_query, query_shape, layout).unwrap(),
            TensorViewMut::new(d_key, key_shape, layout).unwrap(),
            TensorViewMut::new(d_value, key_shape, layout).unwrap(),
        );
        let profiler = dhat::Profiler::builder().testing().build();
        attention_backward(query, key, key, inputs, gradients, config, workspace).unwrap();
        let taken = dhat::HeapStats::get();
        drop(profiler);
        (announced, taken.total_blocks, taken.max_bytes)
    }
}

#[test]
fn backward_memory__stays_linear_as_announced_and_is_reused() {
    let config = AttentionConfig::new().with_parallelism(Parallelism::Sequential);
    for (heads, seq, dim) in [([4, 2], [300, 500], 64), ([8, 2], [1, 9000], 128), ([2, 2], [30, 5000], 40)] {
        let mut call = Call::new(heads, seq, dim);
        let mut workspace = Workspace::new();
        let (announced, _, taken) = call.run(&config, &mut workspace);
        assert!(taken <= announced + 4096, "{seq:?}: announced {announced}, took {taken}");
        assert!(taken * 2 >= announced, "{seq:?}: announced {announced}, took {taken}");
        let (_, allocations, _) = call.run(&config, &mut workspace);
        assert_eq!(allocations, 0, "{seq:?}");
    }

    // Linear: eight times the sequence takes at most about eight times the scratch.
    let mut workspace = Workspace::new();
    let mut bytes = |n: usize| Call::new([1, 1], [n, n], 16).run(&config, &mut workspace).0;
    let (short, long) = (bytes(1_024), bytes(8_192));
    assert!(long < 9 * short, "{short} bytes at 1,024, {long} at 8,192");

    // No room: an error, and not an abort, for a request that is too large for any machine.
    let data = [0.5f32; 8];
    let (shape, keys) = ([1, 1, 4, 8], 1usize << 40);
    let query = TensorView::with_strides(&data, shape, [0, 0, 0, 1]).unwrap();
    let key = TensorView::with_strides(&data, [1, 1, keys, 8], [0, 0, 0, 1]).unwrap();
    let lse = [0.0; 4];
    let inputs = BackwardInputs { output: query, log_sum_exp: &lse, d_output: query, d_log_sum_exp: None };
    let bytes = attention_backward_scratch_bytes(query, key, key, inputs, &config).unwrap();
    assert!(bytes > 1 << 44, "{bytes}");
    // Its gradients could not be held either; a request whose gradients fit and whose scratch does not:
    let rows = 1usize << 24;
    let many = TensorView::with_strides(&data, [1, 1 << 12, rows, 8], [0, 0, 0, 1]).unwrap();
    let none = TensorView::with_strides(&data[..0], [1, 1 << 12, 0, 8], [0, 0, 0, 1]).unwrap();
    let bytes = attention_backward_scratch_bytes(
        none,
        many,
        many,
        BackwardInputs { output: none, log_sum_exp: &[], d_output: none, d_log_sum_exp: None },
        &config,
    );
    assert!(bytes.is_ok_and(|bytes| bytes >= rows * 8 * 4));
    let overflow = TensorView::with_strides(&data, [1, 1, 1 << 57, 8], [0, 0, 0, 1]).unwrap();
    let error = attention_backward_scratch_bytes(query, overflow, overflow, inputs, &config).unwrap_err();
    assert!(matches!(error, AttentionError::SizeOverflow { .. }), "{error}");
}
