//! PaddleOCR-VL: a SigLIP tower for images of any size, whose patches turn with their row and column, and Ernie 4.5.

use percept_graph::{Activation, HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::json;

use crate::block::{Biases, Context, Norm};
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::pixel_shuffle;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::llama::rotary;
use crate::family::media::{MediaModel, Reader, processor_files, prompt, token};
use crate::family::qwen2_vl::{grids, multimodal, text_part};
use crate::family::{DecoderNames, Model, decoder};
use crate::parameters::Parameters;
use crate::processor::PaddleOcr;
use crate::rope::Rope;
use crate::vision::{Grids, Resume, Rows, encoder_run, floats, mrope_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// The decoder of PaddleOCR-VL.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    }));
    let mut d = rotary(&c, names, 5e5)?;
    let bias = c.flag("use_bias")?;
    for block in &mut d.stack.blocks {
        block.attention.bias = Biases::all(bias);
        block.mlp.bias = bias;
    }
    multimodal(&c, &mut d, |r| r.chunked(&[16, 24, 24]));
    Ok(d)
}

/// A PaddleOCR-VL checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let models = ["model.language_model.", "model."];
    let names = DecoderNames::find(&weights, &models, &["lm_head.weight"]);
    let decoder = decoder(&text_part(c, "paddleocr_vl_text")?, &names)?;
    let vision = c.section(
        "vision_config",
        json!({
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "image_size": 384, "patch_size": 14, "spatial_merge_size": 2,
        }),
    )?;
    let towers = ["visual.vision_model.", "model.visual.vision_model."];
    let prefix = weights.prefix(&towers, "embeddings.patch_embedding.weight");
    let mut tower = VisionTower::siglip(&vision, prefix)?;
    let head_dim = tower.stack.blocks.first().map_or(4, |block| block.attention.head_dim);
    let merge = vision.positive("spatial_merge_size")?;
    if !head_dim.is_multiple_of(4) || merge > 64 || tower.channels != 3 {
        let why = format!("is {merge}, or heads of {head_dim} features cannot turn in two directions");
        return Err(vision.error("spatial_merge_size", &why));
    }
    tower.stack.blocks.iter_mut().for_each(|block| block.attention.rope = Some(0));
    let nested = vision.section("rope_parameters", json!({ "rope_type": "axial", "rope_theta": 1e4 }))?;
    if nested.text("rope_type")? != "axial" {
        return Err(nested.error("rope_type", "must be axial: two directions without scaling"));
    }
    let processor = PaddleOcr::new(&processor_files(&weights)?, [tower.patch, merge], prompt(&weights)?)?;
    let reader = Pages {
        rope: Rope::axial(head_dim, nested.f64("rope_theta")?),
        tower,
        merge,
        out: decoder.hidden,
        projector: weights.prefix(&["mlp_AR.", "model.projector."], "linear_1.weight").to_string(),
        image_token: token(c, "image", 100_295)?,
    };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Pages {
    tower: VisionTower,
    rope: Rope,
    /// Patches along the edge of a feature.
    merge: usize,
    out: usize,
    projector: String,
    image_token: i32,
}

impl Pages {
    /// What a run on one image reads: its patches, their angles and the learned positions that theirs are mixed of.
    fn arguments(&self, patches: &[f32], [h, w]: [usize; 2]) -> Result<Vec<(&'static str, HostTensor)>> {
        let (n, side, pairs) = (h * w, self.tower.side(), self.rope.pairs());
        let [ys, xs]: [Vec<i32>; 2] =
            [(0..n).map(|i| (i / w) as i32).collect(), (0..n).map(|i| (i % w) as i32).collect()];
        let [cos, sin] = self.rope.angles(&[&ys, &xs], n);
        let mut arguments = vec![
            ("patches", HostTensor::from_f32([1, n, patches.len() / n], patches)?),
            ("cos", HostTensor::from_f32([1, n, pairs], &cos)?),
            ("sin", HostTensor::from_f32([1, n, pairs], &sin)?),
        ];
        let rows = Rows::bilinear((side, side), (h, w), false, |y, x| y * side + x);
        arguments.extend(rows.arguments()?);
        Ok(arguments)
    }

    fn trace(&self, p: &Parameters, inputs: &[Tensor], grid: [usize; 2]) -> Vec<(String, Tensor)> {
        let [patches, cos, sin, rows @ ..] = inputs else { return Vec::new() };
        let (tower, at) = (&self.tower, |name: &str| format!("{}embeddings.{name}", self.tower.prefix));
        let x = p.linear(patches, &at("patch_embedding"), tower.hidden, true, None);
        let table = p.get(&at("position_embedding.weight"), [tower.rows(), tower.hidden]);
        let x = x + Rows::of(&table, rows);
        let cx = Context { angles: vec![[cos.clone(), sin.clone()]], ..Context::default() };
        let x = tower.normalize(p, &tower.stack.trace(p, &x, &cx));
        let at = |name: &str| format!("{}{name}", self.projector);
        let x = pixel_shuffle(&Norm::layer(1e-5).trace(p, &at("pre_norm"), &x), grid, self.merge);
        let x = p.linear(&x, &at("linear_1"), x.dim(2), true, Some(Activation::GeluErf));
        let x = p.linear(&x, &at("linear_2"), self.out, true, None);
        vec![("features".into(), x.reshape([x.dim(1), self.out]))]
    }
}

impl Reader for Pages {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, c, h, w], mut rest)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        let (grids, p) = (grids(inputs, "image_grid_thw")?, self.tower.patch);
        let whole = |g: &[usize; 3]| g[0] == 1 && g[1..].iter().all(|edge| edge.is_multiple_of(self.merge));
        let rows = grids.iter().map(|g| g.iter().product::<usize>()).sum::<usize>();
        if (c, h, w) != (3, p, p) || rows != n || !grids.iter().all(whole) {
            return Err(Error::Inputs(format!(
                "pixel_values {:?} do not fill the grids {grids:?} of patches of {p}x{p}, merged by {}",
                [n, c, h, w],
                self.merge
            )));
        }
        let mut runs = Vec::new();
        for [_, down, along] in grids {
            let (own, later) = rest.split_at(down * along * c * h * w);
            rest = later;
            let arguments = self.arguments(own, [down, along])?;
            // Images of as many patches in other rows have another graph.
            let label = format!("paddleocr {down}x{along}");
            runs.push(encoder_run(&label, weights, arguments, |p, x| self.trace(p, x, [down, along]))?);
        }
        Ok(runs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let m = self.merge;
        let features = grids(inputs, "image_grid_thw")?.iter().map(|[t, h, w]| [*t, h / m, w / m]).collect();
        let kind = Grids { token: self.image_token, features, steps: Vec::new() };
        mrope_layout(inputs, &[kind], Resume::AllAxes)
    }
}
