//! The view in plain sentences, for screen readers and for reading aloud.

use regard_lens::view::HeadKind;

use crate::report::{Example, Report, percent, times};
use crate::visible::visible;

/// The whole view, one thought a line.
pub(crate) fn render(report: &Report<'_>, costs: &[String]) -> String {
    let focus = report.focus_name();
    let index = report.focus.token;
    let last = report.text.tokens.len() - 1;
    let text: Vec<String> = report.text.text.split_whitespace().map(visible).collect();
    let mut lines = vec![
        format!("Text: {}", text.join(" ")),
        format!("The word that looks: {focus}, token {index} of 0 to {last}."),
    ];
    lines.extend(report.focus_note().map(|note| format!("{note}.")));
    lines.extend(report.best_of_each_kind().into_iter().map(|example| sentence(report, example)));
    if let Some(pictured) = report.pictured() {
        let head = pictured.head.id;
        lines.push(format!("Most telling head {head}: {}.", report.says(pictured)));
        lines.push(format!("In {head} {}.", report.rest_of_row(pictured.row)));
    }
    lines.push(report.on_special_tokens());
    lines.push(format!("{}.", costs.join(", ")));
    lines.join("\n") + "\n"
}

fn sentence(report: &Report<'_>, example: Example<'_>) -> String {
    let (head, link, statistics) = (example.head.id, example.link, &example.head.statistics);
    let key = report.name(link.key);
    let tokens = |count: usize| if count == 1 { "1 token".to_owned() } else { format!("{count} tokens") };
    let distance = tokens(report.focus.token.abs_diff(link.key));
    let says = report.says(example);
    let lift = match link.lift {
        Some(lift) => format!("that is {} the usual", times(lift).replace(" ×", " times")),
        None => "no usual share to compare with".to_owned(),
    };
    match example.row.kind {
        HeadKind::Link => format!("Link, head {head}: {says}; {lift}. {key} stands {distance} back."),
        HeadKind::Ahead => format!("Ahead, head {head}: {says}; {lift}. {key} stands {distance} ahead."),
        HeadKind::Topic => match statistics.topic {
            Some(topic) => format!(
                "Topic, head {head}: {says}. {} is the strongest for {} of {} words.",
                report.name(topic.key),
                topic.wins,
                topic.queries
            ),
            None => format!("Topic, head {head}: {says}."),
        },
        HeadKind::Previous => format!(
            "Previous word, head {head}: {says}. On average {} go to the word before.",
            percent(statistics.previous)
        ),
        HeadKind::Next => format!(
            "Next word, head {head}: {says}. On average {} go to the word after.",
            percent(statistics.next)
        ),
        HeadKind::Special => format!(
            "Special tokens, head {head}: {says}. On average {} go to special tokens.",
            percent(statistics.special_mass)
        ),
        HeadKind::Other => format!("Other, head {head}: {says}."),
    }
}
