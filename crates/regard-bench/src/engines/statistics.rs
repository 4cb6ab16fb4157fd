//! This workspace's `attention_with_statistics`: the output and everything that can be said of each row, and, if asked
//! for, what each key receives.

use regard::{
    AttentionConfig, AttentionError, AttentionOutput, AttentionStatistics, Element, KeySets,
    StatisticsRequest, TensorView, TensorViewMut, Workspace, attention_with_statistics,
};

use super::regard::{LAYOUT, mask};
use super::{Call, Stored, input, sample};
use crate::inputs::{self, Tensor};
use crate::protocol::{Op, Request, Samples};

const OFFSETS: [i64; 17] = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// Every so many keys one is in the second set.
const MEMBER_DISTANCE: usize = 61;

struct StatisticsCall<T> {
    request: Request,
    lengths: Option<Vec<usize>>,
    query: Vec<T>,
    key: Vec<T>,
    value: Vec<T>,
    token_ids: Vec<u32>,
    members: Vec<u32>,
    output: Vec<T>,
    found: Option<AttentionStatistics>,
    workspace: Workspace,
}

pub(super) fn prepare_statistics<T: Element + Stored>(request: &Request) -> Result<Box<dyn Call>, String> {
    let (query_shape, key_shape) = (request.query_shape(), request.key_shape());
    let query: Vec<T> = input(request, Tensor::Query, &query_shape);
    let keys = 0..request.batch * request.seq_kv;
    let token = |index| (inputs::value(request.seed, Tensor::Input, index as u64).abs() * 50.0) as u32;
    let sets = |key: usize| {
        let position = key % request.seq_kv;
        u32::from(position == 0) | u32::from(position % MEMBER_DISTANCE == MEMBER_DISTANCE - 1) << 1
    };
    Ok(Box::new(StatisticsCall {
        request: request.clone(),
        lengths: request.key_lengths(),
        key: input(request, Tensor::Key, &key_shape),
        value: input(request, Tensor::Value, &key_shape),
        token_ids: keys.clone().map(token).collect(),
        members: keys.map(sets).collect(),
        output: vec![T::default(); query.len()],
        query,
        found: None,
        workspace: Workspace::new(),
    }))
}

impl<T: Element + Stored> StatisticsCall<T> {
    fn sum_up(&mut self) -> Result<(), AttentionError> {
        let (query_shape, key_shape) = (self.request.query_shape(), self.request.key_shape());
        let config = AttentionConfig::new().with_mask(mask(self.request.mask, self.lengths.as_deref()));
        let mut request = StatisticsRequest::new()
            .with_top_k(8)
            .with_offsets(&OFFSETS)
            .with_distance_bins(17)
            .with_key_sets(KeySets { num_sets: 2, members: &self.members })
            .with_token_ids(&self.token_ids)
            .with_thumbnail([48, 48]);
        request.received = self.request.op == Op::StatisticsReceived;
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut self.output, query_shape, LAYOUT)?,
            log_sum_exp: None,
        };
        self.found = None; // freed before the next, as by a caller that has used it
        self.found = Some(attention_with_statistics(
            TensorView::new(&self.query, query_shape, LAYOUT)?,
            TensorView::new(&self.key, key_shape, LAYOUT)?,
            TensorView::new(&self.value, key_shape, LAYOUT)?,
            target,
            &request,
            &config,
            &mut self.workspace,
        )?);
        Ok(())
    }
}

impl<T: Element + Stored> Call for StatisticsCall<T> {
    fn run(&mut self) -> Result<(), String> {
        self.sum_up().map_err(|e| e.to_string())
    }

    fn samples(&self) -> Result<Samples, String> {
        let mut samples = sample(&[("output", self.output.as_slice())])?;
        if let Some(found) = &self.found {
            let mut tensors = vec![
                ("entropy", found.entropy.as_slice()),
                ("mean_distance", &found.mean_distance),
                ("top_probs", &found.top_probs),
                ("same_token_mass", &found.same_token_mass),
                ("thumbnail", &found.thumbnail),
            ];
            if self.request.op == Op::StatisticsReceived {
                tensors.push(("received", &found.received));
            }
            samples.extend(sample(&tensors)?);
        }
        Ok(samples)
    }
}
