//! A trained model as the directory that other tools load: `config.json`, `tokenizer.json`, `model.safetensors`.

use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::error::TrainError;
use crate::model::{Architecture, Bert, EPSILON, Family, Llama, Model, ROTARY_BASE, SelfAttention};
use crate::vocabulary::Vocabulary;

/// How parameters are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As they were trained.
    F32,
    /// Rounded, half the size.
    F16,
}

/// Little-endian numbers of the storage type.
type ToBytes = fn(&[f32]) -> Vec<u8>;

/// A parameter by the name that other tools know it by.
struct Named {
    name: String,
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

/// Writes the three files into a directory that exists; each appears whole or not at all.
///
/// # Errors
/// [`TrainError::File`] or [`TrainError::Tokenizer`].
pub fn write(
    dir: &Path,
    architecture: &Architecture,
    model: &Model,
    vocabulary: &Vocabulary,
    storage: Storage,
) -> Result<(), TrainError> {
    let partial = dir.join("tokenizer.json.partial");
    vocabulary.save(&partial)?;
    let path = dir.join("tokenizer.json");
    fs::rename(&partial, &path).map_err(TrainError::file(&path))?;
    let special = vocabulary.special();
    let mut config = config(architecture, storage);
    config["pad_token_id"] = json!(special.pad);
    config["bos_token_id"] = json!(special.first);
    config["eos_token_id"] = json!(special.last);
    let text = serde_json::to_string_pretty(&config).expect("a JSON value is JSON");
    put(&dir.join("config.json"), text.as_bytes())?;
    put(&dir.join("model.safetensors"), &weights(model, storage)?)
}

/// Writes a file under another name, flushes it and gives it its own.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let partial = path.with_extension("partial");
    let written = fs::File::create(&partial).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&partial, path));
    moved.inspect_err(|_| drop(fs::remove_file(&partial))).map_err(TrainError::file(path))
}

fn config(architecture: &Architecture, storage: Storage) -> Value {
    let Architecture { family, layers, heads, kv_heads, dim, inner_dim, vocabulary, positions } =
        *architecture;
    let dtype = match storage {
        Storage::F32 => "float32",
        Storage::F16 => "float16",
    };
    match family {
        Family::Bert => json!({
            "architectures": ["BertForMaskedLM"],
            "model_type": "bert",
            "hidden_size": dim,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": inner_dim,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": positions,
            "type_vocab_size": 1,
            "layer_norm_eps": EPSILON,
            "position_embedding_type": "absolute",
            "vocab_size": vocabulary,
            "tie_word_embeddings": true,
            "torch_dtype": dtype,
        }),
        Family::Llama => json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": dim,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": architecture.head_dim(),
            "intermediate_size": inner_dim,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "max_position_embeddings": positions,
            "rms_norm_eps": EPSILON,
            "rope_theta": ROTARY_BASE,
            "vocab_size": vocabulary,
            "tie_word_embeddings": true,
            "torch_dtype": dtype,
        }),
    }
}

fn weights(model: &Model, storage: Storage) -> Result<Vec<u8>, TrainError> {
    let named = match model {
        Model::Bert(model) => bert(model),
        Model::Llama(model) => llama(model),
    };
    let (dtype, bytes): (Dtype, ToBytes) = match storage {
        Storage::F32 => (Dtype::F32, |numbers| numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Storage::F16 => {
            (Dtype::F16, |numbers| numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect())
        }
    };
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> =
        named.into_iter().map(|Named { name, shape, numbers }| (name, shape, bytes(&numbers))).collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    // Hugging Face tools refuse files that do not say which framework's order of axes they follow.
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize(views, metadata).map_err(|error| TrainError::Attention(error.to_string()))
}

fn named<const D: usize>(name: String, tensor: Tensor<D>) -> Named {
    let shape = tensor.dims().to_vec();
    let numbers = tensor.into_data().try_into_vec::<f32>().expect("parameters are f32");
    Named { name, shape, numbers }
}

fn param<const D: usize>(name: &str, param: &Param<Tensor<D>>) -> Named {
    named(name.to_owned(), param.val())
}

/// burn keeps `[input, output]`, everyone else `[output, input]`.
fn linear(prefix: &str, linear: &Linear, to: &mut Vec<Named>) {
    to.push(named(format!("{prefix}.weight"), linear.weight.val().transpose()));
    to.extend(linear.bias.as_ref().map(|bias| named(format!("{prefix}.bias"), bias.val())));
}

fn norm(prefix: &str, norm: &LayerNorm, to: &mut Vec<Named>) {
    to.push(named(format!("{prefix}.weight"), norm.gamma.val()));
    to.extend(norm.beta.as_ref().map(|beta| named(format!("{prefix}.bias"), beta.val())));
}

fn attention(prefixes: [String; 4], attention: &SelfAttention, to: &mut Vec<Named>) {
    let maps = [&attention.query, &attention.key, &attention.value, &attention.output];
    for (prefix, map) in prefixes.iter().zip(maps) {
        linear(prefix, map, to);
    }
}

fn bert(model: &Bert) -> Vec<Named> {
    let mut to = vec![
        param("bert.embeddings.word_embeddings.weight", &model.words.weight),
        param("bert.embeddings.position_embeddings.weight", &model.positions.weight),
    ];
    // One type of token, whose embedding adds nothing.
    let dim = model.words.weight.dims()[1];
    let name = "bert.embeddings.token_type_embeddings.weight".to_owned();
    to.push(Named { name, shape: vec![1, dim], numbers: vec![0.0; dim] });
    norm("bert.embeddings.LayerNorm", &model.norm, &mut to);
    for (number, layer) in model.layers.iter().enumerate() {
        let name = |part: &str| format!("bert.encoder.layer.{number}.{part}");
        let parts =
            ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
        attention(parts.map(name), &layer.attention, &mut to);
        norm(&name("attention.output.LayerNorm"), &layer.attention_norm, &mut to);
        linear(&name("intermediate.dense"), &layer.inner, &mut to);
        linear(&name("output.dense"), &layer.outer, &mut to);
        norm(&name("output.LayerNorm"), &layer.norm, &mut to);
    }
    linear("cls.predictions.transform.dense", &model.head, &mut to);
    norm("cls.predictions.transform.LayerNorm", &model.head_norm, &mut to);
    to.push(param("cls.predictions.bias", &model.head_bias));
    to
}

fn llama(model: &Llama) -> Vec<Named> {
    let mut to = vec![param("model.embed_tokens.weight", &model.words.weight)];
    for (number, layer) in model.layers.iter().enumerate() {
        let name = |part: &str| format!("model.layers.{number}.{part}");
        let parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
        attention(parts.map(name), &layer.attention, &mut to);
        to.push(param(&name("input_layernorm.weight"), &layer.attention_norm.gamma));
        to.push(param(&name("post_attention_layernorm.weight"), &layer.norm.gamma));
        linear(&name("mlp.gate_proj"), &layer.gate, &mut to);
        linear(&name("mlp.up_proj"), &layer.up, &mut to);
        linear(&name("mlp.down_proj"), &layer.down, &mut to);
    }
    to.push(param("model.norm.weight", &model.norm.gamma));
    to
}
