//! What a worker is asked, and what it answers: one JSON object a line.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One question to a worker. Every field is required, and none may be added: what a worker does not know it
/// cannot have timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// What is timed.
    pub(crate) op: Op,
    /// Independent sequences.
    pub(crate) batch: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; divides `heads`.
    pub(crate) kv_heads: usize,
    /// Query rows of a sequence.
    pub(crate) seq_q: usize,
    /// Key rows of a sequence, padding included.
    pub(crate) seq_kv: usize,
    /// Elements of a query, key and value.
    pub(crate) head_dim: usize,
    /// Which keys a query may attend to.
    pub(crate) mask: Mask,
    /// Storage type of every tensor.
    pub(crate) dtype: Dtype,
    /// Threads to compute with.
    pub(crate) threads: usize,
    /// Seconds to repeat the call for.
    pub(crate) seconds: f64,
    /// Seed of the inputs.
    pub(crate) seed: u64,
}

/// Elements of a tensor, and of keys times queries, beyond which a request is a mistake.
const MOST_ELEMENTS: u128 = 1 << 33;

impl Request {
    /// Elements of a position in a layer: heads · head_dim.
    pub(crate) fn model_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// `[batch, heads, seq_q, head_dim]`.
    pub(crate) fn query_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq_q, self.head_dim]
    }

    /// `[batch, kv_heads, seq_kv, head_dim]`.
    pub(crate) fn key_shape(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.seq_kv, self.head_dim]
    }

    /// Valid keys of each sequence, if the mask is by length: seq_kv − b·seq_kv/(2·batch) of sequence b.
    pub(crate) fn key_lengths(&self) -> Option<Vec<usize>> {
        (self.mask == Mask::Lengths)
            .then(|| (0..self.batch).map(|b| self.seq_kv - b * self.seq_kv / (2 * self.batch)).collect())
    }

    /// The keys that a query of a sequence may attend to, which are adjacent.
    #[cfg(any(test, feature = "candle", feature = "burn"))]
    pub(crate) fn allowed_keys(&self, sequence: usize, query: usize) -> std::ops::Range<usize> {
        let up_to_own = (query + 1).min(self.seq_kv);
        match self.mask {
            Mask::None => 0..self.seq_kv,
            Mask::Causal => 0..up_to_own,
            Mask::Window(window) => (query + 1).saturating_sub(window).min(up_to_own)..up_to_own,
            Mask::Lengths => 0..self.key_lengths().map_or(self.seq_kv, |lengths| lengths[sequence]),
        }
    }

    /// What is wrong with the request, for any worker.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sizes = [self.batch, self.heads, self.kv_heads, self.seq_q, self.seq_kv, self.head_dim];
        if sizes.contains(&0) {
            return Err("every size must be at least 1".into());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("kv_heads {} does not divide heads {}", self.kv_heads, self.heads));
        }
        let product = |sizes: &[usize]| {
            sizes.iter().try_fold(1u128, |all, &size| all.checked_mul(size as u128)).unwrap_or(u128::MAX)
        };
        let [batch, heads, _, seq_q, seq_kv, head_dim] = sizes;
        let largest = product(&[batch, heads, seq_q.max(seq_kv), head_dim]).max(product(&[seq_q, seq_kv]));
        if largest > MOST_ELEMENTS {
            return Err(format!("more than {MOST_ELEMENTS} elements"));
        }
        if !(1..=1024).contains(&self.threads) {
            return Err("threads must be from 1 to 1024".into());
        }
        if !(self.seconds >= 0.0 && self.seconds <= 3600.0) {
            return Err("seconds must be from 0 to 3600".into());
        }
        match self.op {
            Op::LayerForward | Op::LayerForwardBackward if self.seq_q != self.seq_kv => {
                Err("a layer attends to its own input: seq_kv must be seq_q".into())
            }
            Op::Sgemm if self.mask != Mask::None || self.dtype != Dtype::F32 => {
                Err("sgemm is f32 and has no mask".into())
            }
            Op::Sgemm if [batch, heads, self.kv_heads] != [1; 3] => {
                Err("sgemm is of two matrices: batch, heads and kv_heads must be 1".into())
            }
            _ => Ok(()),
        }
    }
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    /// Attention.
    Forward,
    /// Attention and the gradients of query, key and value, together.
    ForwardBackward,
    /// Attention of few query rows over a cache of keys and values.
    Decode,
    /// A multi-head attention layer, projections and biases included.
    LayerForward,
    /// A layer and the gradients of its input and of all its parameters, together.
    LayerForwardBackward,
    /// Attention, and what each row attends to, summed up.
    Statistics,
    /// The same, and what each key receives.
    StatisticsReceived,
    /// A matrix product, `[seq_q, head_dim] · [head_dim, seq_kv]`.
    Sgemm,
}

impl Op {
    /// The name in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::ForwardBackward => "forward_backward",
            Self::Decode => "decode",
            Self::LayerForward => "layer_forward",
            Self::LayerForwardBackward => "layer_forward_backward",
            Self::Statistics => "statistics",
            Self::StatisticsReceived => "statistics_received",
            Self::Sgemm => "sgemm",
        }
    }
}

/// Which keys a query may attend to; query i and key j count from the first of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All.
    None,
    /// j ≤ i.
    Causal,
    /// i − W < j ≤ i, W at least 1.
    Window(usize),
    /// j below the sequence's own length; see [`Request::key_lengths`].
    Lengths,
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Causal => f.write_str("causal"),
            Self::Window(window) => write!(f, "window:{window}"),
            Self::Lengths => f.write_str("lengths"),
        }
    }
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "none" => Ok(Self::None),
            "causal" => Ok(Self::Causal),
            "lengths" => Ok(Self::Lengths),
            other => other
                .strip_prefix("window:")
                .and_then(|window| window.parse().ok())
                .filter(|&window| window > 0)
                .map(Self::Window)
                .ok_or_else(|| {
                    let expected = r#""none", "causal", "window:W" with W from 1, or "lengths""#;
                    serde::de::Error::custom(format!("mask: expected {expected}, found {other:?}"))
                }),
        }
    }
}

/// Storage type of every tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dtype {
    /// 32 bits.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// The name in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of an element.
    pub(crate) fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }
}

/// 16 numbers of each tensor that a call computed, by name: `output`; `d_query`, `d_key`, `d_value`; of a layer
/// `d_input`, `d_query_weight`, `d_key_weight`, `d_value_weight`, `d_output_weight`.
pub(crate) type Samples = BTreeMap<String, Vec<f32>>;

/// A worker's answer to one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The call was timed.
    Measured(Measurement),
    /// It was not, and this is why.
    Refused {
        /// One line.
        error: String,
    },
}

/// Numbers of the parts of a call, by name.
pub(crate) type Parts = BTreeMap<String, f64>;

/// How long a call took, and what it computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Median of all timed calls, in seconds.
    pub(crate) median_s: f64,
    /// Fastest of them, in seconds.
    pub(crate) min_s: f64,
    /// Timed calls.
    pub(crate) runs: usize,
    /// By how much the first call raised the highest resident memory, in bytes, where that can be known.
    pub(crate) peak_extra_bytes: Option<u64>,
    /// What was computed, for comparison.
    pub(crate) samples: Samples,
    /// Name and version of what computed.
    pub(crate) engine: String,
    /// Share of each part of the time, where the worker tells them apart.
    #[serde(default, skip_serializing_if = "Parts::is_empty")]
    pub(crate) parts: Parts,
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"op":"forward_backward","batch":1,"heads":8,"kv_heads":8,"seq_q":2048,"seq_kv":2048,"head_dim":64,"mask":"window:256","dtype":"bf16","threads":2,"seconds":1.0,"seed":1}"#;

    fn request() -> Request {
        serde_json::from_str(LINE).unwrap()
    }

    #[test]
    fn request__line__survives_a_round_trip() {
        assert_eq!(request().mask, Mask::Window(256));
        assert_eq!(serde_json::to_string(&request()).unwrap(), LINE);
    }

    #[test]
    fn request__unknown_or_missing_or_odd_field__is_an_error() {
        for (from, to) in [
            ("\"seed\":1", "\"seed\":1,\"softcap\":30"),
            (",\"seed\":1", ""),
            ("window:256", "window:0"),
            ("window:256", "bottom"),
            ("\"heads\":8", "\"heads\":-8"),
            ("bf16", "f64"),
        ] {
            assert!(LINE.contains(from));
            assert!(serde_json::from_str::<Request>(&LINE.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn request__check__refuses_what_no_worker_can_do() {
        assert_eq!(request().check(), Ok(()));
        let wrong: [fn(&mut Request); 8] = [
            |r| r.batch = 0,
            |r| r.kv_heads = 3,
            |r| r.seq_kv = usize::MAX,
            |r| r.threads = 0,
            |r| r.seconds = f64::NAN,
            |r| (r.op, r.seq_kv) = (Op::LayerForward, 5),
            |r| (r.op, r.mask) = (Op::Sgemm, Mask::None),
            |r| (r.op, r.mask, r.dtype) = (Op::Sgemm, Mask::None, Dtype::F32),
        ];
        for (index, change) in wrong.into_iter().enumerate() {
            let mut request = request();
            change(&mut request);
            assert!(request.check().is_err(), "{index}: {request:?}");
        }
    }

    #[test]
    fn answer__both_kinds__survive_a_round_trip() {
        let samples = Samples::from([("output".to_string(), vec![0.1f32, -1e-30])]);
        let measured = Answer::Measured(Measurement {
            median_s: 0.5,
            min_s: 0.25,
            runs: 3,
            peak_extra_bytes: None,
            samples,
            engine: "regard".into(),
            parts: Parts::new(),
        });
        for answer in [measured, Answer::Refused { error: "no".into() }] {
            let line = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer, "{line}");
        }
    }

    #[test]
    fn key_lengths__of_a_batch__shrink_to_just_over_half() {
        let request = Request { mask: Mask::Lengths, batch: 4, seq_kv: 10, ..request() };
        assert_eq!(request.key_lengths(), Some(vec![10, 9, 8, 7]));
    }
}
