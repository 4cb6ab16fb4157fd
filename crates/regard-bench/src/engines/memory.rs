//! How fast a decode's keys and values can be read at all: every worker thread adds up its share of them.

use rayon::prelude::*;

use super::{Call, input, unsupported};
use crate::inputs::Tensor;
use crate::protocol::{Dtype, Op, Request, Samples};

struct Reading {
    tensors: [Vec<f32>; 2],
    sum: f32,
}

/// Elements that a thread takes at a time: 1 MiB.
const SHARE: usize = 1 << 18;

/// Sums that are independent of each other, so that none waits and they vectorise.
const SUMS: usize = 64;

pub(super) fn prepare(request: &Request) -> Result<Box<dyn Call>, String> {
    if request.op != Op::Decode || request.dtype != Dtype::F32 {
        return unsupported("memory", request);
    }
    let shape = request.key_shape();
    let tensors = [Tensor::Key, Tensor::Value].map(|tensor| input(request, tensor, &shape));
    Ok(Box::new(Reading { tensors, sum: 0.0 }))
}

fn add_up(numbers: &[f32]) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let mut chunks = numbers.chunks_exact(SUMS);
    for chunk in &mut chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, number)| *sum += number);
    }
    sums.iter().chain(chunks.remainder()).sum()
}

impl Call for Reading {
    fn run(&mut self) -> Result<(), String> {
        self.sum = self.tensors.par_iter().flat_map(|tensor| tensor.par_chunks(SHARE)).map(add_up).sum();
        Ok(())
    }

    /// None: nothing is attended to. The sum is looked at, so that it is computed.
    fn samples(&self) -> Result<Samples, String> {
        if self.sum.is_finite() { Ok(Samples::new()) } else { Err("the sum is not finite".into()) }
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::add_up;

    #[test]
    fn add_up__any_length__adds_everything() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let numbers: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(add_up(&numbers), (len * len.max(1) - len) as f32 / 2.0);
        }
    }
}
