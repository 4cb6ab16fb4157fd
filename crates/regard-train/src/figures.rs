//! An evaluation as a page of text.

use regard_train::evaluate::{Group, Report};
use regard_train::step;

pub(crate) fn render(report: &Report) -> String {
    let groups = [&report.unseen_pairs, &report.unseen_frames];
    let mut page =
        format!("{}\n{}, chosen on dev of {} heads\n\n", report.model, report.head, report.dev_heads.len());
    if let Some(chosen) = report.dev_heads.iter().find(|head| head.head == report.head) {
        let [seen, unseen] = &chosen.figures;
        page.push_str(&format!("{:<44} {:<20} unseen frames\n", "dev (95 % intervals)", "unseen pairs"));
        for (name, of) in [
            ("antecedent above the other noun", [seen.above, unseen.above]),
            ("antecedent strongest but for special tokens", [seen.strongest, unseen.strongest]),
            ("both members of a pair right", [seen.both, unseen.both]),
        ] {
            page.push_str(&format!("{name:<44} {:<20} {}\n", of[0], of[1]));
        }
        page.push('\n');
    }
    let mut line = |name: &str, of: &dyn Fn(&Group) -> String| {
        let [pairs, frames] = groups.map(of);
        page.push_str(format!("{name:<44} {pairs:<20} {frames}").trim_end());
        page.push('\n');
    };
    line("test (95 % intervals)", &|group| match std::ptr::eq(group, groups[0]) {
        true => "unseen pairs".to_owned(),
        false => "unseen frames".to_owned(),
    });
    line("antecedent above the other noun", &|group| group.head.above.to_string());
    line("antecedent strongest but for special tokens", &|group| group.head.strongest.to_string());
    line("both members of a pair right", &|group| group.head.both.to_string());
    line("median lift", &|group| group.head.lift.map_or("none".to_owned(), |lift| format!("{lift:.1}")));
    line("  rule: the nearest noun", &|group| group.rules.nearest.to_string());
    line("  rule: the first noun", &|group| group.rules.first.to_string());
    line("  rule: any key", &|group| format!("{:.1} %", group.rules.any_key * 100.0));
    line("antecedent restored", &|group| said(group.restored.map(|restored| restored.first)));
    line("antecedent likelier than the other noun", &|group| {
        said(group.restored.map(|restored| restored.above))
    });
    for (at, ablated) in report.unseen_pairs.ablated.iter().enumerate() {
        line(&format!("  restored without {}", ablated.head), &|group| {
            said(group.ablated.get(at).map(|ablated| ablated.restored.first))
        });
    }
    page.push('\n');
    for one in &report.demonstration {
        let lift = one.lift.map_or("no lift".to_owned(), |lift| format!("lift {lift:.1}"));
        let (text, head) = (&one.text, &report.head);
        page.push_str(&format!("{text}: {head} it → {} {:.3}, {lift}\n", one.strongest, one.prob));
    }
    page
}

/// What a step takes, as a page of text.
pub(crate) fn step(report: &step::Report) -> String {
    let step::Report { tokens, parameters, threads, rounds, .. } = report;
    let mut page = format!(
        "One step over {tokens} tokens, {parameters} parameters, {threads} threads; medians of {rounds}, in turn\n\n"
    );
    page.push_str(&format!(
        "{:<10} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}\n",
        "attention", "forward", "backward", "update", "step, ms", "tokens/s", "attention"
    ));
    for way in &report.ways {
        let cell = |seconds: Option<f64>| {
            seconds.map_or("–".to_owned(), |seconds| format!("{:.1}", seconds * 1e3))
        };
        let share = report.attention_share(way.name).filter(|_| way.name == "regard" || way.name == "burn");
        let share = share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0));
        page.push_str(&format!(
            "{:<10} {:>9} {:>9} {:>9} {:>9} {:>10.0} {share:>10}\n",
            way.name,
            cell(way.forward),
            cell(way.backward),
            cell(way.update),
            cell(Some(way.step)),
            *tokens as f64 / way.step,
        ));
    }
    page.push_str(
        "\nattention: the share of the step that goes when values are passed on as they are (none)\n",
    );
    page
}

fn said(share: Option<regard_train::evaluate::Share>) -> String {
    share.map_or("not asked".to_owned(), |share| share.to_string())
}
