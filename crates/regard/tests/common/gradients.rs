//! Gradients of a case, run and compared.

use fastrand::Rng;
use regard::reference::{Cotangents, Gradient, Reference, ReferenceGradients};
use regard::{
    AttentionConfig, AttentionError, AttentionGradients, BackwardInputs, Workspace, attention_backward,
};
use regard_testkit::{Accuracy, PoisonedBuffer};

use super::{Inputs, Memory, Tensor, TestElement, cancelled, count_head, isas, normal};

/// What a loss gives back.
#[derive(Debug, Clone)]
pub struct Cotangent<Q> {
    pub d_output: Tensor<Q>,
    pub d_log_sum_exp: Option<Vec<f32>>,
}

/// All gradients, in b, h, s, d order, widened.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub d_query: Vec<f32>,
    pub d_key: Vec<f32>,
    pub d_value: Vec<f32>,
    pub d_attention_bias: Vec<f32>,
    pub d_relative_bias: Vec<f32>,
    pub d_sinks: Vec<f32>,
}

impl Found {
    pub fn all(&self) -> [(&'static str, &[f32]); 6] {
        [
            ("d_query", &self.d_query),
            ("d_key", &self.d_key),
            ("d_value", &self.d_value),
            ("d_attention_bias", &self.d_attention_bias),
            ("d_relative_bias", &self.d_relative_bias),
            ("d_sinks", &self.d_sinks),
        ]
    }

    pub fn bits(&self) -> Vec<u32> {
        self.all().iter().flat_map(|(_, numbers)| numbers.iter().map(|x| x.to_bits())).collect()
    }
}

impl<Q: TestElement, KV: TestElement> Inputs<Q, KV> {
    pub fn cotangent(&self, with_lse: bool, memory: &Memory, rng: &mut Rng) -> Cotangent<Q> {
        let [b, h, s_q, _] = self.query.shape;
        let d_output = Tensor::new([b, h, s_q, self.value.shape[3]], memory, || normal(rng));
        let d_log_sum_exp = with_lse.then(|| (0..b * h * s_q).map(|_| normal(rng)).collect());
        Cotangent { d_output, d_log_sum_exp }
    }

    /// Forward and backward; checks that nothing else was written.
    pub fn gradients(
        &self,
        cotangent: &Cotangent<Q>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<Found, AttentionError> {
        let (output, log_sum_exp) = self.run_stored(config, workspace)?;
        let memory = &self.output_memory;
        let mut d_query = Tensor::<Q>::unfilled(self.query.shape, memory);
        let mut d_key = Tensor::<KV>::unfilled(self.key.shape, memory);
        let mut d_value = Tensor::<KV>::unfilled(self.value.shape, memory);
        let mut d_bias = config.attention_bias.map(|bias| Tensor::<f32>::unfilled(bias.shape(), memory));
        let poisoned = |len: Option<usize>| PoisonedBuffer::new(len.unwrap_or(0), 3, f32::NAN);
        let mut d_relative = poisoned(config.relative_bias.map(|bias| bias.table.len()));
        let mut d_sinks = poisoned(config.sinks.map(<[f32]>::len));
        let inputs = BackwardInputs {
            output: output.view(),
            log_sum_exp: &log_sum_exp,
            d_output: cotangent.d_output.view(),
            d_log_sum_exp: cotangent.d_log_sum_exp.as_deref(),
        };
        let gradients = AttentionGradients {
            d_query: d_query.view_mut(),
            d_key: d_key.view_mut(),
            d_value: d_value.view_mut(),
            d_attention_bias: d_bias.as_mut().map(Tensor::view_mut),
            d_relative_bias: config.relative_bias.map(|_| d_relative.data_mut()),
            d_sinks: config.sinks.map(|_| d_sinks.data_mut()),
        };
        let views = (self.query.view(), self.key.view(), self.value.view());
        attention_backward(views.0, views.1, views.2, inputs, gradients, config, workspace)?;
        let intact = d_query.is_intact() && d_key.is_intact() && d_value.is_intact();
        assert!(intact && d_bias.as_ref().is_none_or(Tensor::is_intact), "wrote outside a gradient");
        let intact = [&d_relative, &d_sinks].iter().all(|buffer| buffer.is_intact(f32::to_bits, |_| true));
        assert!(intact, "wrote outside a gradient");
        Ok(Found {
            d_query: d_query.numbers(),
            d_key: d_key.numbers(),
            d_value: d_value.numbers(),
            d_attention_bias: d_bias.map_or(vec![], |bias| bias.numbers()),
            d_relative_bias: d_relative.data().to_vec(),
            d_sinks: d_sinks.data().to_vec(),
        })
    }

    /// The gradients by the textbook.
    pub fn reference_gradients<R: regard::reference::Real>(
        &self,
        cotangent: &Cotangent<Q>,
        config: &AttentionConfig<'_>,
    ) -> ReferenceGradients<R> {
        let views = (self.query.view(), self.key.view(), self.value.view());
        let wide = |numbers: &[f32]| numbers.iter().map(|&x| R::from_f64(f64::from(x))).collect();
        let cotangents = Cotangents {
            d_output: wide(&cotangent.d_output.numbers()),
            d_log_sum_exp: wide(cotangent.d_log_sum_exp.as_deref().unwrap_or_default()),
        };
        Reference::new(views.0, views.1, views.2, config).unwrap().backward(&cotangents)
    }

    /// Runs on every instruction set and compares by the accuracy rule; returns the worst share of it used.
    pub fn check_gradients(
        &self,
        cotangent: &Cotangent<Q>,
        config: &AttentionConfig<'_>,
    ) -> Result<f64, String> {
        let views = (self.query.view(), self.key.view(), self.value.view());
        let forward = Reference::<f64>::new(views.0, views.1, views.2, config).unwrap().forward();
        let truth = self.reference_gradients::<f64>(cotangent, config);
        let naive = self.reference_gradients::<f32>(cotangent, config);
        let [batch, heads, s_q, _] = self.query.shape;
        let group = heads / self.key.shape[1].max(1);
        // Largest scores of the query heads, or of the groups of them, that a part of a gradient belongs to.
        let largest =
            |numbers: &[f64], rows: std::ops::Range<usize>| numbers[rows].iter().copied().fold(0.0, f64::max);
        let lost = self.lost_in_storage(cotangent, config);
        // Probabilities are multiplied with these besides inputs of ordinary size.
        let scale = config.softmax_scale.map_or(1.0, |scale| f64::from(scale.abs()).max(1.0));
        let kept = 1.0 - config.dropout.as_ref().map_or(0.0, |dropout| f64::from(dropout.rate));
        let mut worst = 0.0f64;
        for isa in isas() {
            let found = self.gradients(cotangent, &config.with_isa(isa), &mut Workspace::new());
            let found = found.map_err(|e| e.to_string())?;
            let parts = [
                (truth.d_query.clone(), &naive.d_query, batch * heads, 1, Q::ROUNDOFF),
                (truth.d_key.clone(), &naive.d_key, batch * heads / group.max(1), group, KV::ROUNDOFF),
                (truth.d_value.clone(), &naive.d_value, batch * heads / group.max(1), group, KV::ROUNDOFF),
                (truth.d_attention_bias.clone(), &naive.d_attention_bias, 1, batch * heads, f32::ROUNDOFF),
                (truth.d_relative_bias.clone(), &naive.d_relative_bias, 1, batch * heads, f32::ROUNDOFF),
                (truth.d_sinks.clone(), &naive.d_sinks, 1, batch * heads, f32::ROUNDOFF),
            ];
            for ((name, found), (truth, naive, slices, heads_each, roundoff)) in
                found.all().into_iter().zip(parts)
            {
                let stored = Q::ROUNDOFF.max(roundoff);
                for slice in 0..slices {
                    let rows = slice * heads_each * s_q..(slice + 1) * heads_each * s_q;
                    let scores = (
                        largest(&forward.max_abs_score, rows.clone()),
                        largest(&forward.max_score_terms, rows),
                    );
                    let len = truth.sum.len() / slices;
                    let range = slice * len..(slice + 1) * len;
                    let compared = (&found[range.clone()], range);
                    let rounding = |x: f32| match name {
                        "d_query" => Q::from_f32(x).to_f32(),
                        "d_key" | "d_value" => KV::from_f32(x).to_f32(),
                        _ => x,
                    };
                    // In the rule it stands for max|r|, which is multiplied by 2u.
                    let least = lost(name) / (2.0 * stored);
                    let limits = (scores, least, scale / kept);
                    let share = compare(compared, (&truth, naive), limits, (stored, rounding))
                        .map_err(|e| format!("{isa}: {name}, slice {slice}: {e}"))?;
                    worst = worst.max(share);
                }
            }
        }
        Ok(worst)
    }

    /// What each gradient may lose because delta = d_output·output is of the output as stored, where a number below
    /// the smallest normal one has an absolute error of half the smallest: a score's gradient is p·(… − delta).
    fn lost_in_storage(
        &self,
        cotangent: &Cotangent<Q>,
        config: &AttentionConfig<'_>,
    ) -> impl Fn(&str) -> f64 {
        let d_output: f64 = cotangent.d_output.numbers().iter().map(|x| f64::from(x.abs())).sum();
        let delta = Q::SMALLEST / 2.0 * d_output;
        let default = 1.0 / (self.query.shape[3] as f64).sqrt();
        let scale = config.softmax_scale.map_or(default, |scale| f64::from(scale.abs()));
        let largest = |numbers: Vec<f32>| {
            numbers.iter().filter(|x| x.is_finite()).fold(0.0, |a: f64, &x| a.max(f64::from(x.abs())))
        };
        let (query, key) = (largest(self.query.numbers()), largest(self.key.numbers()));
        move |name| match name {
            "d_query" => delta * scale * key,
            "d_key" => delta * scale * query,
            "d_value" => 0.0,
            _ => delta,
        }
    }
}

/// The rule for gradients: three times the naive error, and max|r| over the summed terms.
fn compare(
    (found, range): (&[f32], std::ops::Range<usize>),
    (truth, naive): (&Gradient<f64>, &Gradient<f32>),
    ((scores, score_terms), least, underflow): ((f64, f64), f64, f64),
    (roundoff, rounding): (f64, impl Fn(f32) -> f32),
) -> Result<f64, String> {
    if range.is_empty() {
        return Ok(0.0);
    }
    let largest = |numbers: &[f64]| numbers[range.clone()].iter().copied().fold(least, f64::max);
    let naive: Vec<f32> = naive.sum[range.clone()].iter().map(|&x| rounding(x)).collect();
    let rule = |max_abs_score, magnitude| Accuracy {
        factor: 3.0,
        roundoff,
        max_abs_score,
        rounding_magnitude: magnitude,
        magnitude,
        underflow,
    };
    let check = |rule: Accuracy| rule.check(found, &truth.sum[range.clone()], &naive);
    count_head();
    check(rule(scores, largest(&truth.terms)))
        .or_else(|_| cancelled(check(rule(score_terms, largest(&truth.all_terms)))))
}
