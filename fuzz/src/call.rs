//! An attention call from arbitrary bytes: sizes, strides, masks, options and numbers, sensible or not.

use arbitrary::{Result, Unstructured};
use regard::{
    AttentionConfig, Dropout, Isa, Layout, Mask, Parallelism, QueryPosition, RelativeBias, TensorView, Window,
};

/// A tensor in a larger buffer, its strides as given.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub data: Vec<f32>,
    pub shape: [usize; 4],
    pub strides: [usize; 4],
}

impl Tensor {
    pub fn view(&self) -> Option<TensorView<'_, f32>> {
        TensorView::with_strides(&self.data, self.shape, self.strides).ok()
    }
}

/// Everything that a call borrows.
#[derive(Debug)]
pub struct Call {
    pub query: Tensor,
    pub key: Tensor,
    pub value: Tensor,
    pub d_output: Vec<f32>,
    pub d_log_sum_exp: Option<Vec<f32>>,
    pub bias: Option<Tensor>,
    keep: Option<(Vec<bool>, [usize; 4])>,
    slopes: Option<Vec<f32>>,
    relative: Option<(Vec<f32>, usize, usize)>,
    softcap: Option<f32>,
    sinks: Option<Vec<f32>>,
    dropout: Option<Dropout>,
    scale: Option<f32>,
    causal: bool,
    window: Option<Window>,
    position: u8,
    offsets: Vec<i64>,
    key_lengths: Option<Vec<usize>>,
    isa: usize,
    threads: bool,
}

fn number(u: &mut Unstructured<'_>) -> Result<f32> {
    Ok(match u.int_in_range(0..=40u8)? {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => -0.0,
        4 => f32::from_bits(u.arbitrary()?),
        n => f32::from(n) * 0.1 - 2.0,
    })
}

fn numbers(u: &mut Unstructured<'_>, len: usize) -> Result<Vec<f32>> {
    // A few arbitrary numbers among regular ones, so that short inputs make whole calls.
    let mut all: Vec<f32> = (0..len).map(|i| ((i * 37 % 29) as f32 - 14.0) / 7.0).collect();
    if len > 0 {
        for _ in 0..u.int_in_range(0..=6u8)? {
            let at = u.choose_index(len)?;
            all[at] = number(u)?;
        }
    }
    Ok(all)
}

fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(*u.choose(&[0, 1, 1, 2, 3, 7, 8, 9, 16, 17, 33, 100, 130])?)
}

fn extreme(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(*u.choose(&[0, 1, 3, 50, usize::MAX / 2, usize::MAX])?)
}

fn tensor(u: &mut Unstructured<'_>, shape: [usize; 4]) -> Result<Tensor> {
    let [b, h, s, d] = shape;
    let strides = match u.int_in_range(0..=9u8)? {
        0 => [0, s * d, d, 1],
        1 => [h * s * d, 0, d, 1],
        2 => [s * h * d, d, h * d, 1],
        3 => [h * s * d * 2, s * d * 2, d * 2, 2],
        4 => [0; 4],
        5 => [extreme(u)?, extreme(u)?, extreme(u)?, extreme(u)?],
        _ => [h * s * d, s * d, d, 1],
    };
    let len = if strides[3] == 2 { 2 * b * h * s * d } else { b * h * s * d };
    Ok(Tensor { data: numbers(u, len)?, shape, strides })
}

fn maybe<'a, T>(
    u: &mut Unstructured<'a>,
    make: impl FnOnce(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(if u.ratio(1, 3)? { Some(make(u)?) } else { None })
}

impl Call {
    pub fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let (batch, kv_heads, group) = (u.int_in_range(0..=3)?, u.int_in_range(0..=2)?, u.int_in_range(0..=3)?);
        let (s_q, s_kv) = (size(u)?, size(u)?);
        let (d, d_v) = (size(u)?.min(40), size(u)?.min(40));
        // Now and then a size that does not fit the others.
        let wrong = |u: &mut Unstructured<'_>, n: usize| -> Result<usize> { Ok(if u.ratio(1, 60)? { n + 1 } else { n }) };
        let heads = wrong(u, kv_heads * group)?;
        let query = [batch, heads, s_q, d];
        let key = [wrong(u, batch)?, kv_heads, s_kv, wrong(u, d)?];
        let value = [batch, kv_heads, wrong(u, s_kv)?, d_v];
        let rows = batch * heads * s_q;
        let mut bias_shape = [batch, heads, s_q, s_kv];
        for size in &mut bias_shape {
            if u.arbitrary()? {
                *size = 1;
            }
        }
        let length = |u: &mut Unstructured<'_>| u.int_in_range(0..=s_kv + 1);
        Ok(Self {
            query: tensor(u, query)?,
            key: tensor(u, key)?,
            value: tensor(u, value)?,
            d_output: numbers(u, rows * d_v)?,
            d_log_sum_exp: maybe(u, |u| numbers(u, rows))?,
            bias: maybe(u, |u| tensor(u, bias_shape))?,
            keep: maybe(u, |u| {
                let every = u.int_in_range(1..=5usize)?;
                Ok(((0..bias_shape.iter().product()).map(|i: usize| i % every > 0).collect(), bias_shape))
            })?,
            slopes: maybe(u, |u| numbers(u, heads))?,
            relative: maybe(u, |u| {
                let (left, right) = (u.int_in_range(0..=5)?, u.int_in_range(0..=5)?);
                let table = numbers(u, heads * (left + 1 + right))?;
                Ok(if u.ratio(1, 10)? { (table, extreme(u)?, right) } else { (table, left, right) })
            })?,
            softcap: maybe(u, |u| Ok(if u.ratio(1, 5)? { number(u)? } else { 3.0 }))?,
            sinks: maybe(u, |u| numbers(u, heads))?,
            dropout: maybe(u, |u| Ok(Dropout::new(*u.choose(&[0.0, 0.3, 0.9, 1.0, f32::NAN])?, u.arbitrary()?)))?,
            scale: maybe(u, number)?,
            causal: u.arbitrary()?,
            window: maybe(u, |u| Ok(Window { left: extreme(u)?, right: extreme(u)? }))?,
            position: u.int_in_range(0..=3)?,
            offsets: (0..batch)
                .map(|_| Ok(if u.arbitrary()? { *u.choose(&[i64::MIN, i64::MAX, -3, 40])? } else { 0 }))
                .collect::<Result<_>>()?,
            key_lengths: maybe(u, |u| (0..batch).map(|_| length(u)).collect())?,
            isa: u.choose_index(4)?,
            threads: u.arbitrary()?,
        })
    }

    /// Runs `work` with the configuration that the call asks for.
    pub fn with_config<R>(&self, work: impl FnOnce(&AttentionConfig<'_>) -> R) -> R {
        let position = match self.position {
            0 => QueryPosition::TopLeft,
            1 => QueryPosition::BottomRight,
            2 => QueryPosition::Offset(self.offsets.first().copied().unwrap_or(0)),
            _ => QueryPosition::OffsetPerSequence(&self.offsets),
        };
        let mut mask = Mask { causal: self.causal, position, ..Mask::default() };
        mask.window = self.window;
        mask.key_lengths = self.key_lengths.as_deref();
        mask.keep = self
            .keep
            .as_ref()
            .and_then(|(keep, shape)| TensorView::new(keep, *shape, Layout::BatchHeadSeqDim).ok());
        let mut config = AttentionConfig::new().with_mask(mask);
        config.attention_bias = self.bias.as_ref().and_then(Tensor::view);
        config.alibi_slopes = self.slopes.as_deref();
        config.relative_bias = self.relative.as_ref().map(|(table, l, r)| RelativeBias::new(table, *l, *r));
        config.softcap = self.softcap;
        config.sinks = self.sinks.as_deref();
        config.dropout = self.dropout;
        config.softmax_scale = self.scale;
        config.parallelism = if self.threads { Parallelism::Pool } else { Parallelism::Sequential };
        let isas = Isa::available();
        config.isa = Some(isas[self.isa % isas.len()]);
        work(&config)
    }
}

/// A number that no call writes: an output that still holds it was not touched.
pub const UNTOUCHED: f32 = f32::from_bits(0x7fa5_a5a5);

/// Whether every element still is.
pub fn is_untouched(numbers: &[f32]) -> bool {
    numbers.iter().all(|x| x.to_bits() == UNTOUCHED.to_bits())
}
