//! Qwen2-VL, and what Qwen2.5-VL and Qwen3-VL share with it: a tower over patches of any grid, positions in
//! time, height and width.

use percept_modalities::Inputs;
use serde_json::json;

use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::media::{
    MediaModel, Reader, check_width, processor_files, prompt, text_config, token, written_by,
};
use crate::family::{DecoderNames, Model, decoder, qwen2};
use crate::processor::{QwenVersion, QwenVl};
use crate::rope::{Rope, rope_parameters};
use crate::vision::{Framed, Grids, QwenTower, Resume, floats, framed_runs, integers, mrope_layout};
use crate::weights::Weights;

/// A Qwen2-VL checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    build(c, weights, QwenVersion::Qwen2, "qwen2_vl_text", QwenTower::qwen2)
}

/// The decoder of Qwen2-VL and Qwen2.5-VL.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
    }));
    let mut d = qwen2::decoder(&c, names)?;
    multimodal(&c, &mut d, |r| r.chunked(&[16, 24, 24]));
    Ok(d)
}

/// Gives a rotation whose configuration names no sections those of the published models.
pub fn multimodal(c: &Config, d: &mut Decoder, usual: impl Fn(Rope) -> Rope) {
    let named = rope_parameters(|key| c.get(key)).is_some_and(|p| p.get("mrope_section").is_some());
    if !named && d.ropes.iter().all(|r| r.pairs() == 64) {
        d.ropes = d.ropes.drain(..).map(usual).collect();
    }
}

/// The text's part of a configuration. Published checkpoints of the first two have its keys beside the
/// tower's.
///
/// # Errors
/// When there is something else under its key.
pub fn text_part(c: &Config, model_type: &str) -> Result<Config> {
    match c.get("text_config") {
        Some(_) => text_config(c, model_type),
        None => Ok(c.without(&["model_type", "vision_config"]).over(json!({ "model_type": model_type }))),
    }
}

/// A checkpoint of any of the three.
///
/// # Errors
/// As [`open`].
pub fn build(
    c: &Config,
    weights: Weights,
    version: QwenVersion,
    model_type: &str,
    tower: impl Fn(&Config, &str) -> Result<QwenTower>,
) -> Result<Model> {
    let text = text_part(c, model_type)?;
    let models = ["model.language_model.", "model.", "language_model.model."];
    let names = DecoderNames::find(&weights, &models, &["lm_head.weight", "language_model.lm_head.weight"]);
    let mut decoder = decoder(&text, &names)?;
    let prefix = weights.prefix(&["visual.", "model.visual."], "patch_embed.proj.weight");
    let vision = c.section("vision_config", json!({}))?;
    let tower = tower(&vision, prefix)?;
    check_width(tower.out(), &decoder)?;
    decoder.deepstack = tower.deepstack();
    let pace = match version {
        QwenVersion::Qwen2_5 => Some(vision.maybe_f64("tokens_per_second")?.unwrap_or(4.0) as f32),
        _ => None,
    };
    let reader = Grid {
        tower,
        version,
        pace,
        whole_seconds: written_by(c, (4, 52)..(5, 18)),
        resume: match written_by(c, (5, 3)..(u32::MAX, 0)) {
            true => Resume::RowsAndColumns,
            false => Resume::AllAxes,
        },
        image_token: token(c, "image", 151_655)?,
        video_token: token(c, "video", 151_656)?,
    };
    let processor = QwenVl::new(version, &processor_files(&weights)?, prompt(&weights)?)?;
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Grid {
    tower: QwenTower,
    version: QwenVersion,
    /// Positions in time for a second of video.
    pace: Option<f32>,
    /// The fraction of a frame's seconds is dropped before they become positions.
    whole_seconds: bool,
    resume: Resume,
    image_token: i32,
    video_token: i32,
}

/// The runs of a tower on the images and the videos of a prompt, each with its grid.
///
/// # Errors
/// When there are grids without patches, or patches that do not fit theirs or the tower.
pub fn grid_runs(tower: &impl Framed, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
    let mut runs = Vec::new();
    for (pixels, name) in [("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")] {
        match floats(inputs, pixels)? {
            Some(patches) => runs.extend(framed_runs(tower, weights, patches, &grids(inputs, name)?)?),
            None if inputs.arrays.contains_key(name) => {
                return Err(Error::Inputs(format!("there is {name} but no {pixels}")));
            }
            None => {}
        }
    }
    Ok(runs)
}

/// Frames, rows and columns of patches of every image or clip.
///
/// # Errors
/// When the array has another shape, or an extent is not that of an image.
pub fn grids(inputs: &Inputs, name: &str) -> Result<Vec<[usize; 3]>> {
    let Some((dims, values)) = integers::<2>(inputs, name)? else { return Ok(Vec::new()) };
    let extent = |v: i64| usize::try_from(v).ok().filter(|v| *v > 0 && *v < 1 << 20);
    let grid = |g: &[i64]| match g {
        [t, h, w] => Some([extent(*t)?, extent(*h)?, extent(*w)?]),
        _ => None,
    };
    let all: Option<Vec<_>> = if dims[1] == 3 { values.chunks(3).map(grid).collect() } else { None };
    all.ok_or_else(|| {
        Error::Inputs(format!("{name} must be [n, 3] of frames, rows and columns, all at least 1"))
    })
}

impl Grid {
    /// Frames, rows and columns of features.
    fn merged(&self, grids: &[[usize; 3]]) -> Vec<[usize; 3]> {
        let m = self.tower.merge;
        grids.iter().map(|[t, h, w]| [*t, h / m, w / m]).collect()
    }
}

impl Reader for Grid {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        grid_runs(&self.tower, weights, inputs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let images = self.merged(&grids(inputs, "image_grid_thw")?);
        let mut videos = self.merged(&grids(inputs, "video_grid_thw")?);
        let seconds = floats::<1>(inputs, "second_per_grid_ts")?.map_or(&[][..], |(_, s)| s);
        let steps = match self.pace {
            Some(pace) => (0..videos.len())
                .map(|i| seconds.get(i).copied().unwrap_or(1.0))
                .map(|s| if self.whole_seconds { s.trunc() * pace } else { s * pace })
                .collect(),
            None => vec![1.0; videos.len()],
        };
        if self.version.tells_times() {
            // A time stands before every frame, so each is an image of its own.
            videos = videos.iter().flat_map(|&[t, h, w]| vec![[1, h, w]; t]).collect();
        }
        let kinds = [
            Grids { token: self.image_token, features: images, steps: Vec::new() },
            Grids { token: self.video_token, features: videos, steps },
        ];
        mrope_layout(inputs, &kinds, self.resume)
    }
}
