//! How much useful arithmetic a request is, whatever a worker does to get there.

use crate::protocol::{Mask, Op, Request};

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Bytes of keys and values that have to be read.
    Bytes(f64),
}

/// Operations of forward and backward together, by those of the forward: 7 products instead of 2.
const BOTH: f64 = 3.5;

/// Useful work of one call.
///
/// Attention: 4·head_dim for each pair of a query and a key that it may attend to; with gradients 3.5 times that.
/// A layer: its four projections' 2·m·n·k besides, three times that with gradients. Decoding: bytes.
pub(crate) fn work(request: &Request) -> Work {
    let dim = request.head_dim as f64;
    let attention = 4.0 * request.heads as f64 * allowed_pairs(request) as f64 * dim;
    let model_dim = request.model_dim() as f64;
    let projections = 4.0 * 2.0 * (request.batch * request.seq_q) as f64 * model_dim * model_dim;
    match request.op {
        Op::Forward | Op::Statistics | Op::StatisticsReceived => Work::Flops(attention),
        Op::ForwardBackward => Work::Flops(BOTH * attention),
        Op::LayerForward => Work::Flops(attention + projections),
        Op::LayerForwardBackward => Work::Flops(BOTH * attention + 3.0 * projections),
        Op::Sgemm => Work::Flops(2.0 * request.seq_q as f64 * request.seq_kv as f64 * dim),
        Op::Decode => {
            let elements = request.key_shape().iter().product::<usize>();
            Work::Bytes((2 * elements * request.dtype.bytes()) as f64)
        }
    }
}

/// Pairs of a query and a key that it may attend to, of one head, summed over the batch.
pub(crate) fn allowed_pairs(request: &Request) -> u128 {
    let (batch, seq_q, seq_kv) = (request.batch as u128, request.seq_q as u128, request.seq_kv as u128);
    // Row i sees keys up to i; of n rows the first seq_kv grow by one key each, the rest see all.
    let up_to_own = |rows: u128| {
        let growing = rows.min(seq_kv);
        growing * (growing + 1) / 2 + (rows - growing) * seq_kv
    };
    match request.mask {
        Mask::None => batch * seq_q * seq_kv,
        Mask::Causal => batch * up_to_own(seq_q),
        // What row i does not see any more is what row i − W saw.
        Mask::Window(window) => batch * (up_to_own(seq_q) - up_to_own(seq_q.saturating_sub(window as u128))),
        Mask::Lengths => {
            let lengths = request.key_lengths().unwrap_or_default();
            lengths.into_iter().map(|length| seq_q * length as u128).sum()
        }
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::protocol::Dtype;

    fn request(mask: Mask, [batch, seq_q, seq_kv]: [usize; 3]) -> Request {
        Request {
            op: Op::Forward,
            batch,
            heads: 2,
            kv_heads: 1,
            seq_q,
            seq_kv,
            head_dim: 8,
            mask,
            dtype: Dtype::F32,
            threads: 1,
            seconds: 0.0,
            seed: 0,
        }
    }

    #[test]
    fn allowed_pairs__every_mask__equal_a_count_one_by_one() {
        let masks =
            [Mask::None, Mask::Causal, Mask::Window(1), Mask::Window(3), Mask::Window(50), Mask::Lengths];
        for mask in masks {
            for (seq_q, seq_kv) in [(1, 1), (1, 9), (9, 1), (7, 7), (12, 5), (5, 12), (40, 40)] {
                let request = request(mask, [3, seq_q, seq_kv]);
                let allowed = |b: usize, i: usize, j: usize| match mask {
                    Mask::None => true,
                    Mask::Causal => j <= i,
                    Mask::Window(window) => j <= i && i < j + window,
                    Mask::Lengths => j < seq_kv - b * seq_kv / 6,
                };
                let mut count = 0;
                for (b, i) in (0..3).flat_map(|b| (0..seq_q).map(move |i| (b, i))) {
                    let keys: Vec<usize> = (0..seq_kv).filter(|&j| allowed(b, i, j)).collect();
                    count += keys.len();
                    assert_eq!(request.allowed_keys(b, i).collect::<Vec<_>>(), keys, "{request:?} {b} {i}");
                }
                assert_eq!(allowed_pairs(&request), count as u128, "{request:?}");
            }
        }
    }

    #[test]
    fn work__each_operation__is_its_formula() {
        let base = request(Mask::None, [1, 4, 4]);
        let of = |op| work(&Request { op, ..base.clone() });
        let (attention, projections) = (4.0 * 2.0 * 16.0 * 8.0, 4.0 * 2.0 * 4.0 * 256.0);
        assert_eq!(of(Op::Forward), Work::Flops(attention));
        assert_eq!(of(Op::ForwardBackward), Work::Flops(3.5 * attention));
        assert_eq!(of(Op::LayerForward), Work::Flops(attention + projections));
        assert_eq!(of(Op::LayerForwardBackward), Work::Flops(3.5 * attention + 3.0 * projections));
        assert_eq!(of(Op::Sgemm), Work::Flops(2.0 * 4.0 * 4.0 * 8.0));
        assert_eq!(of(Op::Decode), Work::Bytes(2.0 * 4.0 * 8.0 * 4.0)); // one key head
    }
}
