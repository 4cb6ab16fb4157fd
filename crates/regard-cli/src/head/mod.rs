//! `regard head`: one head over a whole text.

mod card;
mod tile;

use std::io::{BufWriter, Write, stdout};
use std::time::Instant;

use regard_lens::profile::{
    Control, Counted, HeadProfile, Profile, ProfileOptions, Region, Scores, Selection, TopKeysOf, Unit,
};
use serde::Serialize;

use crate::arguments::HeadArguments;
use crate::failure::Failure;
use crate::json::{Header, write_line};
use crate::palette::Scale;
use crate::profile_run::{Ending, Loaded, RunFields};
use crate::terminal::{Page, WIDEST, lay_out};
use crate::view::check_head;
use tile::{Picture, draw};

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-head/1";
/// Blocks of the picture, at most, each way.
const THUMBNAIL: usize = 64;
/// Rows that are listed with their keys, unless --rows names fewer.
const LISTED_ROWS: usize = 16;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    unit: Unit,
    no_sink: bool,
    norm: bool,
    rows: &'a Counted,
    head: &'a HeadProfile,
    uniform: &'a Scores,
    control: Option<&'a Control>,
    region: Option<&'a Region>,
    #[serde(flatten)]
    run: RunFields,
}

pub(crate) fn head(arguments: &HeadArguments, started: Instant) -> Result<(), Failure> {
    let flags = &arguments.profile;
    let loaded = Loaded::new(arguments.shared.model.as_deref(), &flags.source)?;
    let info = loaded.model.info();
    let (id, tokens) = (arguments.head, loaded.text.tokens.len());
    check_head(Some(id), info)?;
    let page = Page::of_stdout(arguments.shared.color, WIDEST);
    let region = arguments.region.map(|(rows, keys)| (id, rows.range(tokens), keys.range(tokens)));
    let options = loaded.options(flags, arguments.control_tokens);
    let size = tile::most_cells(page);
    let options = ProfileOptions {
        layers: Selection::one(id.layer),
        heads: Selection::one(id.head),
        top_k: arguments.top,
        top_keys_of: TopKeysOf::All,
        received: arguments.shared.json,
        thumbnail: Some(size.map(|cells| cells.clamp(1, THUMBNAIL))),
        region,
        ..options
    };
    let (no_sink, norm) = (options.no_sink, options.norm);
    let profile = loaded.profile(options, started)?;
    let ending = Ending::new(profile.profiled.verification, &loaded, started);
    let Some(head) = profile.profiled.heads.first() else {
        return Err(Failure::failed(format!("the model ran without {id}")));
    };

    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        let document = Document {
            header: Header::with_schema(SCHEMA, info, &loaded.text),
            unit: profile.unit,
            no_sink,
            norm,
            rows: &profile.profiled.counted,
            head,
            uniform: &profile.profiled.uniform,
            control: profile.control.as_ref(),
            region: profile.profiled.region.as_ref(),
            run: ending.fields(),
        };
        write_line(&mut output, &document)?;
    } else {
        output.write_all(
            render(&loaded, &profile, head, (Scale::logarithmic_if(arguments.log), ending), page).as_bytes(),
        )?;
    }
    Ok(output.flush()?)
}

fn render(
    loaded: &Loaded,
    profile: &Profile,
    head: &HeadProfile,
    (scale, ending): (Scale, Ending),
    page: Page,
) -> String {
    let Page { columns, palette, .. } = page;
    let mut blocks = vec![card::card(loaded, profile, head, page), card::distances(head, columns, palette)];
    if let Some(region) = &profile.profiled.region {
        blocks.push(tile::numbers(loaded, region, page));
        if !tile::fits_numbers(region, page) {
            blocks.push(draw(&Picture::of_region(region), scale, page));
        }
    } else {
        blocks.push(card::top_keys(loaded, profile, head, page));
        if let Some(thumbnail) = &head.thumbnail {
            blocks.push(draw(&Picture::of_thumbnail(thumbnail), scale, page));
        }
    }
    blocks.push(ending.lines(loaded, columns, palette));
    blocks.retain(|block| !block.is_empty());
    lay_out(&blocks)
}
