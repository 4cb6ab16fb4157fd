//! Statistics of a case, run and compared with the reference row by row.

use fastrand::Rng;
use regard::reference::{Reference, ReferenceRowStatistics};
use regard::{
    AttentionConfig, AttentionError, AttentionOutput, AttentionShape, AttentionStatistics, KeySets,
    StatisticsRequest, Workspace, attention_statistics, attention_with_statistics,
};

use super::{Inputs, Sizes, Tensor, TestElement, isas};

/// A request with everything that it borrows.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub top_k: usize,
    pub offsets: Vec<i64>,
    pub num_distance_bins: usize,
    pub num_sets: usize,
    pub members: Vec<u32>,
    pub token_ids: Vec<u32>,
    pub thumbnail: [usize; 2],
}

impl Wanted {
    /// Everything, for `[batch_size, seq_len_kv]` keys.
    pub fn all([batch, s_kv]: [usize; 2], rng: &mut Rng) -> Self {
        let num_sets = rng.usize(1..5);
        let vocabulary = [1, 3, 20, 1000][rng.usize(..4)];
        // Sets that many keys are in, and one that few are in.
        let member =
            |rng: &mut Rng| rng.u32(..1 << (num_sets - 1)) | u32::from(rng.u8(..50) == 0) << (num_sets - 1);
        Self {
            top_k: rng.usize(1..10),
            offsets: (-8..=8).chain([rng.i64(-200..200), i64::MIN, i64::MAX]).collect(),
            num_distance_bins: [1, 2, 5, 10, 63][rng.usize(..5)],
            num_sets,
            members: (0..batch * s_kv).map(|_| member(rng)).collect(),
            token_ids: (0..batch * s_kv).map(|_| rng.u32(..vocabulary)).collect(),
            thumbnail: [rng.usize(1..10), rng.usize(1..65)],
        }
    }

    pub fn for_sizes(sizes: Sizes, seed: u64) -> Self {
        Self::all([sizes.batch, sizes.s_kv], &mut Rng::with_seed(seed))
    }

    pub fn request(&self) -> StatisticsRequest<'_> {
        StatisticsRequest::new()
            .with_top_k(self.top_k)
            .with_offsets(&self.offsets)
            .with_distance_bins(self.num_distance_bins)
            .with_key_sets(KeySets { num_sets: self.num_sets, members: &self.members })
            .with_token_ids(&self.token_ids)
            .with_received()
            .with_thumbnail(self.thumbnail)
    }
}

/// Every number as bits, array by array.
pub fn statistics_bits(found: &AttentionStatistics) -> Vec<Vec<u32>> {
    let floats = [
        &found.log_sum_exp,
        &found.entropy,
        &found.mean_distance,
        &found.sink_prob,
        &found.top_probs,
        &found.distance_mass,
        &found.offset_mass,
        &found.key_set_mass,
        &found.same_token_mass,
        &found.induction_mass,
        &found.received,
        &found.thumbnail,
    ];
    let bits = floats.map(|numbers| numbers.iter().map(|number| number.to_bits()).collect());
    let counts = [&found.visible_keys, &found.top_keys, &found.visible_queries].map(Clone::clone);
    bits.into_iter().chain(counts).collect()
}

impl<Q: TestElement, KV: TestElement> Inputs<Q, KV> {
    /// Output and statistics of one call; checks that nothing else was written.
    pub fn run_statistics(
        &self,
        request: &StatisticsRequest<'_>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(Tensor<Q>, AttentionStatistics), AttentionError> {
        let [b, h, s_q, _] = self.query.shape;
        let mut output = Tensor::<Q>::unfilled([b, h, s_q, self.value.shape[3]], &self.output_memory);
        let target = AttentionOutput { output: output.view_mut(), log_sum_exp: None };
        let (query, key, value) = (self.query.view(), self.key.view(), self.value.view());
        let found = attention_with_statistics(query, key, value, target, request, config, workspace)?;
        assert!(output.is_intact(), "wrote outside the output");
        Ok((output, found))
    }

    /// Statistics without the output.
    pub fn statistics(
        &self,
        request: &StatisticsRequest<'_>,
        config: &AttentionConfig<'_>,
    ) -> AttentionStatistics {
        let (query, key) = (self.query.view(), self.key.view());
        attention_statistics(query, key, request, config, &mut Workspace::new()).unwrap()
    }

    /// Runs on every instruction set, alone and with the output, and compares with the reference; returns the worst
    /// share of the allowed error.
    pub fn check_statistics(&self, wanted: &Wanted, config: &AttentionConfig<'_>) -> Result<f64, String> {
        let request = wanted.request();
        let (query, key, value) = (self.query.view(), self.key.view(), self.value.view());
        let reference = Reference::<f64>::new(query, key, value, config).unwrap();
        let truth = Truth::new(&reference, &request);
        let mut worst = 0.0f64;
        for isa in isas() {
            let config = config.with_isa(isa);
            let mut workspace = Workspace::new();
            let (output, found) =
                self.run_statistics(&request, &config, &mut workspace).map_err(|e| e.to_string())?;
            let plain = self.run_in(&config, &mut workspace).map_err(|e| e.to_string())?;
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            if bits(&output.numbers()) != bits(&plain.0) || bits(&found.log_sum_exp) != bits(&plain.1) {
                return Err(format!("{isa}: output or log-sum-exp is not that of the plain call"));
            }
            if statistics_bits(&self.statistics(&request, &config)) != statistics_bits(&found) {
                return Err(format!("{isa}: statistics alone are not those beside an output"));
            }
            worst = worst.max(truth.compare(&found, &request).map_err(|e| format!("{isa}: {e}"))?);
        }
        Ok(worst)
    }
}

/// What the reference says of all rows.
struct Truth {
    shape: AttentionShape,
    rows: Vec<ReferenceRowStatistics>,
    /// What a relative error of probabilities may be: 1e-5, more only where scores are sums of large terms.
    tolerance: Vec<f64>,
}

impl Truth {
    fn new(reference: &Reference<'_, f64>, request: &StatisticsRequest<'_>) -> Self {
        let shape = reference.shape();
        let (mut rows, mut tolerance) = (vec![], vec![]);
        for index in 0..shape.num_rows() {
            let (head, row) = (index / shape.seq_len_q, index % shape.seq_len_q);
            let at = [head / shape.num_heads, head % shape.num_heads, row];
            assert_eq!(AttentionStatistics::row_index(&shape, at), index);
            rows.push(reference.row_statistics(at, request).unwrap());
            let terms = reference.row(at).unwrap().max_score_terms;
            tolerance.push((8.0 * 2f64.powi(-24) * (1.0 + terms)).max(1e-5));
        }
        Self { shape, rows, tolerance }
    }

    fn compare(&self, found: &AttentionStatistics, request: &StatisticsRequest<'_>) -> Result<f64, String> {
        let mut check = Check { worst: 0.0 };
        for (i, (truth, &tolerance)) in self.rows.iter().zip(&self.tolerance).enumerate() {
            let list = |numbers: &[f32], len: usize| numbers[i * len..(i + 1) * len].to_vec();
            for (what, found, truth) in [
                ("entropy", vec![found.entropy[i]], &[truth.entropy][..]),
                ("mean_distance", vec![found.mean_distance[i]], &[truth.mean_distance]),
                (
                    "distance_mass",
                    list(&found.distance_mass, truth.distance_mass.len()),
                    &truth.distance_mass,
                ),
                ("offset_mass", list(&found.offset_mass, truth.offset_mass.len()), &truth.offset_mass),
                ("key_set_mass", list(&found.key_set_mass, truth.key_set_mass.len()), &truth.key_set_mass),
                ("same_token_mass", vec![found.same_token_mass[i]], &[truth.same_token_mass]),
                ("induction_mass", vec![found.induction_mass[i]], &[truth.induction_mass]),
            ] {
                check.all((what, i), &found, truth, tolerance)?;
            }
            if let Some(&found) = found.sink_prob.get(i) {
                check.all(("sink_prob", i), &[found], &[truth.sink_prob], tolerance)?;
            }
            if found.visible_keys[i] != truth.visible_keys {
                return Err(format!(
                    "row {i}: visible_keys {} of {}",
                    found.visible_keys[i], truth.visible_keys
                ));
            }
            let keys = &found.top_keys[i * request.top_k..(i + 1) * request.top_k];
            check.top(i, (keys, &list(&found.top_probs, request.top_k)), truth, tolerance)?;
        }
        self.compare_received(found, &mut check)?;
        self.compare_thumbnails(found, request, &mut check)?;
        Ok(check.worst)
    }

    fn compare_received(&self, found: &AttentionStatistics, check: &mut Check) -> Result<(), String> {
        let (s_q, s_kv) = (self.shape.seq_len_q, self.shape.seq_len_kv);
        for head in 0..self.shape.batch_size * self.shape.num_heads {
            let rows = &self.rows[head * s_q..(head + 1) * s_q];
            let tolerance = self.tolerance[head * s_q..(head + 1) * s_q].iter().copied().fold(1e-5, f64::max);
            for j in 0..s_kv {
                let truth: f64 = rows.iter().map(|row| row.probs[j]).sum();
                let visible = rows.iter().filter(|row| row.allowed[j]).count() as u32;
                let at = head * s_kv + j;
                check.all(("received", at), &[found.received[at]], &[truth], tolerance)?;
                if found.visible_queries[at] != visible {
                    return Err(format!(
                        "key {at}: visible_queries {} of {visible}",
                        found.visible_queries[at]
                    ));
                }
            }
        }
        Ok(())
    }

    fn compare_thumbnails(
        &self,
        found: &AttentionStatistics,
        request: &StatisticsRequest<'_>,
        check: &mut Check,
    ) -> Result<(), String> {
        let (Some([rows, columns]), s_q) = (request.thumbnail, self.shape.seq_len_q) else { return Ok(()) };
        for (index, found) in found.thumbnail.chunks_exact(columns).enumerate() {
            let (head, block) = (index / rows, index % rows);
            let inside: Vec<usize> =
                (0..s_q).filter(|i| i * rows / s_q == block).map(|i| head * s_q + i).collect();
            let tolerance = inside.iter().map(|&i| self.tolerance[i]).fold(1e-5, f64::max);
            for (column, &found) in found.iter().enumerate() {
                let truth: f64 = inside.iter().map(|&i| self.rows[i].thumbnail[column]).sum();
                check.all(("thumbnail", index * columns + column), &[found], &[truth], tolerance)?;
            }
        }
        Ok(())
    }
}

struct Check {
    worst: f64,
}

impl Check {
    /// |x − r| ≤ tolerance · max(1, |r|).
    fn all(
        &mut self,
        (what, at): (&str, usize),
        found: &[f32],
        truth: &[f64],
        tolerance: f64,
    ) -> Result<(), String> {
        if found.len() != truth.len() {
            return Err(format!("{what}: {} numbers, expected {}", found.len(), truth.len()));
        }
        for (k, (&x, &r)) in found.iter().zip(truth).enumerate() {
            let share = (f64::from(x) - r).abs() / (tolerance * r.abs().max(1.0));
            if share.is_nan() || share > 1.0 {
                return Err(format!("{what} at {at}, {k}: {x}, expected {r}, tolerance {tolerance}"));
            }
            self.worst = self.worst.max(share);
        }
        Ok(())
    }

    /// The keys are as probable as the reference's, in falling order, and their probabilities are their own.
    fn top(
        &mut self,
        row: usize,
        (keys, probs): (&[u32], &[f32]),
        truth: &ReferenceRowStatistics,
        tolerance: f64,
    ) -> Result<(), String> {
        let len = truth.top.len();
        let (named, rest) = keys.split_at(len);
        if rest.iter().any(|&key| key != AttentionStatistics::NO_KEY)
            || probs[len..].iter().any(|&p| p != 0.0)
        {
            return Err(format!("row {row}: {keys:?} {probs:?}, expected {len} keys"));
        }
        for (k, &key) in named.iter().enumerate() {
            let key = key as usize;
            if !truth.allowed.get(key).is_some_and(|&allowed| allowed) || named[..k].contains(&(key as u32)) {
                return Err(format!("row {row}: {keys:?}: {key} is not allowed, or named twice"));
            }
            self.all(("top_probs", row), &probs[k..=k], &[truth.top[k].1], tolerance)?;
            self.all(("top_keys", row), &probs[k..=k], &[truth.probs[key]], tolerance)?;
        }
        match probs.is_sorted_by(|a, b| a >= b) {
            true => Ok(()),
            false => Err(format!("row {row}: {probs:?} do not fall")),
        }
    }
}
