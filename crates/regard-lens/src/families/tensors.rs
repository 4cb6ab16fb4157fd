//! Parts of a model from the tensors of its file.

use regard::layer::Linear;

use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::Norm;

/// `{name}.weight` `[out_features, in_features]` and, with `bias`, `{name}.bias` `[out_features]`.
pub(super) fn linear(
    source: &mut dyn TensorSource,
    name: &str,
    [in_features, out_features]: [usize; 2],
    bias: bool,
) -> Result<Linear, LensError> {
    let weight = source.read(&format!("{name}.weight"), &[out_features, in_features])?;
    let bias = bias.then(|| source.read(&format!("{name}.bias"), &[out_features])).transpose()?;
    Ok(Linear::new(weight, bias, in_features, out_features)?)
}

/// `{name}.weight` and `{name}.bias`, both `[model_dim]`; old checkpoints call them gamma and beta.
pub(super) fn layer_norm(
    source: &mut dyn TensorSource,
    name: &str,
    model_dim: usize,
    eps: f64,
) -> Result<Norm, LensError> {
    let old = source.has(&format!("{name}.gamma"));
    let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
    Ok(Norm::Layer {
        weight: source.read(&format!("{name}.{weight}"), &[model_dim])?,
        bias: source.read(&format!("{name}.{bias}"), &[model_dim])?,
        eps,
    })
}

/// `{name}.weight` `[model_dim]`.
pub(super) fn root_mean_square_norm(
    source: &mut dyn TensorSource,
    name: &str,
    model_dim: usize,
    eps: f64,
) -> Result<Norm, LensError> {
    Ok(Norm::RootMeanSquare { weight: source.read(&format!("{name}.weight"), &[model_dim])?, eps })
}

/// The first tensor of these that there is.
pub(super) fn first_of(source: &dyn TensorSource, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| source.has(name))
}

/// What stands before the tensors' names: models with a task's head on top have `prefix`, bare ones nothing. `probe` is a
/// tensor that every model has.
pub(super) fn prefix(source: &dyn TensorSource, prefix: &'static str, probe: &str) -> &'static str {
    if source.has(&format!("{prefix}{probe}")) && !source.has(probe) { prefix } else { "" }
}

/// Refuses weights with more layers than the configuration says: running only the first ones would be silent
/// nonsense. Layers are numbered after `start`; errors name `field`, and the configuration's field for their number.
pub(super) fn check_layer_count(
    source: &dyn TensorSource,
    start: &str,
    field: &'static str,
    (count_field, num_layers): (&str, usize),
) -> Result<(), LensError> {
    let layer_of = |name: &str| name.strip_prefix(start)?.split('.').next()?.parse::<usize>().ok();
    match source.names().iter().filter_map(|name| layer_of(name)).max() {
        Some(last) if last >= num_layers => Err(LensError::Config {
            path: source.path().to_owned(),
            field,
            expected: format!("layers 0 to {} ({count_field})", num_layers - 1),
            found: format!("layer {last}"),
        }),
        _ => Ok(()),
    }
}
