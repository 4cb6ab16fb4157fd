//! What a comparison says, as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::compare::{Comparison, Outcome, PeerOutcome, Timed};
use crate::protocol::{Dtype, Mask, Request};

/// Everything that one run found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The processor's name, where the system says it.
    pub(crate) processor: Option<String>,
    /// Load average of the minute before the first case, where the system says it.
    pub(crate) load_average: Option<f64>,
    /// Threads of every worker.
    pub(crate) threads: usize,
    /// Times that every worker was asked each case.
    pub(crate) rounds: usize,
    /// Seconds of each time.
    pub(crate) seconds: f64,
    /// The rate of a plain matrix product in the same run.
    pub(crate) ceiling: Ceiling,
    /// Case by case.
    pub(crate) cases: Vec<Comparison>,
    /// Group by group, peer by peer.
    pub(crate) groups: Vec<Group>,
}

/// The rate of a 2048³ f32 matrix product.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ceiling {
    /// Who computed it.
    pub(crate) engine: String,
    /// The faster of before all cases and after them, in 10⁹ operations a second.
    pub(crate) gflops: f64,
}

/// All cases of a group against one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Group {
    /// Its name.
    pub(crate) group: String,
    /// The peer.
    pub(crate) peer: &'static str,
    /// Geometric mean of the ratios; above 1 we are faster.
    pub(crate) geometric_mean: f64,
    /// Cases with a ratio.
    pub(crate) compared: usize,
    /// Cases in the group.
    pub(crate) cases: usize,
}

/// Geometric means, group by group in the order of first appearance, peer by peer.
pub(crate) fn groups(cases: &[Comparison]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for name in names(cases) {
        let members: Vec<&Comparison> = cases.iter().filter(|case| case.group == name).collect();
        for (index, PeerOutcome { peer, .. }) in members[0].peers.iter().enumerate() {
            let ratios: Vec<f64> =
                members.iter().filter_map(|case| Some(case.peers[index].ratio?.of_medians)).collect();
            if !ratios.is_empty() {
                let mean_log = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
                groups.push(Group {
                    group: name.to_string(),
                    peer,
                    geometric_mean: mean_log.exp(),
                    compared: ratios.len(),
                    cases: members.len(),
                });
            }
        }
    }
    groups
}

/// A request in a few characters: batch × heads (key heads) × queries × keys, head_dim, and what is not usual.
pub(crate) fn label(request: &Request) -> String {
    let mut label = format!("{}×{}", request.batch, request.heads);
    if request.kv_heads != request.heads {
        let _ = write!(label, "({})", request.kv_heads);
    }
    if request.seq_q == request.seq_kv {
        let _ = write!(label, "×{}²", request.seq_q);
    } else {
        let _ = write!(label, "×{}×{}", request.seq_q, request.seq_kv);
    }
    let _ = write!(label, " d{} {}", request.head_dim, request.op.name());
    if request.mask != Mask::None {
        let _ = write!(label, " {}", request.mask);
    }
    if request.dtype != Dtype::F32 {
        let _ = write!(label, " {}", request.dtype.name());
    }
    label
}

/// One line about each peer of a case, for somebody who waits.
pub(crate) fn progress(case: &Comparison) -> String {
    let ours = match &case.regard {
        Outcome::Timed(timed) => format!("regard {}", milliseconds(timed)),
        Outcome::Refused(why) | Outcome::Disagrees(why) => return format!("regard: {why}"),
    };
    let peers = case.peers.iter().map(|PeerOutcome { peer, outcome, ratio }| match (outcome, ratio) {
        (Outcome::Timed(timed), Some(ratio)) => {
            format!("{peer} {} ({:.2})", milliseconds(timed), ratio.of_medians)
        }
        (Outcome::Timed(_), None) => format!("{peer} alone"),
        (Outcome::Refused(_), _) => format!("{peer} –"),
        (Outcome::Disagrees(_), _) => format!("{peer} DISAGREES"),
    });
    std::iter::once(ours).chain(peers).collect::<Vec<_>>().join(", ")
}

/// Milliseconds to three digits.
fn milliseconds(timed: &Timed) -> String {
    let ms = timed.median_s * 1e3;
    let decimals = (2 - ms.log10().floor() as i32).clamp(0, 4) as usize;
    format!("{ms:.decimals$} ms")
}

/// Load average up to which a machine is quiet.
const QUIET: f64 = 0.5;

const HEADER: [&str; 8] =
    ["", "worker", "median", "ratio", "of each round", "rate", "of sgemm", "extra memory"];

/// The report for a reader.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let processor = report.processor.as_deref().unwrap_or("processor unknown");
    let _ = writeln!(
        out,
        "{processor}; {} threads; {} rounds of {} s, in turn; a ratio is the peer's time by ours: above 1 regard is \
         faster",
        report.threads, report.rounds, report.seconds
    );
    if let Some(load) = report.load_average.filter(|&load| load > QUIET) {
        let _ = writeln!(
            out,
            "others kept the machine busy before (load average {load}): do not trust these times"
        );
    }
    let Ceiling { engine, gflops } = &report.ceiling;
    let _ = writeln!(out, "sgemm 2048³ by {engine}: {gflops:.0} GFLOP/s");
    for group in names(&report.cases) {
        let mut rows = vec![HEADER.map(String::from)];
        let mut notes = Vec::new();
        for case in report.cases.iter().filter(|case| case.group == group) {
            let label = label(&case.request);
            rows.push(row(&label, "regard", &case.regard, report, &mut notes));
            for PeerOutcome { peer, outcome, ratio } in &case.peers {
                let mut cells = row("", peer, outcome, report, &mut notes);
                if let Some(ratio) = ratio {
                    cells[3] = format!("{:.2}", ratio.of_medians);
                    cells[4] = format!("{:.2}–{:.2}", ratio.lowest, ratio.highest);
                }
                rows.push(cells);
            }
        }
        let _ = writeln!(out, "\n{group}");
        for cells in &rows {
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let width = width(column);
                let _ = if column < 2 {
                    write!(line, "  {cell:<width$}")
                } else {
                    write!(line, "  {cell:>width$}")
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for Group { peer, geometric_mean, compared, cases, .. } in
            report.groups.iter().filter(|entry| entry.group == group)
        {
            let _ = writeln!(
                out,
                "  geometric mean against {peer}: {geometric_mean:.3} ({compared} of {cases} cases)"
            );
        }
        for note in notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    out
}

/// The groups' names, in the order of first appearance.
fn names(cases: &[Comparison]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for case in cases {
        if !names.contains(&case.group.as_str()) {
            names.push(&case.group);
        }
    }
    names
}

fn row(
    label: &str,
    worker: &str,
    outcome: &Outcome,
    report: &Report,
    notes: &mut Vec<String>,
) -> [String; 8] {
    let mut cells = [const { String::new() }; 8];
    (cells[0], cells[1]) = (label.to_string(), worker.to_string());
    let mut note = |why: String| {
        if !notes.contains(&why) {
            notes.push(why);
        }
    };
    match outcome {
        Outcome::Timed(timed) => {
            cells[2] = milliseconds(timed);
            if let Some(gflops) = timed.gflops {
                cells[5] = format!("{gflops:.1} GFLOP/s");
                cells[6] = format!("{:.0} %", 100.0 * gflops / report.ceiling.gflops);
            }
            if let Some(rate) = timed.gigabytes_per_second {
                cells[5] = format!("{rate:.1} GB/s");
            }
            if !timed.parts.is_empty() {
                let parts = timed.parts.iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share));
                note(format!("{label}, {worker}: {}", parts.collect::<Vec<_>>().join(", ")));
            }
            if let Some(bytes) = timed.peak_extra_bytes {
                cells[7] = format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            }
        }
        Outcome::Refused(why) => {
            cells[2] = "–".into();
            note(format!("{worker}: {why}"));
        }
        Outcome::Disagrees(why) => {
            cells[2] = "DISAGREES".into();
            note(format!("{worker} computed something else, so its time is not believed: {why}"));
        }
    }
    cells
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::cases::{Defaults, parse};
    use crate::compare::Ratio;
    use crate::protocol::Parts;

    fn timed(median_s: f64) -> Outcome {
        Outcome::Timed(Timed {
            engine: "engine 1".into(),
            median_s,
            min_s: median_s,
            rounds_s: vec![median_s],
            runs: 1,
            peak_extra_bytes: Some(3 << 20),
            gflops: Some(50.0),
            gigabytes_per_second: None,
            parts: Parts::new(),
        })
    }

    fn case(group: &str, ratio: Option<f64>) -> Comparison {
        let line = r#"{"op":"forward","heads":8,"seq_q":512,"head_dim":64,"mask":"causal"}"#;
        let request = parse(line, Defaults { threads: 2, seconds: 1.0, seed: 0 }).unwrap().request;
        let outcome = match ratio {
            Some(ratio) => timed(0.001 * ratio),
            None => Outcome::Disagrees("output: sample 3".into()),
        };
        let ratio = ratio.map(|ratio| Ratio { of_medians: ratio, lowest: ratio, highest: ratio });
        let peers = vec![PeerOutcome { peer: "torch", outcome, ratio }];
        Comparison { group: group.into(), request, regard: timed(0.001), peers }
    }

    #[test]
    fn groups__geometric_mean__is_of_believed_ratios_alone() {
        let cases = [case("a", Some(4.0)), case("b", Some(3.0)), case("a", Some(0.25)), case("a", None)];
        let groups = groups(&cases);
        let summary: Vec<_> =
            groups.iter().map(|g| (g.group.as_str(), g.geometric_mean, g.compared, g.cases)).collect();
        assert_eq!(summary.len(), 2);
        assert_eq!((summary[0].0, summary[0].2, summary[0].3), ("a", 2, 3));
        assert!((summary[0].1 - 1.0).abs() < 1e-12 && (summary[1].1 - 3.0).abs() < 1e-12);
    }

    #[test]
    fn text__a_disagreement__shows_no_time_and_says_why() {
        let cases = vec![case("causal", Some(1.5)), case("causal", None)];
        let report = Report {
            processor: None,
            load_average: Some(1.5),
            threads: 2,
            rounds: 1,
            seconds: 1.0,
            ceiling: Ceiling { engine: "torch".into(), gflops: 200.0 },
            groups: groups(&cases),
            cases,
        };
        let text = text(&report);
        let line = |what: &str| text.lines().find(|line| line.contains(what)).map(str::trim).unwrap_or("");
        assert_eq!(
            line("1×8×512²").split_whitespace().collect::<Vec<_>>().join(" "),
            "1×8×512² d64 forward causal regard 1.00 ms 50.0 GFLOP/s 25 % 3.0 MiB"
        );
        assert!(line("load average 1.5").contains("do not trust"), "{text}");
        assert!(line("DISAGREES").ends_with("DISAGREES"), "{text}");
        assert!(line("not believed").contains("sample 3"), "{text}");
        assert!(line("geometric mean").contains("torch: 1.500 (1 of 2 cases)"), "{text}");
    }
}
