//! PaliGemma and PaliGemma 2: a SigLIP tower, one linear layer, and Gemma or Gemma 2, which read the whole prompt both
//! ways.

use percept_graph::HostTensor;
use percept_modalities::Inputs;
use serde_json::json;

use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, check_width, processor_files, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::PaliGemma;
use crate::text::tokenizer;
use crate::vision::{encoder_run, floats, integers, media_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// A PaliGemma checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let text = match c.get("text_config") {
        Some(_) => c.section("text_config", json!({ "model_type": "gemma" }))?,
        None => c.section(
            "text_config",
            json!({
                "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
                "num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 257152,
            }),
        )?,
    };
    if text.get("use_bidirectional_attention").is_some_and(|v| v == false) {
        let why = "is false: prompts of this family are read both ways";
        return Err(text.error("use_bidirectional_attention", why));
    }
    let models = ["language_model.model.", "model.language_model."];
    let names = DecoderNames::find(&weights, &models, &["language_model.lm_head.weight", "lm_head.weight"]);
    let mut decoder = decoder(&text.without(&["use_bidirectional_attention"]), &names)?;
    decoder.stack.blocks.iter_mut().for_each(|block| block.attention.wide_blocks = true);
    let vision = match c.get("vision_config") {
        Some(_) => c.section("vision_config", json!({}))?,
        None => c.section(
            "vision_config",
            json!({
                "hidden_size": 1152, "intermediate_size": 4096, "num_hidden_layers": 27, "num_attention_heads": 16,
                "image_size": 224, "patch_size": 14,
            }),
        )?,
    };
    let towers = [
        "vision_tower.vision_model.",
        "vision_tower.",
        "model.vision_tower.vision_model.",
        "model.vision_tower.",
    ];
    let tower = VisionTower::siglip(&vision, weights.prefix(&towers, "embeddings.patch_embedding.weight"))?;
    let out = c.maybe_usize("projection_dim")?.or(vision.maybe_usize("projection_dim")?).unwrap_or(2048);
    check_width(out, &decoder)?;
    let projectors = ["multi_modal_projector.", "model.multi_modal_projector."];
    let projector = format!("{}linear", weights.prefix(&projectors, "linear.weight"));
    let processor =
        PaliGemma::new(&processor_files(&weights)?, tower.rows(), tokenizer(weights.checkpoint())?)?;
    let reader = Images { tower, out, projector, image_token: token(c, "image", 256_000)? };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Images {
    tower: VisionTower,
    out: usize,
    projector: String,
    image_token: i32,
}

impl Reader for Images {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, c, h, w], values)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        self.tower.check([n, c, h, w])?;
        let run = |some: &[f32]| {
            let pixels = HostTensor::from_f32([some.len() / (c * h * w), c, h, w], some)?;
            encoder_run("paligemma", weights, vec![("pixels", pixels)], |p, x| {
                let x = self.tower.normalize(p, &self.tower.trace(p, &x[0]));
                let x = p.linear(&x, &self.projector, self.out, true, None);
                vec![("features".into(), x.reshape([x.dim(0) * x.dim(1), self.out]))]
            })
        };
        values.chunks(c * h * w * self.tower.batch()).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let images = floats::<4>(inputs, "pixel_values")?.map_or(0, |([n, ..], _)| n);
        let mut layout = media_layout(inputs, &[(self.image_token, images * self.tower.rows())])?;
        let answered = match integers::<2>(inputs, "token_type_ids")? {
            Some((_, kinds)) if kinds.len() == layout.ids.len() => kinds.to_vec(),
            // A prompt alone; training also asks so where the features of several samples stand.
            None => vec![0; layout.ids.len()],
            Some(_) => {
                return Err(Error::Inputs(
                    "token_type_ids must tell a prompt's tokens from an answer's".into(),
                ));
            }
        };
        // The prompt is one block, the answer sees what is before it. Positions are counted from 1.
        layout.blocks = Some(answered.iter().map(|&kind| if kind == 0 { 0 } else { -1 }).collect());
        layout.positions.iter_mut().flatten().for_each(|at| *at += 1.0);
        layout.next.iter_mut().for_each(|at| *at += 1.0);
        Ok(layout)
    }
}
