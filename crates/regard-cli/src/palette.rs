//! Colours, and what stands for them where there are none.

use crate::arguments::ColorChoice;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    /// No escape sequence at all; shares become `░▒▓█`.
    Plain,
    /// The 256 colours of xterm.
    Indexed,
    /// 24-bit colour.
    True,
}

/// Where on the scale of [`Palette::heat`] the legend has its marks.
pub(crate) const STOPS: [f32; 3] = [0.0, 0.25, 1.0];

/// From which place of a scale on each shade is used. Fixed: two heads with the same shade have the same share.
pub(crate) const SHADES: [(f32, char); 4] = [(0.05, '░'), (0.15, '▒'), (0.35, '▓'), (0.60, '█')];

/// Of the logarithmic scale: 10⁻⁴ to 1.
const DECADES: f32 = 4.0;

/// Which share gets which colour or shade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A share stands where it is.
    Shares,
    /// A tenth is as far from 1 as a hundredth from a tenth, down to 0.01 %.
    Logarithmic,
}

impl Scale {
    /// The logarithmic scale or the plain one.
    pub(crate) fn logarithmic_if(log: bool) -> Self {
        if log { Self::Logarithmic } else { Self::Shares }
    }

    /// Where a share stands on the scale of [`Palette::heat`], which draws its square root.
    pub(crate) fn place(self, share: f32) -> f32 {
        match self {
            Self::Shares => share,
            Self::Logarithmic => {
                (1.0 + share.max(f32::MIN_POSITIVE).log10() / DECADES).clamp(0.0, 1.0).powi(2)
            }
        }
    }

    /// The share at a place, as people read it.
    pub(crate) fn name(self, place: f32) -> String {
        let share = match self {
            Self::Shares => place,
            Self::Logarithmic => 10f32.powf((place.sqrt() - 1.0) * DECADES),
        };
        let percent = share * 100.0;
        if percent >= 0.95 || percent == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
    }
}

/// Inferno (Nathaniel Smith and Stéfan van der Walt, CC0), at eleven places: equal steps look equal, and it reads
/// the same in grey and with colour-blind eyes.
const INFERNO: [[u8; 3]; 11] = [
    [0, 0, 4],
    [22, 11, 57],
    [66, 10, 104],
    [106, 23, 110],
    [147, 38, 103],
    [188, 55, 84],
    [221, 81, 58],
    [243, 120, 25],
    [252, 165, 10],
    [246, 215, 70],
    [252, 255, 164],
];

/// The same among xterm's 256 colours, chosen by eye: the nearest ones jump between blue, grey and purple.
const INFERNO_INDEXED: [u8; 11] = [16, 234, 53, 89, 125, 161, 166, 208, 214, 221, 229];

impl Palette {
    /// What to use, by `--color`, by whether a terminal reads, and by NO_COLOR, COLORTERM and TERM.
    pub(crate) fn choose(
        choice: ColorChoice,
        is_terminal: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        match choice {
            ColorChoice::Never => Self::Plain,
            ColorChoice::Auto if !is_terminal || set("NO_COLOR") || dumb => Self::Plain,
            ColorChoice::Auto | ColorChoice::Always => match variable("COLORTERM").as_deref() {
                Some("truecolor" | "24bit") => Self::True,
                _ => Self::Indexed,
            },
        }
    }

    pub(crate) fn has_colour(self) -> bool {
        self != Self::Plain
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.styled("2", text)
    }

    /// More important.
    pub(crate) fn bold(self, text: &str) -> String {
        self.styled("1", text)
    }

    /// The text in the colour of a share.
    pub(crate) fn heat(self, share: f32, text: &str) -> String {
        if !self.has_colour() {
            return text.to_owned();
        }
        self.styled(&format!("38;{}", self.code(share)), text)
    }

    /// `columns` columns of one share.
    pub(crate) fn one_heat(self, share: f32, columns: usize) -> String {
        self.styled(&format!("48;{}", self.code(share)), &" ".repeat(columns))
    }

    /// `columns` columns of two shares, one above the other; without a lower one the background stays.
    pub(crate) fn two_heats(self, upper: f32, lower: Option<f32>, columns: usize) -> String {
        let mut style = format!("38;{}", self.code(upper));
        if let Some(lower) = lower {
            style += &format!(";48;{}", self.code(lower));
        }
        self.styled(&style, &"▀".repeat(columns))
    }

    fn styled(self, style: &str, text: &str) -> String {
        if self.has_colour() && !text.is_empty() {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The colour of a share, as SGR takes it.
    fn code(self, share: f32) -> String {
        if self == Self::True {
            let [r, g, b] = heat_colour(share);
            format!("2;{r};{g};{b}")
        } else {
            format!("5;{}", INFERNO_INDEXED[place(share).round() as usize])
        }
    }
}

/// The shade of a share.
pub(crate) fn shade(share: f32) -> char {
    SHADES.iter().rev().find(|(from, _)| share >= *from).map_or(' ', |&(_, shade)| shade)
}

/// The place of a share on the ramp, 0 to 10, by its square root: most shares are small, and the eye should still
/// tell 2 % from 8 %.
fn place(share: f32) -> f32 {
    share.clamp(0.0, 1.0).sqrt() * (INFERNO.len() - 1) as f32
}

fn heat_colour(share: f32) -> [u8; 3] {
    let place = place(share);
    let below = (place as usize).min(INFERNO.len() - 2);
    let (from, to, part) = (INFERNO[below], INFERNO[below + 1], place - below as f32);
    std::array::from_fn(|i| {
        (f32::from(from[i]) + part * (f32::from(to[i]) - f32::from(from[i]))).round() as u8
    })
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn choose(choice: ColorChoice, is_terminal: bool, variables: &[(&str, &str)]) -> Palette {
        Palette::choose(choice, is_terminal, |name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn palette__terminal__is_as_rich_as_colorterm_says() {
        assert_eq!(choose(ColorChoice::Auto, true, &[("COLORTERM", "truecolor")]), Palette::True);
        assert_eq!(choose(ColorChoice::Auto, true, &[("COLORTERM", "24bit")]), Palette::True);
        assert_eq!(choose(ColorChoice::Auto, true, &[]), Palette::Indexed);
        assert_eq!(choose(ColorChoice::Auto, true, &[("NO_COLOR", "")]), Palette::Indexed);
    }

    #[test]
    fn palette__no_color_or_dumb_or_no_terminal__is_plain_unless_told_always() {
        for (is_terminal, variables) in
            [(true, [("NO_COLOR", "1")]), (true, [("TERM", "dumb")]), (false, [("COLORTERM", "truecolor")])]
        {
            assert_eq!(choose(ColorChoice::Auto, is_terminal, &variables), Palette::Plain);
            assert_ne!(choose(ColorChoice::Always, is_terminal, &variables), Palette::Plain);
        }
        assert_eq!(choose(ColorChoice::Never, true, &[("COLORTERM", "truecolor")]), Palette::Plain);
    }

    #[test]
    fn palette__plain__writes_no_escape() {
        let plain = Palette::Plain;
        assert_eq!([plain.dim("a"), plain.bold("b"), plain.heat(0.5, "c")], ["a", "b", "c"]);
    }

    #[test]
    fn heat__share_that_grows__gets_brighter() {
        let brightness = |share| heat_colour(share).iter().map(|&c| u32::from(c)).sum::<u32>();
        for step in 1..100 {
            assert!(brightness(step as f32 / 100.0) >= brightness((step - 1) as f32 / 100.0), "{step}");
        }
        assert_eq!((heat_colour(0.0), heat_colour(1.0)), (INFERNO[0], INFERNO[10]));
    }

    #[test]
    fn scale__logarithmic__is_even_in_decades() {
        let place = |share| Scale::Logarithmic.place(share).sqrt();
        for (share, expected) in [(1.0, 1.0), (0.1, 0.75), (0.01, 0.5), (1e-4, 0.0), (0.0, 0.0)] {
            assert!((place(share) - expected).abs() < 1e-6);
        }
        assert_eq!(Scale::Shares.place(0.3), 0.3);
    }

    #[test]
    fn scale__names__are_the_shares_at_their_places() {
        assert_eq!(STOPS.map(|place| Scale::Shares.name(place)), ["0 %", "25 %", "100 %"]);
        assert_eq!(STOPS.map(|place| Scale::Logarithmic.name(place)), ["0.01 %", "1 %", "100 %"]);
        assert_eq!(Scale::Logarithmic.name(SHADES[0].0), "0.08 %");
    }

    #[test]
    fn shade__thresholds__are_inclusive() {
        assert_eq!([0.0, 0.05, 0.15, 0.35, 0.60, 1.0].map(shade), [' ', '░', '▒', '▓', '█', '█']);
    }
}
