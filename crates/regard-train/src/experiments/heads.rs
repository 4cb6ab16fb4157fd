//! What the heads of the built-in model find in text that nothing was trained on, beside a plain model and an untrained
//! one.

use regard_lens::Model;
use regard_lens::probe::Book;
use regard_lens::probe::coreference::{Coreference, CoreferencePicks, Rival, score_coreference};
use regard_lens::probe::syntax::SyntaxRow;

use super::plain::Plain;
use super::report::{Report, Table};
use super::treebank::{NEIGHBOURS, SYNTACTIC, Treebank, bounds, control, head, looks, percent};
use super::{Note, Settings, data};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;

const RELATIONS: [&str; 12] =
    ["det", "nsubj", "obj", "amod", "advmod", "aux", "case", "mark", "compound", "nmod", "obl", "conj"];
/// The models, in the order of everything here.
const NAMES: [&str; 3] = ["untrained", "plain", "restoration"];
const UNTRAINED: usize = 0;
const RESTORATION: usize = 2;

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let books = data::books(settings)?;
    let plain = Plain::trained(settings, note)?;
    let models = [Model::untrained_builtin(settings.seed)?, plain.model()?, Model::builtin()?];
    syntax(settings, &models, &plain, report, note)?;
    coreference(settings, &models, &books, report, note)?;
    report.limits.push(
        "restoration is the built-in model: its loss asks for the noun that a pronoun stands for, so its heads for pronouns were taught; the plain model has another vocabulary and saw other batches",
    );
    report.limits.push("one model of each kind; a head is the best of 12, chosen on other texts than those it is reported on");
    report.limits.push(
        "sentences are short: the built-in model takes 48 tokens. An annotated sentence of a novel is often longer, and its pronouns are not asked about",
    );
    report.limits.push("where a head looks is not what the model uses it for");
    Ok(())
}

fn syntax(
    settings: &Settings,
    models: &[Model; 3],
    plain: &Plain,
    report: &mut Report,
    note: &mut Note<'_>,
) -> Result<(), TrainError> {
    let treebank = Treebank::for_models(settings, &models.each_ref())?;
    let mut relations = vec![NEIGHBOURS];
    relations.extend(RELATIONS);
    let mut rows: Vec<Vec<SyntaxRow>> = Vec::new();
    for (model, name) in models.iter().zip(NAMES) {
        rows.push(treebank.rows(&treebank.picks(model, &format!("the {name} model"), note)?, &relations));
    }
    let mut table = Table::new(
        &format!(
            "How often the best head is right, with its 95 % interval (sentences drawn again), in per cent. {}. Plain: {}; restoration: the built-in model; untrained: the same architecture",
            treebank.sizes(),
            plain.made()
        ),
        &["looks at", "pairs", "fixed offset", "nearest part of speech", NAMES[0], NAMES[1], NAMES[2]],
    );
    let of_place = |place: usize| -> [&SyntaxRow; 3] { std::array::from_fn(|model| &rows[model][place]) };
    for place in 0..rows[0].len() {
        let of_models = of_place(place);
        let row = of_models[0];
        let mut cells = vec![
            looks(row),
            row.test_pairs.to_string(),
            control(row, format!("{} ({:+})", percent(row.offset.test), row.offset.offset)),
            control(row, percent(row.rule.test)),
        ];
        cells.extend(of_models.map(|row| head(&row.head)));
        table.rows.push(cells);
    }
    report.tables.push(table);
    let mut relations: Vec<[&SyntaxRow; 3]> =
        (0..rows[0].len()).map(of_place).filter(|row| row[0].relation != NEIGHBOURS).collect();
    relations.sort_by(|a, b| a[0].offset.test.total_cmp(&b[0].offset.test));
    let points = |of: &dyn Fn(&[&SyntaxRow; 3]) -> f64| {
        relations.iter().enumerate().map(|(number, row)| [(number + 1) as f64, 100.0 * of(row)]).collect()
    };
    let mut series: Vec<Series> = (0..3)
        .map(|model| Series { name: NAMES[model].to_owned(), points: points(&|row| row[model].head.test) })
        .collect();
    series.push(Series { name: "fixed offset".to_owned(), points: points(&|row| row[0].offset.test) });
    series
        .push(Series { name: "nearest part of speech".to_owned(), points: points(&|row| row[0].rule.test) });
    report.charts.push(Chart {
        title: "Relations of syntax: the best head, an offset and a rule".to_owned(),
        x: Axis::linear("relations and directions, in the order in which a fixed offset finds them"),
        y: Axis::linear("right, per cent"),
        series,
    });
    for (model, &name) in NAMES.iter().enumerate() {
        let of = |is: &dyn Fn(&SyntaxRow) -> bool| {
            relations.iter().filter(|row| is(row[model])).map(|row| looks(row[0])).collect::<Vec<_>>()
        };
        let syntactic = of(&|row| row.head.test >= row.offset.test + SYNTACTIC);
        let found = format!("{} of {}: {}", syntactic.len(), relations.len(), listed(&syntactic));
        let above = format!("{:.0} points or more above the best fixed offset", 100.0 * SYNTACTIC);
        if model == UNTRAINED {
            report
                .find(syntactic.is_empty(), format!("{name}: no head is {above}, for any relation: {found}"));
            continue;
        }
        report.find(
            !syntactic.is_empty(),
            format!("{name}: there are relations for which a head is {above}: {found}"),
        );
        let best = of(&|row| row.wins == ["head"]);
        let found = format!("{} of {}: {}", best.len(), relations.len(), listed(&best));
        report.find(
            !best.is_empty(),
            format!(
                "{name}: there are relations for which a head is right more often than the best offset and than the nearest word of the right part of speech, by more than chance: {found}"
            ),
        );
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join("; ") }
}

fn coreference(
    settings: &Settings,
    models: &[Model; 3],
    [dev, test]: &[Vec<Book>; 2],
    report: &mut Report,
    note: &mut Note<'_>,
) -> Result<(), TrainError> {
    let limit = models.iter().map(|model| model.info().max_tokens).min().unwrap_or(0);
    let mut found: Vec<Coreference> = Vec::new();
    for (model, name) in models.iter().zip(NAMES) {
        note(&format!("what the {name} model's heads choose for pronouns"));
        let picks = |books: &[Book]| CoreferencePicks::new(model, books, limit, &|_, _| ());
        let heads = model.info().layers * model.info().heads;
        found.push(score_coreference([&picks(dev)?, &picks(test)?], None, heads, settings.seed));
    }
    let mut table = Table::new(
        &format!(
            "Pronouns of LitBank's novels and the candidate that is chosen: how often it means the same, in per cent, with the 95 % interval (books drawn again) and by the distance of the nearest antecedent. {} books choose heads, {} report, none was trained on; windows of {limit} tokens. Any word: the strongest word of all, candidate or not",
            dev.len(),
            test.len()
        ),
        &[
            "chosen by",
            "pronouns",
            "choosing books",
            "reporting books",
            "1–5 words",
            "6–15",
            "≥ 16",
            "any word",
        ],
    );
    let mut add = |name: &str, pronouns: usize, rival: &Rival| {
        let share = |share: Option<f64>| share.map_or("–".to_owned(), percent);
        let mut cells = vec![
            name.to_owned(),
            pronouns.to_string(),
            percent(rival.dev),
            format!("{}{}", percent(rival.test), bounds(rival.interval)),
        ];
        cells.extend(rival.by_distance.map(share));
        cells.push(share(rival.any_word));
        table.rows.push(cells);
    };
    let restoration = &found[RESTORATION];
    for rival in &restoration.rivals {
        add(called(rival), restoration.test_pronouns, rival);
    }
    let name = |rival: &Rival| format!("L{}.H{}", rival.layer.unwrap_or(0), rival.head.unwrap_or(0));
    for (found, model) in found.iter().zip(NAMES) {
        if let Some(best) = found.heads.first() {
            add(&format!("{model}, {}", name(best)), found.test_pronouns, best);
        }
    }
    let named = models[RESTORATION].pronoun_head().map(|head| head.to_string());
    let named = restoration.heads.iter().skip(1).find(|rival| named.as_deref() == Some(&name(rival)));
    if let Some(head) = named {
        let name = format!("restoration, {}, named for made-up sentences", name(head));
        add(&name, restoration.test_pronouns, head);
    }
    report.tables.push(table);
    for (model, (found, name)) in found.iter().zip(NAMES).enumerate() {
        let best = found.heads.first().map_or(0.0, |head| head.test);
        let gain = found.gain_interval.map_or(String::new(), |gain| {
            format!(" ({:+.0} to {:+.0} points)", 100.0 * gain.low, 100.0 * gain.high)
        });
        let figures = format!("{} % to {} %{gain}", percent(best), percent(found.rivals[0].test));
        let gains = found.gain_interval.is_some_and(|gain| gain.low > 0.0);
        if model == UNTRAINED {
            let says = format!(
                "{name}: no head finds antecedents more often than the nearest mention does: {figures}"
            );
            report.find(!gains, says);
            continue;
        }
        report.find(
            gains,
            format!("{name}: a head finds antecedents more often than the nearest mention does: {figures}"),
        );
        let rule = found.rivals.iter().fold(&found.rivals[0], |a, b| if b.test > a.test { b } else { a });
        report.find(
            found.wins == "head",
            format!(
                "{name}: that head finds them more often than any rule without a model: {} % to {} % (the best rule: {})",
                percent(best),
                percent(rule.test),
                called(rule)
            ),
        );
    }
    Ok(())
}

/// What a rule without a model is called in a table.
fn called(rule: &Rival) -> &'static str {
    match rule.name {
        "nearest" => "nearest mention",
        "first_of_sentence" => "first mention of the sentence (where English has its subject)",
        "same_pronoun" => "nearest pronoun of the same kind, else nearest mention",
        other => other,
    }
}
