//! One pass over one head's probabilities.

use std::ops::Range;

use super::head_id::HeadId;
use super::kind::{HeadKind, LINK_MIN_LIFT, telling_score};
use super::link::Link;
use super::options::ViewOptions;
use super::statistics::{HeadStatistics, Totals};
use super::text_table::TextTable;
use crate::error::LensError;

/// Rows of probabilities that exist at once.
pub(super) const ROWS_AT_ONCE: usize = 32;

/// Where one query of one head looks.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRow {
    /// The query's token.
    pub query: usize,
    /// What the head does with it.
    pub kind: HeadKind,
    /// Entropy of all probabilities of the row, in nats.
    pub entropy: f32,
    /// Mass on special tokens, and in a causal model on the first token.
    pub special_mass: f32,
    /// Mass on the keys in `top`.
    pub covered: f32,
    /// The strongest keys, falling; equal ones in text order. Tokens that stand aside only if asked for.
    pub top: Vec<Link>,
    /// The strongest key of the text, tokens aside left out whatever `top` holds; but in a causal model the first
    /// token counts where its lift is at least [`LINK_MIN_LIFT`].
    pub strongest: Option<Link>,
    /// The link that shows what `kind` says: to the token before (previous) or after (next), to the topic, to the
    /// strongest token aside (special), to the strongest key of the text (link, ahead, other). If there is no
    /// such key, to the strongest of all.
    pub example: Link,
}

/// One head: what it does over the whole text, and the rows asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadView {
    /// Which head.
    pub id: HeadId,
    /// Over the whole text.
    pub statistics: HeadStatistics,
    /// The queries asked for, in text order.
    pub rows: Vec<QueryRow>,
}

impl HeadView {
    /// How good an example of its kind the head is with this row: heads of one kind are compared by it.
    ///
    /// Mean mass on the neighbour (previous, next), on the topic or on special tokens; for the others
    /// probability × ln lift of the strongest key of the text, in nats.
    pub fn score(&self, row: &QueryRow) -> f64 {
        match row.kind {
            HeadKind::Previous => f64::from(self.statistics.previous),
            HeadKind::Next => f64::from(self.statistics.next),
            HeadKind::Topic => self.statistics.topic.map_or(0.0, |topic| f64::from(topic.mass)),
            HeadKind::Special => f64::from(self.statistics.special_mass),
            HeadKind::Link | HeadKind::Ahead | HeadKind::Other => {
                row.strongest.as_ref().map_or(0.0, telling_score)
            }
        }
    }
}

/// A row as it is picked up on the way, before what is usual is known. Keys come with their probabilities.
struct PickedRow {
    query: usize,
    entropy: f32,
    special_mass: f32,
    /// Strongest first.
    top: Vec<(usize, f32)>,
    strongest: Option<(usize, f32)>,
    strongest_aside: Option<(usize, f32)>,
    /// The first token, where it stands aside without being special.
    sink: Option<(usize, f32)>,
    before: Option<(usize, f32)>,
    after: Option<(usize, f32)>,
}

/// Writes a head's probabilities of some query rows, `[rows, seq_len]`.
pub(super) type ProbsOf<'a> = dyn Fn(Range<usize>, &mut [f32]) -> Result<(), LensError> + 'a;

/// Looks at one head; `scratch` holds [`ROWS_AT_ONCE`] rows.
pub(super) fn look_at_head(
    id: HeadId,
    table: &TextTable,
    options: &ViewOptions,
    scratch: &mut [f32],
    probs: &ProbsOf<'_>,
) -> Result<HeadView, LensError> {
    let tokens = table.len();
    let mut totals = Totals::new(table);
    let mut picked = Vec::new();
    for start in (0..tokens).step_by(ROWS_AT_ONCE) {
        let rows = start..tokens.min(start + ROWS_AT_ONCE);
        let block = &mut scratch[..rows.len() * tokens];
        probs(rows.clone(), block)?;
        for (query, probs) in rows.zip(block.chunks_exact(tokens)) {
            if probs.iter().any(|prob| !prob.is_finite()) {
                let problem = format!(
                    "{id} gives attention that is not a number; the model's weights hold NaN or infinite numbers"
                );
                return Err(LensError::Observer(problem.into()));
            }
            totals.add(query, probs);
            if options.wants(query, table) {
                picked.push(pick(query, probs, table, options));
            }
        }
    }
    let statistics = totals.finish();
    let mut rows = Vec::with_capacity(picked.len());
    for row in picked {
        let mut on_topic = None;
        if let Some(topic) = statistics.topic {
            let again = &mut scratch[..tokens];
            probs(row.query..row.query + 1, again)?;
            on_topic = Some((topic.key, again[topic.key]));
        }
        rows.push(finish_row(row, on_topic, &totals, &statistics, table));
    }
    Ok(HeadView { id, statistics, rows })
}

fn pick(query: usize, probs: &[f32], table: &TextTable, options: &ViewOptions) -> PickedRow {
    let probs = &probs[..table.keys(query)];
    let entropy: f64 =
        probs.iter().map(|&prob| f64::from(prob)).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum();
    let (mut aside, mut of_text): (Vec<_>, Vec<_>) =
        probs.iter().copied().enumerate().partition(|(key, _)| table.is_aside(*key));
    let special_mass: f64 = aside.iter().map(|(_, prob)| f64::from(*prob)).sum();
    let strongest_aside = keep_strongest(&mut aside, 1).first().copied();
    let strongest = keep_strongest(&mut of_text.clone(), 1).first().copied();
    if options.keep_special {
        of_text = probs.iter().copied().enumerate().collect();
    }
    PickedRow {
        query,
        // A sum of −p·ln p over a one-hot row is −0.
        entropy: (entropy as f32).max(0.0),
        special_mass: special_mass as f32,
        top: keep_strongest(&mut of_text, options.top).to_vec(),
        strongest,
        strongest_aside,
        sink: table.sink().map(|key| (key, probs[key])),
        before: query.checked_sub(1).map(|key| (key, probs[key])),
        after: probs.get(query + 1).map(|&prob| (query + 1, prob)),
    }
}

/// The `count` strongest of the keys, falling, equal ones in text order.
fn keep_strongest(keys: &mut Vec<(usize, f32)>, count: usize) -> &[(usize, f32)] {
    let falling = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < keys.len() {
        keys.select_nth_unstable_by(count, falling);
        keys.truncate(count);
    }
    keys.sort_unstable_by(falling);
    keys
}

fn finish_row(
    row: PickedRow,
    on_topic: Option<(usize, f32)>,
    totals: &Totals<'_>,
    statistics: &HeadStatistics,
    table: &TextTable,
) -> QueryRow {
    let link = |(key, prob): (usize, f32)| Link::new(key, prob, totals.usual(row.query, key, prob));
    let top: Vec<Link> = row.top.iter().copied().map(link).collect();
    // Every query looks at a sink; only one that looks at it more than others do says something by it.
    let sink = row.sink.map(link).filter(|sink| {
        let is_more = sink.usual.is_some_and(|usual| sink.prob >= LINK_MIN_LIFT * usual);
        is_more && row.strongest.is_none_or(|(_, prob)| sink.prob > prob)
    });
    let strongest = sink.or(row.strongest.map(link));
    // Distances mean nothing from a token that is not in the text.
    let telling = strongest.as_ref().filter(|_| !table.is_aside(row.query));
    let same_word = telling.is_some_and(|link| table.same_word(row.query, link.key));
    let kind = HeadKind::of(statistics, row.query, telling, same_word);
    let shows_kind = match kind {
        HeadKind::Previous => row.before,
        HeadKind::Next => row.after,
        HeadKind::Topic => on_topic,
        HeadKind::Special => row.strongest_aside,
        HeadKind::Link | HeadKind::Ahead | HeadKind::Other => strongest.map(|link| (link.key, link.prob)),
    };
    let of_all =
        [row.strongest, row.strongest_aside].into_iter().flatten().max_by(|a, b| a.1.total_cmp(&b.1));
    QueryRow {
        query: row.query,
        kind,
        entropy: row.entropy,
        special_mass: row.special_mass,
        covered: top.iter().map(|link| f64::from(link.prob)).sum::<f64>() as f32,
        top,
        strongest,
        // A row has at least the query itself as a key.
        example: link(shows_kind.or(of_all).unwrap_or((row.query, 0.0))),
    }
}
