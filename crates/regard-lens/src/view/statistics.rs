//! What a head does over a whole text, gathered row by row.

use super::text_table::TextTable;

/// What a head does over all queries of a text. Tokens that stand aside ([`view`](crate::view)) are no queries here.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadStatistics {
    /// Mean mass on the token before, over the queries that have a token of the text there; 0 if none has.
    pub previous: f32,
    /// Mean mass on the token after, likewise.
    pub next: f32,
    /// Mean mass on special tokens, and in a causal model on the first token.
    pub special_mass: f32,
    /// The key that most queries agree on, if more than half and at least two of them do.
    pub topic: Option<Topic>,
}

/// A key of the text that is the strongest, tokens aside included, for most queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Topic {
    /// The key's token.
    pub key: usize,
    /// How many queries of the text give it their largest probability.
    pub wins: usize,
    /// How many queries of the text there are.
    pub queries: usize,
    /// Mean mass that they send to it, its own row left out.
    pub mass: f32,
}

/// Sums over the rows seen so far. All in f64: a text has thousands of rows at most.
#[derive(Debug)]
pub(super) struct Totals<'a> {
    table: &'a TextTable,
    /// Mass that each key receives from the queries of the text, its own row left out.
    received: Vec<f64>,
    wins: Vec<usize>,
    special: f64,
    /// Sum and number of rows, for the token before and the token after.
    previous: (f64, usize),
    next: (f64, usize),
}

impl<'a> Totals<'a> {
    pub(super) fn new(table: &'a TextTable) -> Self {
        let tokens = table.len();
        Self {
            table,
            received: vec![0.0; tokens],
            wins: vec![0; tokens],
            special: 0.0,
            previous: (0.0, 0),
            next: (0.0, 0),
        }
    }

    /// Adds one query's probabilities, `[seq_len]`. Rows of tokens aside change nothing.
    pub(super) fn add(&mut self, query: usize, probs: &[f32]) {
        if self.table.is_aside(query) {
            return;
        }
        let mut winner = 0;
        for (key, &prob) in probs.iter().enumerate() {
            if key != query {
                self.received[key] += f64::from(prob);
            }
            if self.table.is_aside(key) {
                self.special += f64::from(prob);
            }
            if prob > probs[winner] {
                winner = key;
            }
        }
        self.wins[winner] += 1;
        for (neighbour, sum) in
            [(query.checked_sub(1), &mut self.previous), (query.checked_add(1), &mut self.next)]
        {
            let of_text = |key: &usize| *key < probs.len() && !self.table.is_aside(*key);
            if let Some(key) = neighbour.filter(of_text) {
                sum.0 += f64::from(probs[key]);
                sum.1 += 1;
            }
        }
    }

    /// Mean mass that the other queries send to `key`, where `query` itself sends `prob`; `None` if there are no
    /// others.
    pub(super) fn usual(&self, query: usize, key: usize, prob: f32) -> Option<f32> {
        let counted = self.table.sees(query, key) && query != key && !self.table.is_aside(query);
        let others = self.table.queries_seeing(key) - usize::from(counted);
        let mass = if counted { self.received[key] - f64::from(prob) } else { self.received[key] };
        // The subtraction may leave a rounding error below 0 where nobody else looks.
        (others > 0).then(|| (mass.max(0.0) / others as f64) as f32)
    }

    pub(super) fn finish(&self) -> HeadStatistics {
        let queries = self.table.queries();
        let mean = |(sum, rows): (f64, usize)| if rows == 0 { 0.0 } else { (sum / rows as f64) as f32 };
        let best = (0..self.wins.len()).rev().max_by_key(|&key| self.wins[key]);
        let topic = best
            .filter(|&key| !self.table.is_aside(key) && self.wins[key] >= 2 && self.wins[key] * 2 > queries)
            .map(|key| {
                let others = self.table.queries_seeing(key);
                Topic { key, wins: self.wins[key], queries, mass: mean((self.received[key], others)) }
            });
        HeadStatistics {
            previous: mean(self.previous),
            next: mean(self.next),
            special_mass: mean((self.special, queries)),
            topic,
        }
    }
}
