//! How every answer ends: what was checked, what it cost, and what attention does not say.

use std::time::Instant;

use regard_lens::ModelInfo;
use regard_lens::view::Verification;
use serde::Serialize;

use crate::process::Costs;
use crate::terminal::{Page, join_parts};
use crate::visible::{visible, wrap};

/// What no picture of attention may be read as.
pub(crate) const NOT_WHY: &str = "Attention shows where a head reads, not why; regard ablate shows what the model \
                                  loses without a head.";
/// The same after an ablation.
pub(crate) const NOT_WHY_BUT_LOST: &str = "Attention shows where a head reads, not why. This is what the model loses \
                                           without it, on this text alone.";

/// What was compared with what.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checked {
    /// Sampled rows of our own run with f64.
    Run(Verification),
    /// The rows of another program's matrices with 1: the largest error of their sums.
    RowSums(f64),
}

/// The check in JSON.
#[derive(Serialize)]
pub(crate) struct VerifyFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_abs_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_row_sum_error: Option<f64>,
}

impl From<Checked> for VerifyFields {
    fn from(checked: Checked) -> Self {
        match checked {
            Checked::Run(verification) => {
                let Verification { rows, max_abs_error } = verification;
                Self { rows: Some(rows), max_abs_error: Some(max_abs_error), max_row_sum_error: None }
            }
            Checked::RowSums(error) => {
                Self { rows: None, max_abs_error: None, max_row_sum_error: Some(error) }
            }
        }
    }
}

/// What was run, how exact it was and what it cost.
pub(crate) fn cost_parts(model: &ModelInfo, tokens: usize, checked: Checked, costs: Costs) -> Vec<String> {
    let mut parts =
        vec![format!("{tokens} tokens"), format!("{} layers × {} heads", model.layers, model.heads)];
    parts.push(match checked {
        Checked::Run(verification) => {
            format!("within {:.1e} of f64 on {} sampled rows", verification.max_abs_error, verification.rows)
        }
        Checked::RowSums(error) => format!("rows sum to 1 within {error:.1e}"),
    });
    if let Checked::Run(_) = checked {
        parts.push(format!("dense maps: {}", bytes(model.dense_bytes(tokens))));
    }
    parts.push(format!("{:.2} s", costs.seconds));
    parts.extend(costs.peak_megabytes().map(|megabytes| format!("{megabytes} MB")));
    parts.push(visible(&model.name));
    parts
}

/// An amount of memory as people read it.
fn bytes(bytes: u128) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 999.5 && unit + 1 < units.len() {
        amount /= 1000.0;
        unit += 1;
    }
    if amount < 9.95 && unit > 0 {
        format!("{amount:.1} {}", units[unit])
    } else {
        format!("{amount:.0} {}", units[unit])
    }
}

/// The last block of a page.
pub(crate) fn closing(
    page: Page,
    model: &ModelInfo,
    tokens: usize,
    checked: Checked,
    started: Instant,
    caution: &str,
) -> Vec<String> {
    let parts = cost_parts(model, tokens, checked, Costs::since(started));
    let mut lines = wrap(caution, page.columns);
    lines.extend(join_parts(&parts, page.columns).iter().map(|line| page.palette.dim(line)));
    lines
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn bytes__any_amount__is_short() {
        let shown = [0, 999, 1000, 41_472, 1_000_000, 72_477_573_120, u128::MAX].map(bytes);
        assert_eq!(shown[..6], ["0 bytes", "999 bytes", "1.0 kB", "41 kB", "1.0 MB", "72 GB"]);
    }
}
