//! Layers, caches and positions.

use regard::layer::{KvCache, Linear, MultiHeadAttention, PagedKvCache};
use regard::position::{LearnedPositions, RelativePositionBuckets, RotaryPairs, RotaryPositions};
use regard::{AttentionConfig, Parallelism, TensorView};

use super::{LAYOUT, Report, numbers};

pub(super) fn layers(report: &mut Report) {
    report.refused(
        "linear",
        Linear::new(vec![0.0; 5], None, 2, 3),
        "linear.weight.len: expected size 6, found 5",
    );
    report.refused("linear", Linear::new(vec![0.0; 6], Some(vec![0.0; 2]), 2, 3), "linear.bias.len");
    report.refused("linear", Linear::new(vec![], None, usize::MAX, 3), "does not fit");
    let linear = |inputs: usize, outputs: usize| {
        Linear::new(vec![0.1; inputs * outputs], None, inputs, outputs).unwrap()
    };
    let layer = |q, k, v, o, heads| MultiHeadAttention::new(q, k, v, o, heads);
    let four = || linear(4, 4);
    report.refused("heads", layer(four(), four(), four(), four(), [3, 3]), "num_heads");
    report.refused("heads", layer(four(), four(), four(), four(), [0, 0]), "num_heads");
    report.refused("heads", layer(four(), four(), four(), four(), [4, 3]), "");
    report.refused("key", layer(four(), linear(4, 3), four(), four(), [2, 2]), "key.out_features");
    report.refused("value", layer(four(), four(), linear(5, 4), four(), [2, 2]), "value.in_features");
    report.refused("output", layer(four(), four(), four(), linear(5, 4), [2, 2]), "output.in_features");
    let whole = layer(four(), four(), four(), four(), [2, 2]).unwrap();
    let config = AttentionConfig::new().with_parallelism(Parallelism::Sequential);
    report.refused("input", whole.forward(&[0.0; 11], [1, 3], &config), "");
    report.refused("input", whole.forward(&[0.0; 12], [usize::MAX, 3], &config), "does not fit");
    report.refused("cache", KvCache::<f32>::new(usize::MAX, 2, 8, [4, 4]), "does not fit");
    report.refused("cache", KvCache::<f32>::new(1, 1, 8, [0, 4]), "head_dim");
    report.refused("pages", PagedKvCache::<f32>::new(1, 1, [usize::MAX, 16], [4, 4]), "does not fit");
    let mut cache = KvCache::<f32>::new(1, 1, 2, [4, 4]).unwrap();
    let data = numbers([1, 1, 3, 4]);
    let rows = TensorView::new(&data, [1, 1, 3, 4], LAYOUT).unwrap();
    report.refused("full", cache.append(rows, rows), "3 more rows needed, 2 left");
    let mut pages = PagedKvCache::<f32>::new(1, 1, [1, 2], [4, 4]).unwrap();
    report.refused("full", pages.append(rows, rows), "needed");
}

pub(super) fn positions(report: &mut Report) {
    let rotary = |dim, rotary_dim, base| RotaryPositions::new(dim, rotary_dim, base, RotaryPairs::HalfSplit);
    report.refused("odd", rotary(8, 5, 1e4), "rotary_dim");
    report.refused("too large", rotary(8, 10, 1e4), "rotary_dim");
    for base in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        report.refused("base", rotary(8, 8, base), "base");
    }
    report.refused("table", LearnedPositions::new(vec![0.0; 5], 2, 3), "positions.len");
    let learned = LearnedPositions::new(vec![0.0; 6], 2, 3).unwrap();
    report.refused("beyond", learned.add_to(&mut [0.0; 9], [1, 3], 0), "positions");
    report.refused("beyond", learned.add_to(&mut [0.0; 3], [1, 1], usize::MAX), "positions");
    for (buckets, distance) in [(0, 128), (1, 128), (32, 0)] {
        report.refused("buckets", RelativePositionBuckets::bidirectional(buckets, distance), "");
    }
}
