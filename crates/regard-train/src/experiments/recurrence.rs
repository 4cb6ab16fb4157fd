//! Burn's recurrent cells with the matrices of their gates side by side: a step is one product or two in place of two a gate.

use burn::nn::gru::Gru;
use burn::nn::{GateController, Linear, Lstm};
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, tanh};

/// What [`Lstm::forward`] gives without a first state, `[batch_size, seq_len, state]`.
pub(super) fn lstm(cell: &Lstm, input: Tensor<3>) -> Tensor<3> {
    let forget = cell.forget_gate.as_ref().expect("a cell as `LstmConfig::new` makes it");
    let gates = [&cell.input_gate, forget, &cell.output_gate, &cell.cell_gate];
    let (of_input, input_bias) = side_by_side(&gates, |gate| &gate.input_transform);
    let (of_state, state_bias) = side_by_side(&gates, |gate| &gate.hidden_transform);
    let (weight, bias) = (Tensor::cat(vec![of_input, of_state], 0), input_bias + state_bias);
    let [batch_size, seq_len, _] = input.dims();
    let state = cell.d_hidden;
    let mut hidden = Tensor::<2>::zeros([batch_size, state], &input.device());
    let mut memory = hidden.clone();
    let mut all = Vec::with_capacity(seq_len);
    for at in 0..seq_len {
        let now = input.clone().narrow(1, at, 1).squeeze_dim::<2>(1);
        let sums = Tensor::cat(vec![now, hidden], 1).matmul(weight.clone()) + bias.clone();
        let open = sigmoid(sums.clone().narrow(1, 0, 3 * state));
        let [write, keep, show] = [0, 1, 2].map(|gate| open.clone().narrow(1, gate * state, state));
        memory = keep * memory + write * tanh(sums.narrow(1, 3 * state, state));
        hidden = show * tanh(memory.clone());
        all.push(hidden.clone());
    }
    Tensor::stack(all, 1)
}

/// What [`Gru::forward`] gives without a first state, with the reset after the product, `[batch_size, seq_len, state]`.
pub(super) fn gru(cell: &Gru, input: Tensor<3>) -> Tensor<3> {
    let gates = [&cell.update_gate, &cell.reset_gate, &cell.new_gate];
    let (of_input, input_bias) = side_by_side(&gates, |gate| &gate.input_transform);
    let (of_state, state_bias) = side_by_side(&gates, |gate| &gate.hidden_transform);
    let [batch_size, seq_len, _] = input.dims();
    let state = cell.d_hidden;
    let mut hidden = Tensor::<2>::zeros([batch_size, state], &input.device());
    let mut all = Vec::with_capacity(seq_len);
    for at in 0..seq_len {
        let now = input.clone().narrow(1, at, 1).squeeze_dim::<2>(1);
        let read = now.matmul(of_input.clone()) + input_bias.clone();
        let kept = hidden.clone().matmul(of_state.clone()) + state_bias.clone();
        let open = sigmoid(read.clone().narrow(1, 0, 2 * state) + kept.clone().narrow(1, 0, 2 * state));
        let [update, reset] = [0, 1].map(|gate| open.clone().narrow(1, gate * state, state));
        let new = tanh(read.narrow(1, 2 * state, state) + reset * kept.narrow(1, 2 * state, state));
        hidden = new.clone() + update * (hidden - new);
        all.push(hidden.clone());
    }
    Tensor::stack(all, 1)
}

/// The matrices `[rows, gates · state]` and biases `[1, gates · state]` of several gates.
fn side_by_side(
    gates: &[&GateController],
    of: impl Fn(&GateController) -> &Linear,
) -> (Tensor<2>, Tensor<2>) {
    let weights = gates.iter().map(|gate| of(gate).weight.val()).collect();
    let biases = gates.iter().filter_map(|gate| Some(of(gate).bias.as_ref()?.val())).collect();
    (Tensor::cat(weights, 1), Tensor::cat(biases, 0).unsqueeze())
}
