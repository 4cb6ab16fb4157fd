//! What a page holds, as JSON. `JSON.md` beside this crate's manifest says what each field means.

use std::collections::BTreeMap;
use std::ops::Range;

use regard_lens::profile::{Control, Counted, HeadProfile, Profiled, Role, Scores, TopKeys, Unit};
use regard_lens::view::{HeadId, Verification};
use regard_lens::{ModelInfo, TokenizedText};
use serde::Serialize;

use super::labels::Labels;
use super::plan::{Plan, TOP_RECEIVERS};
use super::quantise::{Packed, place_bytes, rounded};
use crate::closing::{Checked, VerifyFields};

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-page/1";

/// Digits of the text's hash that captions quote.
const HASH_DIGITS: usize = 16;

/// One way of reading the same run.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) no_sink: bool,
    pub(super) norm: bool,
    pub(super) profiled: Profiled,
}

/// Everything that a page is made from.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) model: &'a ModelInfo,
    pub(super) text: &'a TokenizedText,
    pub(super) unit: Unit,
    pub(super) units: Vec<Range<usize>>,
    /// Rows that scores, thumbnails and received mass are of.
    pub(super) rows: Range<usize>,
    /// Heads that were asked for.
    pub(super) heads_in_all: usize,
    pub(super) plan: Plan,
    pub(super) labels: Labels,
    /// The unit pinned first.
    pub(super) focus: usize,
    /// The head looked at first; else the page chooses.
    pub(super) head: Option<HeadId>,
    /// The first one is what the page opens with.
    pub(super) readings: Vec<Reading>,
    pub(super) shuffled: Option<(Control, Vec<Scores>)>,
}

#[derive(Serialize)]
struct PageFields<'a> {
    schema: &'static str,
    regard_version: &'static str,
    model: crate::json::ModelFields<'a>,
    unit: Unit,
    units: usize,
    tokens: usize,
    text_sha256: String,
    profiled_rows: &'a Range<usize>,
    plan: &'a Plan,
    focus: usize,
    head: Option<HeadId>,
    heads_in_all: usize,
    labels: &'a Labels,
    kinds: String,
    heads: Vec<[usize; 2]>,
    roles: Vec<RoleFields>,
    readings: Vec<ReadingFields>,
    control: Option<&'a Control>,
    shuffled: Option<BTreeMap<&'static str, Vec<Option<f64>>>>,
    verify: VerifyFields,
    dense_bytes: f64,
}

#[derive(Serialize)]
struct RoleFields {
    name: &'static str,
    letter: char,
}

#[derive(Serialize)]
struct ReadingFields {
    no_sink: bool,
    norm: bool,
    kept: Option<Vec<Option<f64>>>,
    scores: BTreeMap<&'static str, Vec<Option<f64>>>,
    uniform: BTreeMap<&'static str, Option<f64>>,
    least: BTreeMap<&'static str, f64>,
    counted: BTreeMap<&'static str, usize>,
    roles: Vec<u32>,
    distance: DistanceFields,
    thumbnail: ThumbnailFields,
    top: TopFields,
    received: ReceivedFields,
}

#[derive(Serialize)]
struct DistanceFields {
    bins: usize,
    uniform: Vec<f64>,
    masses: Packed,
}

#[derive(Serialize)]
struct ThumbnailFields {
    rows: usize,
    columns: usize,
    masses: Packed,
}

#[derive(Serialize)]
struct TopFields {
    place_bytes: usize,
    keys: Packed,
    probs: Packed,
}

#[derive(Serialize)]
struct ReceivedFields {
    stretches: Packed,
    rows: Packed,
    top: Packed,
    top_shares: Packed,
}

/// The numbers of a head by their names: first those that decide about no role.
fn numbers(scores: &Scores) -> impl Iterator<Item = (&'static str, Option<f64>)> {
    let facts =
        [("entropy", scores.entropy), ("max_prob", scores.max_prob), ("mean_distance", scores.mean_distance)];
    let facts = facts.map(|(name, number)| (name, Some(number)));
    let of_roles = Role::ALL.map(|role| (role.name(), role.score(scores)));
    facts.into_iter().chain(of_roles).map(|(name, number)| (name, number.map(rounded)))
}

fn columns<'s>(heads: impl Iterator<Item = &'s Scores>) -> BTreeMap<&'static str, Vec<Option<f64>>> {
    let mut columns: BTreeMap<&'static str, Vec<Option<f64>>> = BTreeMap::new();
    for scores in heads {
        numbers(scores).for_each(|(name, number)| columns.entry(name).or_default().push(number));
    }
    columns
}

impl Findings<'_> {
    /// The page's data, compact, so written that no HTML parser sees a tag in it.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        let first = &self.readings[0].profiled;
        let heads = first.heads.iter().map(|head| [head.id.layer, head.id.head]).collect();
        let roles = Role::ALL.map(|role| RoleFields { name: role.name(), letter: role.letter() });
        let checks = self.readings.iter().map(|reading| reading.profiled.verification);
        let fields = PageFields {
            schema: SCHEMA,
            regard_version: env!("CARGO_PKG_VERSION"),
            model: self.model.into(),
            unit: self.unit,
            units: self.units.len(),
            tokens: self.text.tokens.len(),
            text_sha256: super::document::hex_sha256(self.text.text.as_bytes())[..HASH_DIGITS].to_owned(),
            profiled_rows: &self.rows,
            plan: &self.plan,
            focus: self.focus,
            head: self.head,
            heads_in_all: self.heads_in_all,
            labels: &self.labels,
            kinds: self.kinds(),
            heads,
            roles: roles.into(),
            readings: self.readings.iter().map(|reading| self.reading(reading)).collect(),
            control: self.shuffled.as_ref().map(|(control, _)| control),
            shuffled: self.shuffled.as_ref().map(|(_, scores)| columns(scores.iter())),
            verify: Checked::Run(Verification {
                rows: checks.clone().map(|check| check.rows).sum(),
                max_abs_error: checks.map(|check| check.max_abs_error).fold(0.0, larger),
            })
            .into(),
            dense_bytes: self.model.dense_bytes(self.text.tokens.len()) as f64,
        };
        Ok(escaped(&serde_json::to_string(&fields)?))
    }

    /// A letter for each label of the list: special, else standing aside, else of the text.
    fn kinds(&self) -> String {
        let listed = self.labels.start..self.labels.start + self.labels.list.len();
        listed.map(|unit| self.kind(unit)).collect()
    }

    pub(super) fn kind(&self, unit: usize) -> char {
        if self.text.tokens[self.units[unit].start].special {
            's'
        } else if self.model.causal && unit == 0 {
            'a'
        } else {
            '.'
        }
    }

    fn reading(&self, reading: &Reading) -> ReadingFields {
        let Reading { no_sink, norm, profiled } = reading;
        let Profiled { heads, uniform, counted, .. } = profiled;
        let kept: Vec<Option<f64>> = heads.iter().map(|head| head.kept.map(rounded)).collect();
        let bins = uniform.distance.len();
        let masses = heads.iter().flat_map(|head| head.scores.distance.iter().copied());
        ReadingFields {
            no_sink: *no_sink,
            norm: *norm,
            kept: kept.iter().any(Option::is_some).then_some(kept),
            scores: columns(heads.iter().map(|head| &head.scores)),
            uniform: numbers(uniform).collect(),
            least: Role::ALL.map(|role| (role.name(), rounded(role.least(uniform)))).into(),
            counted: Role::ALL.map(|role| (role.name(), role.rows(counted))).into(),
            roles: heads.iter().map(|head| role_bits(head, uniform, counted)).collect(),
            distance: DistanceFields {
                bins,
                uniform: uniform.distance.iter().copied().map(rounded).collect(),
                masses: Packed::shares(masses),
            },
            thumbnail: thumbnails(heads),
            top: TopFields {
                place_bytes: place_bytes(self.units.len()),
                keys: Packed::places(
                    heads
                        .iter()
                        .filter_map(|head| head.top.as_ref())
                        .flat_map(|top| top.keys.iter().copied()),
                    self.units.len(),
                ),
                probs: Packed::shares(
                    heads
                        .iter()
                        .filter_map(|head| head.top.as_ref())
                        .flat_map(|top| top.probs.iter().copied()),
                ),
            },
            received: self.received(heads),
        }
    }

    fn received(&self, heads: &[HeadProfile]) -> ReceivedFields {
        let units = self.units.len();
        let num_stretches = self.plan.stretches;
        let (mut stretches, mut of_rows) = (Vec::new(), Vec::new());
        let (mut top, mut top_shares) = (Vec::new(), Vec::new());
        for head in heads {
            let received = &head.received;
            let all: f64 = received.iter().map(|&sum| f64::from(sum)).sum();
            let share = |sum: f64| if all > 0.0 { (sum / all) as f32 } else { 0.0 };
            let mut sums = vec![0.0f64; num_stretches];
            for (unit, &sum) in received.iter().enumerate() {
                sums[unit * num_stretches / units] += f64::from(sum);
            }
            stretches.extend(sums.into_iter().map(share));
            of_rows.extend(self.plan.rows.clone().map(|unit| received[unit] / self.rows_that_see(unit)));
            let mut keys: Vec<usize> = (0..units).collect();
            keys.sort_by(|&a, &b| received[b].total_cmp(&received[a]));
            keys.resize(TOP_RECEIVERS, usize::MAX);
            for key in keys {
                let sum = received.get(key).copied().filter(|&sum| sum > 0.0);
                top.push(sum.map_or(TopKeys::NO_KEY, |_| key as u32));
                top_shares.push(share(f64::from(sum.unwrap_or(0.0))));
            }
        }
        ReceivedFields {
            stretches: Packed::shares(stretches.into_iter()),
            rows: Packed::shares(of_rows.into_iter()),
            top: Packed::places(top.into_iter(), units),
            top_shares: Packed::shares(top_shares.into_iter()),
        }
    }

    /// How many of the profiled rows may look at a unit, at least 1.
    fn rows_that_see(&self, unit: usize) -> f32 {
        let first = if self.model.causal { unit.max(self.rows.start) } else { self.rows.start };
        self.rows.end.saturating_sub(first).max(1) as f32
    }
}

/// The larger of two errors; NaN stays.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// Bit r stands for the r-th of all roles.
fn role_bits(head: &HeadProfile, uniform: &Scores, counted: &Counted) -> u32 {
    let held = |role: &Role| role.holds(&head.scores, uniform, counted);
    Role::ALL.iter().enumerate().filter(|(_, role)| held(role)).map(|(bit, _)| 1 << bit).sum()
}

fn thumbnails(heads: &[HeadProfile]) -> ThumbnailFields {
    let [rows, columns] =
        heads.iter().find_map(|head| head.thumbnail.as_ref()).map_or([0, 0], |t| [t.rows, t.columns]);
    let cells = heads.iter().filter_map(|head| head.thumbnail.as_ref()).flat_map(|thumbnail| {
        (0..thumbnail.rows)
            .flat_map(move |row| (0..thumbnail.columns).map(move |column| thumbnail.mass(row, column)))
    });
    ThumbnailFields { rows, columns, masses: Packed::shades(cells) }
}

/// JSON in which no `<` is left, nor a separator that old JavaScript takes for a line break.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn escaped__tags_and_separators__read_back_and_are_not_there() {
        let hostile = "</script><!-- <script> \u{2028}\u{2029} \" \\";
        let written = escaped(&serde_json::to_string(hostile).unwrap());
        assert!(!written.contains(['<', '\u{2028}', '\u{2029}']), "{written}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), hostile);
    }
}
