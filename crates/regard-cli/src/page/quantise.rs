//! Numbers in few bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

/// Bytes that JSON holds in base64.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Packed(Vec<u8>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl Packed {
    /// Shares from 0 to 1 in two bytes each, the low one first: q/65,535, off by at most 7.7·10⁻⁶.
    pub(super) fn shares(shares: impl Iterator<Item = f32>) -> Self {
        Self(shares.flat_map(|share| quantised_share(share).to_le_bytes()).collect())
    }

    /// Masses from 0 to 1 in a byte each: (q/255)², which keeps small ones apart.
    pub(super) fn shades(masses: impl Iterator<Item = f32>) -> Self {
        Self(masses.map(quantised_shade).collect())
    }

    /// Places in a text, in as many bytes as [`place_bytes`] says, the low one first; what is none is all ones.
    pub(super) fn places(places: impl Iterator<Item = u32>, units: usize) -> Self {
        let bytes = place_bytes(units);
        Self(places.flat_map(|place| place.to_le_bytes().into_iter().take(bytes)).collect())
    }
}

/// Two where the text has fewer than 65,535 places, else four.
pub(super) fn place_bytes(units: usize) -> usize {
    if units < usize::from(u16::MAX) { 2 } else { 4 }
}

fn quantised_share(share: f32) -> u16 {
    (f64::from(share).clamp(0.0, 1.0) * f64::from(u16::MAX)).round() as u16
}

fn quantised_shade(mass: f32) -> u8 {
    (mass.clamp(0.0, 1.0).sqrt() * f32::from(u8::MAX)).round() as u8
}

/// A number with five decimals.
pub(super) fn rounded(number: f32) -> f64 {
    (f64::from(number) * 1e5).round() / 1e5
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn share__from_0_to_1__reads_back_within_1e_5() {
        let mut worst = 0.0f64;
        for step in 0..=100_000 {
            let share = step as f32 / 100_000.0;
            let back = f64::from(quantised_share(share)) / 65_535.0;
            worst = worst.max((back - f64::from(share)).abs());
        }
        assert!(worst <= 7.7e-6, "{worst}");
        assert_eq!([0.0, 1.0, 1.000_001].map(quantised_share), [0, u16::MAX, u16::MAX]);
    }

    #[test]
    fn shade__from_0_to_1__reads_back_within_its_step_and_small_is_not_nothing() {
        for step in 0..=100_000 {
            let mass = step as f32 / 100_000.0;
            let back = (f32::from(quantised_shade(mass)) / 255.0).powi(2);
            // Half a step of the root, on either side: (√m ± 1/510)² − m.
            let allowed = mass.sqrt() / 255.0 + 1.0 / (510.0 * 510.0) + 1e-6;
            assert!((back - mass).abs() <= allowed, "{mass} reads back as {back}");
        }
        assert!(quantised_shade(1e-5) > 0);
    }

    #[test]
    fn places__short_and_long_texts__keep_the_mark_of_none() {
        assert_eq!(Packed::places([1, u32::MAX].into_iter(), 65_534), Packed(vec![1, 0, 255, 255]));
        let long = Packed::places([65_537, u32::MAX].into_iter(), 65_538);
        assert_eq!(long, Packed(vec![1, 0, 1, 0, 255, 255, 255, 255]));
    }

    #[test]
    fn rounded__scores__stay_short_in_json() {
        assert_eq!(serde_json::to_string(&rounded(0.487_123_4)).unwrap(), "0.48712");
    }
}
