//! What heads come to do while a plain masked language model is trained, which nothing asks them for.

use regard_lens::probe::syntax::SyntaxRow;

use super::plain::Plain;
use super::report::{Report, Table};
use super::treebank::{NEIGHBOURS, Picks, SYNTACTIC, Treebank, control, head, looks, percent};
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;

const RELATIONS: [&str; 3] = [NEIGHBOURS, "det", "obj"];

/// What was found: a row for each relation and direction, in the same order everywhere.
struct Found {
    by_step: Vec<(u64, Vec<SyntaxRow>)>,
    untrained: Vec<Vec<SyntaxRow>>,
}

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let plain = Plain::trained(settings, note)?;
    let model = plain.model()?;
    let treebank = Treebank::for_models(settings, &[&model])?;
    let mut found = Found { by_step: Vec::new(), untrained: Vec::new() };
    let rows = |picks: &Picks| treebank.rows(picks, &RELATIONS);
    for seed in 0..if settings.quick { 1 } else { 3 } {
        let model = plain.untrained(settings.seed + seed)?;
        found.untrained.push(rows(&treebank.picks(
            &model,
            &format!("an untrained model, seed {seed}"),
            note,
        )?));
    }
    for step in plain.kept() {
        let picks = treebank.picks(&plain.at(step)?, &format!("the model after {step} steps"), note)?;
        found.by_step.push((step, rows(&picks)));
    }
    report.tables.push(found.steps_table(&plain, &treebank)?);
    report.tables.push(found.last_table());
    report.charts.push(found.chart("The best head for a neighbour, by step", &NEIGHBOUR_CURVES));
    report.charts.push(
        found.chart("The best head for an article's noun and an object's verb, by step", &SYNTAX_CURVES),
    );
    found.say(report);
    report.limits.push(
        "one model, one seed, one order of texts; a head is the best of 12, chosen on other sentences than those it is reported on",
    );
    report.limits.push(
        "the novels are of the 18th to early 20th century, the sentences of the web of about 2010; more training or a larger model may find more",
    );
    report.limits.push("where a head looks is not what the model uses it for");
    report.limits.push(
        "the seconds above are of this run of the command; a model that an earlier one trained is found again",
    );
    Ok(())
}

/// A curve: its name, which row it is of, and which number of it.
type Curve = (&'static str, usize, fn(&SyntaxRow) -> f64);

const NEIGHBOUR_CURVES: [Curve; 2] =
    [("previous word", 0, |row| row.head.test), ("next word", 1, |row| row.head.test)];
const SYNTAX_CURVES: [Curve; 6] = [
    ("det: article to noun", 2, |row| row.head.test),
    ("det: best fixed offset", 2, |row| row.offset.test),
    ("det: nearest part of speech", 2, |row| row.rule.test),
    ("obj: object to verb", 4, |row| row.head.test),
    ("obj: best fixed offset", 4, |row| row.offset.test),
    ("obj: nearest part of speech", 4, |row| row.rule.test),
];

impl Found {
    fn last(&self) -> &[SyntaxRow] {
        self.by_step.last().map_or(&[], |(_, rows)| rows)
    }

    /// The best head of each untrained model.
    fn untrained(&self, row: usize) -> Vec<f64> {
        self.untrained.iter().map(|rows| rows[row].head.test).collect()
    }

    fn most_untrained(&self, row: usize) -> f64 {
        self.untrained(row).into_iter().fold(0.0, f64::max)
    }

    fn steps_table(&self, plain: &Plain, treebank: &Treebank) -> Result<Table, TrainError> {
        let names: Vec<String> = self.last().iter().map(looks).collect();
        let mut columns = vec!["steps", "loss"];
        columns.extend(names.iter().map(String::as_str));
        let mut table = Table::new(
            &format!(
                "How often the best head is right, in per cent. {}; {}. Loss: mean of {} steps, in nats a label",
                treebank.sizes(),
                plain.made(),
                plain.log_every()
            ),
            &columns,
        );
        let range = |row| {
            let shares = self.untrained(row);
            let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
            format!("{}–{}", percent(least), percent(self.most_untrained(row)))
        };
        let mut untrained = vec![format!("untrained, {} seed(s)", self.untrained.len()), String::new()];
        untrained.extend((0..names.len()).map(range));
        table.rows.push(untrained);
        let log = plain.log()?;
        for (step, rows) in &self.by_step {
            let loss = log.iter().rfind(|entry| entry.step <= *step);
            let loss = loss.map_or("–".to_owned(), |entry| format!("{:.3}", entry.loss));
            let mut cells = vec![step.to_string(), loss];
            cells.extend(rows.iter().map(|row| percent(row.head.test)));
            table.rows.push(cells);
        }
        Ok(table)
    }

    fn last_table(&self) -> Table {
        let mut table = Table::new(
            "After the last step: the best head with its 95 % interval (sentences drawn again) and by the distance of the two words, beside what needs no model, in per cent; half learned: the first step kept at which half of the gain over the best untrained head is there",
            &[
                "looks at",
                "pairs",
                "best head",
                "1 word",
                "2–3",
                "≥ 4",
                "fixed offset",
                "nearest part of speech",
                "untrained, at most",
                "half learned",
            ],
        );
        for (at, row) in self.last().iter().enumerate() {
            let share = |share: Option<f64>| share.map_or("–".to_owned(), percent);
            let [near, middle, far] = row.head.by_distance.map(share);
            table.rows.push(vec![
                looks(row),
                row.test_pairs.to_string(),
                head(&row.head),
                near,
                middle,
                far,
                control(row, format!("{} ({:+})", percent(row.offset.test), row.offset.offset)),
                control(row, percent(row.rule.test)),
                percent(self.most_untrained(at)),
                self.half_learned(at).map_or("–".to_owned(), |step| step.to_string()),
            ]);
        }
        table
    }

    /// `None` where there is no gain.
    fn half_learned(&self, row: usize) -> Option<u64> {
        let (from, to) = (self.most_untrained(row), self.last().get(row)?.head.test);
        let is_half = |rows: &[SyntaxRow]| rows[row].head.test >= f64::midpoint(from, to);
        (to > from).then(|| self.by_step.iter().find(|(_, rows)| is_half(rows)).map(|(step, _)| *step))?
    }

    fn chart(&self, title: &str, curves: &[Curve]) -> Chart {
        let points = |row: usize, of: fn(&SyntaxRow) -> f64| {
            self.by_step.iter().map(|(step, rows)| [*step as f64, 100.0 * of(&rows[row])]).collect::<Vec<_>>()
        };
        let mut series: Vec<Series> = curves
            .iter()
            .map(|&(name, row, of)| Series { name: name.to_owned(), points: points(row, of) })
            .collect();
        let mut rows: Vec<usize> = curves.iter().map(|curve| curve.1).collect();
        rows.dedup();
        for row in rows {
            let name = format!("untrained, at most: {}", self.last().get(row).map_or(String::new(), looks));
            let most = 100.0 * self.most_untrained(row);
            series.push(Series {
                name,
                points: self.by_step.iter().map(|(step, _)| [*step as f64, most]).collect(),
            });
        }
        Chart { title: title.to_owned(), x: Axis::log("step"), y: Axis::linear("right, per cent"), series }
    }

    fn say(&self, report: &mut Report) {
        for (at, row) in self.last().iter().enumerate() {
            let (share, untrained) = (row.head.test, self.most_untrained(at));
            let low = row.head.interval.map_or(0.0, |interval| interval.low);
            let mut says = format!(
                "{}: a head is right in {} %, no untrained one in more than {} %",
                looks(row),
                percent(share),
                percent(untrained)
            );
            if row.relation == NEIGHBOURS {
                report.find(low > untrained && share > 0.5, format!("{says}; more often than not"));
                continue;
            }
            says += &format!(", the best fixed offset in {} %", percent(row.offset.test));
            report.find(
                low > untrained && share >= row.offset.test + SYNTACTIC,
                format!("{says}; the head is {:.0} points or more above the offset", 100.0 * SYNTACTIC),
            );
        }
        let syntax = || self.last().iter().filter(|row| row.relation != NEIGHBOURS);
        let best = syntax().filter(|row| row.wins == ["head"]).map(looks).collect::<Vec<_>>();
        let which = if best.is_empty() { "none".to_owned() } else { best.join("; ") };
        report.find(
            best.len() == syntax().count(),
            format!("heads are right more often than the nearest word of the right part of speech (which is told the parts of speech): {which}"),
        );
        let id = |row: &SyntaxRow| (row.head.layer, row.head.head);
        let neighbours: Vec<(usize, usize)> =
            self.last().iter().filter(|row| row.relation == NEIGHBOURS).map(id).collect();
        let borrowed: Vec<String> = syntax().filter(|row| neighbours.contains(&id(row))).map(looks).collect();
        report.find(
            borrowed.is_empty(),
            format!(
                "det and obj have heads of their own: the best head is one of those for neighbours for {} of {}{}",
                borrowed.len(),
                syntax().count(),
                if borrowed.is_empty() { String::new() } else { format!(": {}", borrowed.join("; ")) }
            ),
        );
    }
}
