//! The operations as burn's dispatch and autodiff know them.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, backend_extension};
use regard::position::RotaryPositions;
use regard::{AttentionConfig, AttentionError};

use crate::flex::{self, Forward, Turn};
use crate::owned::OwnedConfig;

/// An additive bias that may be missing.
#[derive(ExtensionType)]
pub(crate) enum Bias<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

/// A result as it can cross the dispatch.
#[derive(ExtensionType)]
pub(crate) enum Outcome<B: Backend> {
    Output(FloatTensor<B>),
    Refused(AttentionError),
}

/// What Flex computes with `regard`, in f32.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait RegardBackend: Backend {
    fn regard_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] bias: Bias<Self>,
        config: &AttentionConfig<'_>,
    ) -> Outcome<Self>;

    fn regard_rotate(
        tensor: FloatTensor<Self>,
        rotary: &RotaryPositions,
        first_position: usize,
    ) -> Outcome<Self>;
}

impl RegardBackend for Flex {
    fn regard_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: Bias<Self>,
        config: &AttentionConfig<'_>,
    ) -> Outcome<Self> {
        let bias = match bias {
            Bias::Given(bias) => Some(bias),
            Bias::Absent => None,
        };
        match flex::attend([query, key, value], bias, config, false) {
            Ok(forward) => Outcome::Output(forward.output),
            Err(error) => Outcome::Refused(error),
        }
    }

    fn regard_rotate(
        tensor: FloatTensor<Self>,
        rotary: &RotaryPositions,
        first_position: usize,
    ) -> Outcome<Self> {
        match flex::rotate(tensor, rotary, first_position, Turn::Forward) {
            Ok(output) => Outcome::Output(output),
            Err(error) => Outcome::Refused(error),
        }
    }
}

impl<C: CheckpointStrategy> RegardBackend for Autodiff<Flex, C> {
    fn regard_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: Bias<Self>,
        config: &AttentionConfig<'_>,
    ) -> Outcome<Self> {
        match bias {
            Bias::Given(bias) => record_attention::<C, 4>([query, key, value, bias], config),
            Bias::Absent => record_attention::<C, 3>([query, key, value], config),
        }
    }

    fn regard_rotate(
        tensor: FloatTensor<Self>,
        rotary: &RotaryPositions,
        first_position: usize,
    ) -> Outcome<Self> {
        let output = match flex::rotate(tensor.primitive().clone(), rotary, first_position, Turn::Forward) {
            Ok(output) => output,
            Err(error) => return Outcome::Refused(error),
        };
        let prepared = RotateNode.prepare::<C>([tensor.node()]).compute_bound().stateful();
        Outcome::Output(match prepared {
            OpsKind::Tracked(prep) => prep.finish((Arc::new(rotary.clone()), first_position), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        })
    }
}

/// Query, key, value and, if there are four, the bias.
fn record_attention<C: CheckpointStrategy, const N: usize>(
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
    config: &AttentionConfig<'_>,
) -> Outcome<Autodiff<Flex, C>> {
    let (tensors, bias) = split(inputs.each_ref().map(|input| input.primitive().clone()));
    let nodes = inputs.each_ref().map(|input| input.node());
    let prepared = AttentionNode.prepare::<C>(nodes).compute_bound().stateful();
    let forward = match flex::attend(tensors, bias, config, matches!(prepared, OpsKind::Tracked(_))) {
        Ok(forward) => forward,
        Err(error) => return Outcome::Refused(error),
    };
    Outcome::Output(match prepared {
        OpsKind::Tracked(mut prep) => {
            let inputs = inputs.each_ref().map(|input| prep.checkpoint(input));
            let output = forward.output.clone();
            let config = Arc::new(OwnedConfig::new(config));
            prep.finish(Saved { inputs, forward: Arc::new(forward), config }, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward.output),
    })
}

/// Query, key and value; the bias.
fn split<const N: usize>(tensors: [FlexTensor; N]) -> ([FlexTensor; 3], Option<FlexTensor>) {
    let mut tensors = tensors.into_iter();
    let inputs = std::array::from_fn(|_| tensors.next().expect("three or four tensors"));
    (inputs, tensors.next())
}

#[derive(Debug)]
struct AttentionNode;

/// What the backward pass of attention needs: nothing that grows with the square of the sequence.
#[derive(Debug, Clone)]
struct Saved<const N: usize> {
    /// Inputs by their nodes, so that burn may recompute them rather than keep them.
    inputs: [NodeId; N],
    forward: Arc<Forward>,
    config: Arc<OwnedConfig>,
}

impl<const N: usize> Backward<Flex, N> for AttentionNode {
    type State = Saved<N>;

    fn backward(self, ops: Ops<Saved<N>, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let d_output = grads.consume::<Flex>(&ops.node);
        let Saved { inputs, forward, config } = ops.state;
        let (inputs, bias) = split(inputs.map(|input| checkpointer.retrieve_node_output(input)));
        let wants_bias = ops.parents.get(3).is_some_and(Option::is_some);
        let forward = Arc::unwrap_or_clone(forward);
        let (gradients, d_bias) =
            flex::differentiate(inputs, (bias, wants_bias), forward, d_output, &config.borrow())
                .unwrap_or_else(|error| panic!("burn's backward pass cannot return an error: {error}"));
        let gradients = gradients.map(Some).into_iter().chain([d_bias]);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct RotateNode;

impl Backward<Flex, 1> for RotateNode {
    type State = (Arc<RotaryPositions>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_output = grads.consume::<Flex>(&ops.node);
        let (rotary, first_position) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let d_input = flex::rotate(d_output, &rotary, first_position, Turn::Backward)
                .unwrap_or_else(|error| panic!("burn's backward pass cannot return an error: {error}"));
            grads.register::<Flex>(parent.id, d_input);
        }
    }
}
