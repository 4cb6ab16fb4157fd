//! The view in plain sentences, for screen readers and for reading aloud.

use regard_lens::view::HeadKind;

use crate::closing::Checked;
use crate::process::Costs;
use crate::report::{Example, Report, percent, times};
use crate::visible::visible;

/// The whole view, one thought a line.
pub(crate) fn render(report: &Report<'_>, costs: Costs) -> String {
    let last = report.text.tokens.len() - 1;
    let text: Vec<String> = report.text.text.split_whitespace().map(visible).collect();
    let mut lines = vec![
        format!("Text: {}", text.join(" ")),
        format!("The word that looks: {}, token {} of 0 to {last}.", report.focus_name(), report.focus.token),
    ];
    let notes = [report.focus_note(), report.unknown_note()];
    lines.extend(notes.into_iter().flatten().map(|note| format!("{note}.")));
    lines.extend(report.ablated());
    lines.extend(report.best_of_each_kind().into_iter().map(|example| sentence(report, example)));
    if let Some(pictured) = report.pictured() {
        let rest = report.rest_of_row(pictured);
        lines.push(format!("Closer look at head {}: {}; {rest}.", pictured.head.id, report.says(pictured)));
    }
    lines.push(report.on_special_tokens());
    lines.push(cost_sentence(report, costs));
    // "<" is read out as "less than" by some screen readers, as nothing by others.
    lines.join("\n").replace("<1 %", "less than 1 %") + "\n"
}

fn sentence(report: &Report<'_>, example: Example<'_>) -> String {
    let (head, link, statistics) = (example.head.id, example.link, &example.head.statistics);
    let (key, says) = (report.name(link.key), report.says(example));
    let distance = format!("{} tokens", report.focus.token.abs_diff(link.key));
    let lift = || match link.lift {
        Some(lift) => format!("that is {} the usual", times(lift).replace(" ×", " times")),
        None => "nobody else looks there".to_owned(),
    };
    match example.row.kind {
        HeadKind::Link => format!("Link, head {head}: {says}; {}. {key} stands {distance} back.", lift()),
        HeadKind::Ahead => format!("Ahead, head {head}: {says}; {}. {key} stands {distance} ahead.", lift()),
        HeadKind::Topic => {
            let topic = statistics.topic.map_or_else(String::new, |topic| {
                let name = report.name(topic.key);
                format!(" {name} is the strongest for {} of {} words.", topic.wins, topic.queries)
            });
            format!("Topic, head {head}: {says}.{topic}")
        }
        HeadKind::Previous => {
            let mass = percent(statistics.previous);
            format!("Previous word, head {head}: {says}. On average {mass} go to the word before.")
        }
        HeadKind::Next => {
            let mass = percent(statistics.next);
            format!("Next word, head {head}: {says}. On average {mass} go to the word after.")
        }
        HeadKind::Special => {
            let mass = percent(statistics.special_mass);
            let aside = report.aside();
            let title = format!("{}{}", aside[..1].to_uppercase(), &aside[1..]);
            format!("{title}, head {head}: {says}. On average {mass} go to {aside}.")
        }
        HeadKind::Other => format!("Other, head {head}: {says}."),
    }
}

fn cost_sentence(report: &Report<'_>, costs: Costs) -> String {
    let model = report.model;
    let memory = costs.peak_megabytes().map_or_else(String::new, |megabytes| format!(" and {megabytes} MB"));
    let checked = match report.checked {
        Checked::Run(verification) => format!(
            "the largest error on {} sampled rows, against arithmetic in 64 bits, is {:.1e}",
            verification.rows, verification.max_abs_error
        ),
        Checked::RowSums(error) => format!("the rows sum to 1 within {error:.1e}"),
    };
    format!(
        "{} tokens in {}, {} layers of {} heads; {checked}; took {:.2} seconds{memory}.",
        report.text.tokens.len(),
        visible(&model.name),
        model.layers,
        model.heads,
        costs.seconds,
    )
}
