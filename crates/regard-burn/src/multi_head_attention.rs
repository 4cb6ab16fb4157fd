use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use regard::position::{RotaryPairs, RotaryPositions};
use regard::{AttentionConfig, AttentionError};

use crate::attention::{attention, rotate};
use crate::error::Error;

/// What a [`MultiHeadAttention`] is made of.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use regard::{AttentionConfig, Mask, QueryPosition};
/// use regard_burn::MultiHeadAttentionConfig;
///
/// let device = Device::flex();
/// let layer = MultiHeadAttentionConfig::new(32, 4).with_num_kv_heads(Some(2)).init(&device)?;
/// let input = Tensor::<3>::random([2, 7, 32], Distribution::Default, &device);
/// let causal = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
/// assert_eq!(layer.forward(input, &causal)?.dims(), [2, 7, 32]);
/// # Ok::<(), regard_burn::Error>(())
/// ```
#[derive(Config, Debug)]
pub struct MultiHeadAttentionConfig {
    /// Elements of an input and of an output row.
    pub model_dim: usize,
    /// Query heads; divides `model_dim`, which gives `head_dim`.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`. `None` is one for each query head.
    #[config(default = "None")]
    pub num_kv_heads: Option<usize>,
    /// Elements of the rows that keys and values are projected from. `None` is `model_dim`.
    #[config(default = "None")]
    pub kv_model_dim: Option<usize>,
    /// Whether query, key and value have a bias.
    #[config(default = true)]
    pub input_bias: bool,
    /// Whether the output has a bias.
    #[config(default = true)]
    pub output_bias: bool,
    /// The share of probabilities dropped in training, in [0, 1).
    #[config(default = 0.0)]
    pub dropout: f64,
    /// The base of rotary positions, as 10,000; `None` is no positions.
    #[config(default = "None")]
    pub rotary_base: Option<f32>,
    /// How weights and biases start; as in burn's `Linear`, uniform up to 1/√(input elements).
    #[config(default = "Initializer::KaimingUniform{gain:1.0/f64::sqrt(3.0), fan_out_only:false}")]
    pub initializer: Initializer,
}

/// Multi-head attention with its projections (Vaswani et al. 2017, §3.2.2), trained by burn and computed by
/// [`attention`](crate::attention()).
///
/// Its records name the parameters `query.weight`, `query.bias`, then those of `key`, `value` and `output`, as
/// [`regard::layer::MultiHeadAttention`] does; burn keeps a weight as `[in, out]`, the transpose of regard's and
/// PyTorch's.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    /// `model_dim` to `num_heads · head_dim`.
    pub query: Linear,
    /// `kv_model_dim` to `num_kv_heads · head_dim`.
    pub key: Linear,
    /// `kv_model_dim` to `num_kv_heads · head_dim`.
    pub value: Linear,
    /// `num_heads · head_dim` to `model_dim`.
    pub output: Linear,
    /// The share of probabilities dropped in training; a frozen module drops none.
    pub dropout: Dropout,
    num_heads: usize,
    num_kv_heads: usize,
    #[module(skip)]
    rotary: Option<RotaryPositions>,
}

impl MultiHeadAttentionConfig {
    /// A new layer with random weights.
    ///
    /// # Errors
    /// [`AttentionError`] if sizes do not divide, rates or bases are out of range.
    pub fn init(&self, device: &Device) -> Result<MultiHeadAttention, Error> {
        let (size, divisor) = (self.model_dim, self.num_heads);
        if size.checked_rem(divisor) != Some(0) {
            let what = "model_dim by num_heads";
            return Err(AttentionError::NotDivisible { what, size, divisor }.into());
        }
        let (num_heads, head_dim) = (self.num_heads, size / divisor);
        if head_dim == 0 {
            return Err(AttentionError::ZeroHeadDim.into());
        }
        let num_kv_heads = self.num_kv_heads.unwrap_or(num_heads);
        if num_heads.checked_rem(num_kv_heads) != Some(0) {
            return Err(AttentionError::HeadGroups { num_heads, num_kv_heads }.into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let (what, found) = ("dropout (at least 0, below 1)", self.dropout as f32);
            return Err(AttentionError::InvalidNumber { what, found }.into());
        }
        let rotary = self
            .rotary_base
            .map(|base| RotaryPositions::new(head_dim, head_dim, base, RotaryPairs::HalfSplit));
        let linear = |d_input, d_output, bias| {
            let config = LinearConfig::new(d_input, d_output).with_bias(bias);
            config.with_initializer(self.initializer.clone()).init(device)
        };
        let kv_model_dim = self.kv_model_dim.unwrap_or(self.model_dim);
        let kv_len = num_kv_heads * head_dim;
        Ok(MultiHeadAttention {
            query: linear(self.model_dim, num_heads * head_dim, self.input_bias),
            key: linear(kv_model_dim, kv_len, self.input_bias),
            value: linear(kv_model_dim, kv_len, self.input_bias),
            output: linear(num_heads * head_dim, self.model_dim, self.output_bias),
            dropout: DropoutConfig::new(self.dropout).init(),
            num_heads,
            num_kv_heads,
            rotary: rotary.transpose()?,
        })
    }
}

impl MultiHeadAttention {
    /// The same layer with other rotary positions: another pairing or scaling than the configuration's base gives.
    /// They are no parameters, and no part of a record.
    pub fn with_rotary(self, rotary: Option<RotaryPositions>) -> Self {
        Self { rotary, ..self }
    }

    /// Query heads.
    pub fn num_heads(&self) -> usize {
        self.num_heads
    }

    /// Key and value heads.
    pub fn num_kv_heads(&self) -> usize {
        self.num_kv_heads
    }

    /// Self-attention: input and output `[batch_size, seq_len, model_dim]`.
    ///
    /// In training, that is on a device with autodiff and unless the module is frozen, `config.dropout` drops
    /// probabilities, or else the module's rate with a seed from the device's generator
    /// ([`Device::seed`](burn::tensor::Device::seed)); otherwise nothing is dropped, whatever `config` says.
    ///
    /// # Errors
    /// [`Error`] of any step.
    pub fn forward(&self, input: Tensor<3>, config: &AttentionConfig<'_>) -> Result<Tensor<3>, Error> {
        self.forward_with(input, None, None, config)
    }

    /// Cross-attention: queries from input `[batch_size, seq_len_q, model_dim]`, keys and values from memory
    /// `[batch_size, seq_len_kv, kv_model_dim]`. See [`Self::forward`].
    ///
    /// # Errors
    /// [`Error`] of any step; [`AttentionError::ConflictingOption`] if the layer has rotary positions, which would
    /// compare places of two different sequences.
    pub fn forward_cross(
        &self,
        input: Tensor<3>,
        memory: Tensor<3>,
        config: &AttentionConfig<'_>,
    ) -> Result<Tensor<3>, Error> {
        self.forward_with(input, Some(memory), None, config)
    }

    /// Attention from the input to a memory, or to itself, with an additive bias as in
    /// [`attention`](crate::attention()). See [`Self::forward`].
    ///
    /// # Errors
    /// As for [`Self::forward_cross`].
    pub fn forward_with(
        &self,
        input: Tensor<3>,
        memory: Option<Tensor<3>>,
        bias: Option<Tensor<4>>,
        config: &AttentionConfig<'_>,
    ) -> Result<Tensor<3>, Error> {
        if memory.is_some() && self.rotary.is_some() {
            let (what, with) = ("memory", "rotary positions");
            return Err(AttentionError::ConflictingOption { what, with }.into());
        }
        let memory = memory.unwrap_or_else(|| input.clone());
        let mut config = *config;
        config.dropout = match self.drops(&input) {
            false => None,
            true => config.dropout.or_else(|| self.drawn_dropout(&input)),
        };
        let [query, key, value] = self.project(input, memory)?;
        let attended = attention(query, key, value, bias, &config)?;
        let [batch_size, heads, seq_len, dim] = attended.dims();
        Ok(self.output.forward(attended.swap_dims(1, 2).reshape([batch_size, seq_len, heads * dim])))
    }

    /// Queries, keys and values of self-attention as they are scored, rotary positions included:
    /// `[batch_size, num_heads, seq_len, head_dim]`, keys and values with `num_kv_heads`. To see what the heads do with
    /// an input, beside [`Self::forward`].
    ///
    /// # Errors
    /// [`Error`] of any step.
    pub fn heads(&self, input: Tensor<3>) -> Result<[Tensor<4>; 3], Error> {
        self.project(input.clone(), input)
    }

    fn project(&self, input: Tensor<3>, memory: Tensor<3>) -> Result<[Tensor<4>; 3], Error> {
        let query = project(&self.query, input, self.num_heads, "input.model_dim")?;
        let key = project(&self.key, memory.clone(), self.num_kv_heads, "memory.kv_model_dim")?;
        let value = project(&self.value, memory, self.num_kv_heads, "memory.kv_model_dim")?;
        match &self.rotary {
            Some(rotary) => Ok([rotate(query, rotary, 0)?, rotate(key, rotary, 0)?, value]),
            None => Ok([query, key, value]),
        }
    }

    /// Whether this is training.
    fn drops(&self, input: &Tensor<3>) -> bool {
        self.dropout.training.is_enabled() && input.device().is_autodiff()
    }

    /// The module's own dropout, another one at each call.
    fn drawn_dropout(&self, input: &Tensor<3>) -> Option<regard::Dropout> {
        if self.dropout.prob == 0.0 {
            return None;
        }
        // Three whole numbers below 2²⁴, which f32 holds exactly.
        let words = Tensor::<1>::random([3], Distribution::Uniform(0.0, 16_777_216.0), &input.device());
        let seed = words.into_data().iter::<f32>().fold(0u64, |seed, word| seed << 24 ^ word as u64);
        Some(regard::Dropout::new(self.dropout.prob as f32, seed))
    }
}

/// `[batch, seq, features]` to `[batch, heads, seq, dim]`, a view of what the projection wrote.
fn project(linear: &Linear, input: Tensor<3>, heads: usize, axis: &'static str) -> Result<Tensor<4>, Error> {
    let [batch_size, seq_len, found] = input.dims();
    let [expected, features] = linear.weight.dims();
    if found != expected {
        return Err(AttentionError::ShapeMismatch { axis, expected, found }.into());
    }
    if !features.is_multiple_of(heads) {
        let what = "features of a projection by its heads";
        return Err(AttentionError::NotDivisible { what, size: features, divisor: heads }.into());
    }
    Ok(linear.forward(input).reshape([batch_size, seq_len, heads, features / heads]).swap_dims(1, 2))
}
