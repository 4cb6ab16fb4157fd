//! How much of what was found a page can hold.

use std::ops::Range;

use serde::Serialize;

use super::quantise::place_bytes;

/// No page is larger.
pub(crate) const MAX_PAGE_BYTES: usize = 3_000_000;

/// Room for what the plan does not count: markup, and what base64 and JSON add at their ends.
const SPARE_BYTES: usize = 24_000;
/// Heads times readings; more would leave each too little.
const MAX_PANELS: usize = 2_400;
/// More rows than this nobody reads on one page, and browsers get slow.
const MAX_ROWS: usize = 2_048;
/// Sides of thumbnails, the best first.
const SIDES: [usize; 6] = [48, 32, 24, 16, 12, 8];
/// The most bytes that thumbnails take.
const THUMBNAIL_BYTES: usize = 600_000;
/// Stretches of text whose received mass is summed, the best first.
const STRETCHES: [usize; 3] = [128, 64, 32];
const STRETCH_BYTES: usize = 200_000;
/// Keys of a row, the best first.
const TOP_K: [usize; 7] = [16, 12, 8, 6, 5, 4, 3];
/// Keys named of those that a head looks at most over the whole text.
pub(super) const TOP_RECEIVERS: usize = 5;
/// What a head's scores take in JSON, about 30 numbers of up to 8 characters.
const SCORE_BYTES: usize = 240;

/// Sizes that a page depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Rows and keys of the text.
    pub(super) units: usize,
    /// Heads that were asked for.
    pub(super) heads: usize,
    /// Readings that were asked for: with and without sink, weighted or not.
    pub(super) readings: usize,
    /// Bins of a histogram of distances.
    pub(super) distance_bins: usize,
    /// Everything else: code, labels, table.
    pub(super) other_bytes: usize,
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    /// Heads, the first ones.
    pub(super) heads: usize,
    /// Readings, the first ones.
    pub(super) readings: usize,
    /// Rows and columns of a thumbnail.
    pub(super) side: usize,
    /// Keys kept of a row.
    pub(super) top_k: usize,
    /// Rows whose keys are kept.
    pub(super) rows: Range<usize>,
    /// Stretches of text whose received mass is kept.
    pub(super) stretches: usize,
}

impl Plan {
    /// The most that fits, with rows of `of` around `focus`.
    pub(super) fn new(sizes: &Sizes, of: &Range<usize>, focus: usize) -> Self {
        let heads = sizes.heads.min(MAX_PANELS);
        let readings = sizes.readings.min(MAX_PANELS / heads.max(1)).max(1);
        let panels = (heads * readings).max(1);
        let largest = |from: &[usize], bytes: &dyn Fn(usize) -> usize, limit: usize| {
            let least = from[from.len() - 1];
            from.iter().copied().find(|&size| bytes(size) <= limit).unwrap_or(least)
        };
        let side = largest(&SIDES, &|side| panels * side * side, THUMBNAIL_BYTES).min(sizes.units);
        let stretches = largest(&STRETCHES, &|n| panels * n * 2, STRETCH_BYTES).min(sizes.units);

        let place = place_bytes(sizes.units);
        let of_head = side * side + stretches * 2 + TOP_RECEIVERS * (place + 2) + sizes.distance_bins * 2;
        let room = MAX_PAGE_BYTES.saturating_sub(SPARE_BYTES + sizes.other_bytes + panels * SCORE_BYTES);
        // Base64 writes three bytes as four.
        let for_rows = (room / 4 * 3).saturating_sub(panels * of_head);
        let wanted = of.len().min(MAX_ROWS);
        // Keys and shares, and what each row's token receives.
        let row_bytes = |top_k: usize| panels * (top_k * (place + 2) + 2);
        let top_k = largest(&TOP_K, &|k| row_bytes(k) * wanted, for_rows).min(sizes.units);
        let num_rows = wanted.min(for_rows / row_bytes(top_k));
        let start = focus.saturating_sub(num_rows / 2).clamp(of.start, of.end - num_rows);
        Self { heads, readings, side, top_k, rows: start..start + num_rows, stretches }
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn sizes(units: usize, heads: usize, readings: usize) -> Sizes {
        Sizes { units, heads, readings, distance_bins: 2 * units.ilog2() as usize + 3, other_bytes: 300_000 }
    }

    fn plan(units: usize, heads: usize, readings: usize) -> Plan {
        Plan::new(&sizes(units, heads, readings), &(0..units), units / 2)
    }

    #[test]
    fn plan__one_sentence__keeps_everything() {
        let plan = plan(12, 72, 4);
        assert_eq!((plan.heads, plan.readings, plan.side, plan.top_k), (72, 4, 12, 12));
        assert_eq!((plan.rows, plan.stretches), (0..12, 12));
    }

    #[test]
    fn plan__novel__keeps_a_window_around_the_focus() {
        let plan = plan(8192, 270, 2);
        assert_eq!((plan.heads, plan.readings, plan.side), (270, 2, 32));
        assert!(plan.rows.len() >= 128 && plan.rows.contains(&4096), "{plan:?}");
        assert!(plan.top_k >= 3);
    }

    #[test]
    fn plan__any_size__stays_inside_its_rows_and_its_bytes() {
        for units in [1, 2, 3, 100, 1500, 65_534, 65_535, 1 << 20] {
            for heads in [1, 72, 270, 1200, 1201, 2400, 9216] {
                for readings in [1, 2, 4] {
                    let sizes = sizes(units, heads, readings);
                    for focus in [0, units / 3, units - 1] {
                        let plan = Plan::new(&sizes, &(0..units), focus);
                        assert!(plan.rows.start <= plan.rows.end && plan.rows.end <= units, "{plan:?}");
                        assert!(plan.rows.is_empty() || plan.rows.contains(&focus), "{plan:?} {focus}");
                        let place = place_bytes(units);
                        let of_head = plan.side.pow(2)
                            + plan.stretches * 2
                            + TOP_RECEIVERS * (place + 2)
                            + sizes.distance_bins * 2
                            + plan.rows.len() * (plan.top_k * (place + 2) + 2);
                        let panels = plan.heads * plan.readings;
                        let bytes = panels * of_head / 3 * 4 + panels * SCORE_BYTES + sizes.other_bytes;
                        assert!(bytes <= MAX_PAGE_BYTES - 20_000, "{sizes:?} {plan:?} {bytes}");
                    }
                }
            }
        }
    }

    #[test]
    fn plan__some_rows_alone__keeps_none_beside_them() {
        let plan = Plan::new(&sizes(8192, 270, 2), &(100..140), 4000);
        assert_eq!(plan.rows, 100..140);
    }
}
