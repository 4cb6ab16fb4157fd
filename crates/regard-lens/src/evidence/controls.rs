//! Other heads to compare a head with.

use crate::view::HeadId;

/// Sets of other heads to ablate beside `heads`: in each, every head is replaced by a random one of its own layer
/// that is not among `heads`. At most `count` sets, all different; the same for the same seed. Fewer, or none, where
/// the layers have no more.
pub fn random_controls(heads: &[HeadId], num_heads: usize, count: usize, seed: u64) -> Vec<Vec<HeadId>> {
    const TRIES: usize = 16;
    let mut random = SplitMix64(seed);
    let mut wanted = heads.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let mut controls: Vec<Vec<HeadId>> = Vec::new();
    for _ in 0..count.saturating_mul(TRIES) {
        if controls.len() == count {
            break;
        }
        let mut control = Vec::with_capacity(wanted.len());
        for of_layer in wanted.chunk_by(|a, b| a.layer == b.layer) {
            let layer = of_layer[0].layer;
            let mut pool: Vec<HeadId> = (0..num_heads).map(|head| HeadId { layer, head }).collect();
            pool.retain(|id| !of_layer.contains(id));
            for _ in 0..of_layer.len().min(pool.len()) {
                control.push(pool.swap_remove(random.below(pool.len())));
            }
        }
        control.sort_unstable();
        if control.len() == wanted.len() && !controls.contains(&control) {
            controls.push(control);
        }
    }
    controls.retain(|control| !control.is_empty());
    controls
}

/// Numbers that look random and are the same for the same seed (Steele et al. 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In 0..limit; `limit` is at least 1 and small, so that the remainder favours nobody noticeably.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn heads(names: &[&str]) -> Vec<HeadId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn controls__one_head__are_different_others_of_its_layer() {
        for seed in 0..50 {
            let controls = random_controls(&heads(&["L3.H1"]), 12, 8, seed);
            assert_eq!(controls.len(), 8);
            let mut all: Vec<HeadId> = controls.concat();
            assert!(all.iter().all(|id| id.layer == 3 && id.head < 12 && id.head != 1), "{all:?}");
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 8);
            assert_eq!(controls, random_controls(&heads(&["L3.H1"]), 12, 8, seed), "the same seed");
        }
        assert_ne!(
            random_controls(&heads(&["L3.H1"]), 12, 8, 0),
            random_controls(&heads(&["L3.H1"]), 12, 8, 1)
        );
    }

    #[test]
    fn controls__few_heads__are_as_many_as_there_are() {
        assert_eq!(random_controls(&heads(&["L0.H1"]), 2, 8, 0), [heads(&["L0.H0"])]);
        assert!(random_controls(&heads(&["L0.H0"]), 1, 8, 0).is_empty());
        assert!(random_controls(&heads(&["L0.H0", "L0.H1"]), 3, 8, 0).is_empty(), "not two others");
        assert!(random_controls(&[], 12, 8, 0).is_empty());
    }

    #[test]
    fn controls__heads_of_two_layers__keep_the_layers() {
        for control in random_controls(&heads(&["L3.H1", "L1.H0", "L1.H2"]), 12, 8, 7) {
            assert_eq!(control.iter().map(|id| id.layer).collect::<Vec<_>>(), [1, 1, 3]);
            assert!(control[0] != control[1]);
        }
    }
}
