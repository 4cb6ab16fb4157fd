//! `regard fill`: which words a model expects.

use std::io::{BufWriter, Write, stdout};

use regard_lens::{ModelInfo, Prediction, Predicts, TokenizedText};
use serde::Serialize;

use crate::arguments::FillArguments;
use crate::failure::Failure;
use crate::input::read_text;
use crate::json::{ModelFields, write_line};
use crate::model;
use crate::report::percent;
use crate::unknown::{self, UnknownWord, unknown_words};
use crate::visible::{left, right, visible, width, wrap};

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-fill/1";
/// What users may write for any model's mask.
const MASK: &str = "[MASK]";
/// Columns of a line of words.
const COLUMNS: usize = 78;
/// Columns of the longest bar.
const BAR_CELLS: usize = 20;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    regard_version: &'static str,
    model: ModelFields<'a>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_words: Option<Vec<UnknownWord<'a>>>,
    places: Vec<Place<'a>>,
}

/// One place and what is expected there.
#[derive(Serialize)]
struct Place<'a> {
    /// The token: a mask, or one after the last.
    index: usize,
    top: Vec<Expected<'a>>,
}

#[derive(Serialize)]
struct Expected<'a> {
    id: u32,
    token: &'a str,
    text: &'a str,
    prob: f32,
}

impl<'a> From<&'a Prediction> for Expected<'a> {
    fn from(Prediction { id, token, text, prob }: &'a Prediction) -> Self {
        Self { id: *id, token, text, prob: *prob }
    }
}

pub(crate) fn fill(arguments: &FillArguments) -> Result<(), Failure> {
    let mut text = read_text(&arguments.source)?;
    let model = model::load(arguments.shared.model.as_deref())?;
    if let Some(mask) = model.mask_token() {
        text = text.replace(MASK, mask);
    }
    let tokens = model.tokenize(&text)?;
    let places = match model.info().predicts {
        Predicts::NextToken => vec![(tokens.tokens.len(), model.next_token(&tokens, arguments.top)?)],
        _ => {
            let filled = model.fill(&tokens, arguments.top)?;
            filled.into_iter().map(|filled| (filled.index, filled.predictions)).collect()
        }
    };
    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        let places = places
            .iter()
            .map(|(index, top)| Place { index: *index, top: top.iter().map(Expected::from).collect() });
        write_line(
            &mut output,
            &Document {
                schema: SCHEMA,
                regard_version: env!("CARGO_PKG_VERSION"),
                model: model.info().into(),
                text: &tokens.text,
                unknown_words: unknown_words(model.info(), &tokens),
                places: places.collect(),
            },
        )?;
    } else {
        output.write_all(render(model.info(), &tokens, &places).as_bytes())?;
    }
    Ok(output.flush()?)
}

/// The text up to each place, and a line for each word expected there.
fn render(model: &ModelInfo, tokens: &TokenizedText, places: &[(usize, Vec<Prediction>)]) -> String {
    let mut page = String::new();
    for (index, predictions) in places {
        let before = match tokens.tokens.get(*index) {
            Some(mask) => tokens.text.get(..mask.start).unwrap_or_default(),
            None => &tokens.text,
        };
        page += &format!("\n  {} …\n\n", tail(&visible(before.trim_end())));
        let words: Vec<String> = predictions.iter().map(spelling).collect();
        let widest = words.iter().map(|word| width(word)).max().unwrap_or(0);
        for (word, prediction) in words.iter().zip(predictions) {
            let bar = "─".repeat((prediction.prob * BAR_CELLS as f32).round() as usize);
            page += &format!("  {}  {} {bar}", right(&percent(prediction.prob), 5), left(word, widest));
            page.truncate(page.trim_end().len());
            page.push('\n');
        }
    }
    if let Some(words) = unknown_words(model, tokens) {
        page.push('\n');
        let said = match unknown::sentence(&words) {
            Some(unknown) => format!("{}, which {unknown}", model.name),
            None => model.name.clone(),
        };
        wrap(&said, COLUMNS).iter().for_each(|line| page += &format!("  {line}\n"));
    }
    page
}

/// A prediction's text, blanks at its ends left out; what is nothing else has its piece's spelling.
fn spelling(prediction: &Prediction) -> String {
    let text = prediction.text.trim();
    visible(if text.is_empty() { &prediction.token } else { text })
}

/// The end of a long text: what comes right before the place.
fn tail(text: &str) -> String {
    const MOST: usize = 60;
    let count = text.chars().count();
    if count <= MOST {
        return text.to_owned();
    }
    format!("… {}", text.chars().skip(count - MOST).collect::<String>().trim_start())
}
