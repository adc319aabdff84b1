//! GLM-4V and GLM-4.6V: a tower over patches of any grid, and GLM-4 with positions in time, height and width.

use percept_modalities::Inputs;
use serde_json::json;

use crate::causal::{EncoderRun, Layout, input_ids};
use crate::config::Config;
use crate::error::Result;
use crate::family::media::{
    MediaModel, Reader, check_width, processor_files, prompt, text_config, token, written_by,
};
use crate::family::qwen2_vl::{grid_runs, grids};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::{Glm4v, GlmVersion};
use crate::vision::{GlmTower, Grids, Resume, mrope_of};
use crate::weights::Weights;

/// A GLM-4V checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    build(c, weights, GlmVersion::V)
}

/// A GLM-4.6V checkpoint.
///
/// # Errors
/// As [`open`].
pub fn open_46(c: &Config, weights: Weights) -> Result<Model> {
    build(c, weights, GlmVersion::V46)
}

fn build(c: &Config, weights: Weights, version: GlmVersion) -> Result<Model> {
    let names = DecoderNames::find(&weights, &["model.language_model.", "model."], &["lm_head.weight"]);
    let decoder = decoder(&text_config(c, "glm4v_text")?, &names)?;
    let prefix = weights.prefix(&["model.visual.", "visual."], "patch_embed.proj.weight");
    let tower = GlmTower::read(&c.section("vision_config", json!({}))?, prefix)?;
    check_width(tower.out, &decoder)?;
    let [patch, frames] = tower.patch;
    let processor =
        Glm4v::new(version, &processor_files(&weights)?, [patch, frames, tower.merge], prompt(&weights)?)?;
    let reader = Frames {
        tower,
        resume: match written_by(c, (5, 3)..(u32::MAX, 0)) {
            true => Resume::RowsAndColumns,
            false => Resume::AllAxes,
        },
        image_token: token(c, "image", 151_343)?,
        video_token: token(c, "video", 151_344)?,
        clip: [token(c, "video_start", 151_341)?, token(c, "video_end", 151_342)?],
    };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Frames {
    tower: GlmTower,
    resume: Resume,
    image_token: i32,
    video_token: i32,
    /// What stands before and behind a clip, whose frames have the token of images.
    clip: [i32; 2],
}

impl Frames {
    /// The ids with those that stand for features of clips told from those of images.
    fn told_apart(&self, ids: &[i32]) -> Vec<i32> {
        let mut within = 0i64;
        let tell = |&id: &i32| {
            within += i64::from(id == self.clip[0]) - i64::from(id == self.clip[1]);
            if id == self.image_token && within > 0 { self.video_token } else { id }
        };
        ids.iter().map(tell).collect()
    }
}

impl Reader for Frames {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        grid_runs(&self.tower, weights, inputs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let m = self.tower.merge;
        // Each pair of frames is an image of its own.
        let each = |name: &str| -> Result<Vec<[usize; 3]>> {
            let grids = grids(inputs, name)?;
            Ok(grids.iter().flat_map(|&[t, h, w]| vec![[1, h / m, w / m]; t]).collect())
        };
        let kinds = [
            Grids { token: self.image_token, features: each("image_grid_thw")?, steps: Vec::new() },
            Grids { token: self.video_token, features: each("video_grid_thw")?, steps: Vec::new() },
        ];
        let ids = input_ids(inputs)?;
        let layout = mrope_of(self.told_apart(&ids), &kinds, self.resume)?;
        Ok(Layout { ids, ..layout })
    }
}
