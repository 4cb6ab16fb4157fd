//! A text through a model, and its controls.

use super::control::shuffled;
use super::options::{ProfileOptions, TopKeysOf};
use super::profiler::Profiler;
use super::result::{Control, Profile, Profiled};
use super::role::Role;
use crate::error::LensError;
use crate::model::Model;
use crate::token::TokenizedText;

/// Sums up what every head of a model does with a text, and gives each head its roles. `on_layer` hears of each layer, first
/// of the text, then of the shuffled control, and how many there are in all.
///
/// Time O(tokens²) as for running the model; memory O(tokens) for each head.
///
/// # Errors
/// As for [`Profiler::new`] and [`Model::run`].
///
/// ```no_run
/// use regard_lens::{Model, profile::{ProfileOptions, profile}};
/// let model = Model::load("models/all-MiniLM-L6-v2".as_ref())?;
/// let text = model.tokenize("The cat sat on the mat because it was tired")?;
/// let found = profile(&model, &text, ProfileOptions::default(), &mut |_, _| ())?;
/// for head in &found.profiled.heads {
///     println!("{} {:?} {:.2} nats", head.id, head.roles, head.scores.entropy);
/// }
/// # Ok::<(), regard_lens::LensError>(())
/// ```
pub fn profile(
    model: &Model,
    text: &TokenizedText,
    options: ProfileOptions,
    on_layer: &mut dyn FnMut(usize, usize),
) -> Result<Profile, LensError> {
    let info = model.info();
    let layers = info.layers;
    let shuffled = match options.control_tokens {
        0 => None,
        limit => shuffled(text, info.causal, options.unit, (limit, options.control_seed))?,
    };
    let in_all = if shuffled.is_some() { 2 * layers } else { layers };
    let unit = options.unit;
    let control = shuffled
        .as_ref()
        .map(|shuffled| Control { tokens: shuffled.tokens.len(), seed: options.control_seed });
    let control_options = ProfileOptions {
        rows: None,
        top_k: 0,
        top_keys_of: TopKeysOf::None,
        received: false,
        thumbnail: None,
        region: None,
        verify_rows: 0,
        ..options.clone()
    };
    let mut hear = |layer: usize| on_layer(layer, in_all);
    let mut profiler = Profiler::new(text, info, options, &mut hear)?;
    let units = profiler.units().to_vec();
    model.run(text, &mut profiler)?;
    let mut profiled = profiler.finish();
    if let Some(shuffled) = &shuffled {
        let mut hear = |layer: usize| on_layer(layers + layer, in_all);
        let mut profiler = Profiler::new(shuffled, info, control_options, &mut hear)?;
        model.run(shuffled, &mut profiler)?;
        for (head, shuffled) in profiled.heads.iter_mut().zip(profiler.finish().heads) {
            head.shuffled = Some(shuffled.scores);
        }
    }
    give_roles(&mut profiled);
    Ok(Profile { unit, units, profiled, control })
}

fn give_roles(profiled: &mut Profiled) {
    let Profiled { heads, uniform, counted, .. } = profiled;
    for head in heads {
        head.roles = Role::of(&head.scores, uniform, counted);
    }
}
