//! Whisper: an encoder of 30 seconds of audio, and a decoder that attends to the encoder's rows.

use std::cell::RefCell;

use percept_graph::{DType, Graph, Role, Tensor, TensorType, Trace};
use percept_modalities::audio::LogMel;
use percept_modalities::text::Tokenizer;
use serde_json::{Map, Value, json};

use crate::audio::{AudioTower, whisper_block};
use crate::block::{Context, Stack};
use crate::cache::Cache;
use crate::config::Config;
use crate::decoder::{Decoder, Features};
use crate::error::{Error, Result};
use crate::family::media::processor_files;
use crate::family::{DecoderNames, Model};
use crate::parameters::Parameters;
use crate::pass::PassShape;
use crate::text::tokenizer;
use crate::weights::Weights;

/// A Whisper checkpoint.
pub struct Whisper {
    encoder: AudioTower,
    decoder: Decoder,
    weights: Weights,
    features: LogMel,
    tokenizer: Tokenizer,
    /// `generation_config.json` over `config.json`.
    generation: Config,
}

/// Opens a checkpoint of Whisper.
///
/// # Errors
/// When a file is missing or does not fit the others.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    Ok(Model::Speech(Box::new(Whisper::open(c, weights)?)))
}

impl Whisper {
    fn open(c: &Config, weights: Weights) -> Result<Self> {
        let prefix = weights.prefix(&["model.", ""], "encoder.conv1.weight");
        let encoder = AudioTower::read(c, &format!("{prefix}encoder."))?;
        let names = DecoderNames::find(&weights, &[&format!("{prefix}decoder.")], &["proj_out.weight"]);
        let decoder = decoder(c, &names)?;
        let files = processor_files(&weights)?;
        let defaults = Map::from_iter([("feature_size".to_string(), json!(encoder.bands))]);
        let features = LogMel::from_json(files.audio.file(), &files.audio.json(defaults))?;
        encoder.check(&features)?;
        let tokenizer = tokenizer(weights.checkpoint())?;
        let checkpoint = weights.checkpoint();
        let own = match checkpoint.file("generation_config.json")? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::Content { file: "generation_config.json".into(), why: e.to_string() })?,
            None => json!({}),
        };
        let generation = Config::new("generation_config.json", &own, checkpoint.config().clone())?;
        Ok(Self { encoder, decoder, weights, features, tokenizer, generation })
    }

    /// The encoder of log-mel features.
    pub fn encoder(&self) -> &AudioTower {
        &self.encoder
    }

    /// The decoder, which attends to the encoder's rows.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The parameters of encoder and decoder.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The feature extractor, which turns audio into log-mel features.
    pub fn features(&self) -> &LogMel {
        &self.features
    }

    /// The tokenizer of transcripts.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Settings of generation, such as the tokens that are never generated.
    pub fn generation(&self) -> &Config {
        &self.generation
    }

    /// The encoder. The input `input_features` is f32[1,bands,frames], one window of audio; the output
    /// `hidden` is f32[1,rows,d_model].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn encode(&self) -> Result<Graph> {
        let t = Trace::new("encode");
        let p = Parameters::new(&t, &self.weights);
        let features = t.data("input_features", DType::F32, [1, self.encoder.bands, self.encoder.frames()]);
        let hidden = self.encoder.trace(&p, &features, &Context::default());
        t.output("hidden", &self.encoder.normalize(&p, &hidden));
        Ok(t.finish()?)
    }

    /// The keys and values of cross-attention for one window. The input `hidden` is [`Whisper::encode`]'s
    /// output; the outputs are, for every layer of the decoder, `cross.{layer}.k` and `.v`
    /// f32[1,heads,rows,head_dim].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn cross_keys(&self) -> Result<Graph> {
        let t = Trace::new("cross_keys");
        let p = Parameters::new(&t, &self.weights);
        let hidden = t.data("hidden", DType::F32, [1, self.encoder.rows, self.decoder.hidden]);
        let stack = &self.decoder.stack;
        for (i, block) in stack.blocks.iter().enumerate() {
            if let Some([k, v]) = block.cross_keys(&p, &format!("{}.{i}", stack.prefix), &hidden) {
                t.output(format!("cross.{i}.k"), &k);
                t.output(format!("cross.{i}.v"), &v);
            }
        }
        Ok(t.finish()?)
    }

    /// A step of the decoder over a cache: [`Decoder::step`] with learnt positions and
    /// [`Whisper::cross_keys`]'s `cross.{layer}.k` and `.v` as inputs, one window for each sequence of the
    /// only group.
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn step(&self, shape: &PassShape) -> Result<Graph> {
        let d = &self.decoder;
        let t = Trace::new(format!("step.{}", shape.count()));
        let p = Parameters::new(&t, &self.weights);
        let inputs = shape.declare(d, &t);
        let windows = d.windows();
        let cache = shape.cache.as_ref().map(|cache| Cache::new(cache, &windows, &inputs));
        let cx = Context { cross: self.cross(&t), cache: cache.as_ref(), ..d.context(shape, &inputs) };
        let x = d.rows(&p, shape, &inputs, &cx, Features::default());
        t.output("logits", &d.logits(&p, &x));
        if let Some(cache) = &cache {
            cache.finish(&t);
        }
        Ok(t.finish()?)
    }

    /// The shape of a step of `rows` rows from some position on, with the logits of `logits` of them.
    pub fn step_shape(&self, rows: usize, logits: usize) -> PassShape {
        let single = PassShape::single(&self.decoder, rows, self.decoder.context);
        PassShape { out: Some(logits), positions: true, ..single }
    }

    /// The shape of the pass of [`Whisper::cross_attention`].
    pub fn cross_attention_shape(&self, rows: usize) -> PassShape {
        PassShape { rows: [1, rows], positions: true, ..PassShape::default() }
    }

    /// The weights of cross-attention while the decoder reads `rows` tokens from the first position on. The
    /// inputs are those of [`Whisper::cross_attention_shape`] and [`Whisper::cross_keys`]'s `cross.{layer}.k`
    /// and `.v`; the output `weights` is f32[heads,rows,encoder rows] for these heads, each a layer and its
    /// head.
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration, or there is no such head.
    pub fn cross_attention(&self, rows: usize, heads: &[(usize, usize)]) -> Result<Graph> {
        let d = &self.decoder;
        let t = Trace::new(format!("cross_attention.{rows}"));
        let p = Parameters::new(&t, &self.weights);
        let shape = self.cross_attention_shape(rows);
        let inputs = shape.declare(d, &t);
        let weights = RefCell::default();
        let cx =
            Context { cross: self.cross(&t), cross_attention: Some(&weights), ..d.context(&shape, &inputs) };
        d.rows(&p, &shape, &inputs, &cx, Features::default());
        let layers = weights.into_inner();
        let head = |&(layer, head): &(usize, usize)| {
            let all = layers.get(layer)?;
            (head < all.dim(1)).then(|| all.narrow(1, head, head + 1).reshape([1, rows, self.encoder.rows]))
        };
        let chosen: Option<Vec<Tensor>> = heads.iter().map(head).collect();
        let chosen = chosen.unwrap_or_default();
        let weights = Tensor::concat(&chosen.iter().collect::<Vec<_>>(), 0);
        let missing = || {
            self.generation
                .error("alignment_heads", &format!("names {heads:?}, and not all of them are there"))
        };
        t.output("weights", &weights.ok_or_else(missing)?);
        Ok(t.finish()?)
    }

    /// Inputs `cross.{layer}.k` and `.v` of every layer.
    fn cross(&self, t: &Trace) -> Vec<[Tensor; 2]> {
        let of_layer = |(i, attention): (usize, &crate::block::Attention)| {
            let dims = attention.cache_dims(1, self.encoder.rows);
            ["k", "v"].map(|which| {
                t.input(format!("cross.{i}.{which}"), Role::State, TensorType::new(DType::F32, dims))
            })
        };
        self.decoder.stack.blocks.iter().filter_map(|b| b.cross.as_ref()).enumerate().map(of_layer).collect()
    }
}

/// The defaults of config.json for the decoder.
pub fn defaults() -> Value {
    json!({
        "vocab_size": 51865, "decoder_layers": 4, "decoder_attention_heads": 6, "decoder_ffn_dim": 1536,
        "d_model": 384, "max_target_positions": 448, "activation_function": "gelu",
    })
}

fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(defaults());
    let block = whisper_block(&c, "decoder", true)?;
    let hidden = block.hidden;
    Ok(Decoder {
        vocab: c.positive("vocab_size")?,
        hidden,
        context: c.positive("max_target_positions")?,
        table: format!("{}embed_tokens.weight", names.model),
        // `scale_embedding` is there in every configuration, but transformers leaves it aside.
        embedding_scale: None,
        ropes: Vec::new(),
        norm: block.norm,
        norm_name: format!("{}layer_norm", names.model),
        stack: Stack {
            prefix: format!("{}layers", names.model),
            blocks: vec![block; c.layers("decoder_layers")?],
        },
        head: names.head.clone(),
        logit_divisor: None,
        logit_cap: None,
        deepstack: 0,
        per_layer: None,
        layer_scalar: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_not_scaled_whatever_the_configuration_says() {
        let c = Config::new("config.json", &json!({ "scale_embedding": true }), json!({})).unwrap();
        let names = DecoderNames { model: "model.decoder.".into(), head: "proj_out.weight".into() };
        assert_eq!(decoder(&c, &names).unwrap().embedding_scale, None);
    }
}
