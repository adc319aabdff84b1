//! Gemma 4 with images, videos and audio. In larger models the rows of an image see each other both ways, in sliding
//! layers.

use percept_graph::Tensor;
use percept_modalities::Inputs;
use percept_modalities::audio::UsmMel;
use serde_json::{Map, json};

use crate::audio::Gemma4AudioTower;
use crate::block::Norm;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::gemma3_vision::blocks;
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::parameters::Parameters;
use crate::processor::Gemma4;
use crate::vision::{Gemma4Tower, PATCHES, encoder_run, floats, integers, media_layout};
use crate::weights::Weights;

/// Where the parts of a checkpoint begin.
const PREFIXES: [&str; 2] = ["model.", ""];

/// A Gemma 4 checkpoint with towers.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let vision = c.section("vision_config", json!({}))?;
    let models = ["model.language_model.", "language_model.model.", "language_model."];
    let names = DecoderNames::find(&weights, &models, &["lm_head.weight", "language_model.lm_head.weight"]);
    let decoder = decoder(&text_config(c, "gemma4_text")?, &names)?;
    let prefix = weights.prefix(&PREFIXES, "embed_vision.embedding_projection.weight");
    let tower = Gemma4Tower::read(&vision, &format!("{prefix}vision_tower."))?;
    let files = processor_files(&weights)?;
    let (mut mel, mut ear) = (None, None);
    if c.get("audio_config").is_some() {
        let frames = UsmMel::from_json(files.audio.file(), &files.audio.json(Map::new()))?;
        let audio = c.section("audio_config", json!({}))?;
        ear = Some(Gemma4AudioTower::read(&audio, frames.bands(), &format!("{prefix}audio_tower."))?);
        mel = Some(frames);
    }
    let processor = Gemma4::new(&files, [tower.patch, tower.pool], mel, prompt(&weights)?)?;
    let reader = Towers {
        projectors: ["vision", "audio"].map(|kind| format!("{prefix}embed_{kind}.embedding_projection")),
        out: decoder.hidden,
        in_blocks: decoder.stack.blocks.iter().any(|block| block.attention.in_blocks),
        image_token: token(c, "image", 258_880)?,
        video_token: token(c, "video", 258_884)?,
        audio_token: token(c, "audio", 258_881)?,
        tower,
        ear,
    };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Towers {
    tower: Gemma4Tower,
    /// The tower of models that hear.
    ear: Option<Gemma4AudioTower>,
    /// From images and from audio to features.
    projectors: [String; 2],
    /// Width of the features.
    out: usize,
    /// Some layers read [`Layout::blocks`].
    in_blocks: bool,
    image_token: i32,
    video_token: i32,
    audio_token: i32,
}

/// The arrays of images, and those of frames.
const IMAGES: [&str; 2] = ["pixel_values", "image_position_ids"];
const FRAMES: [&str; 2] = ["pixel_values_videos", "video_position_ids"];

impl Towers {
    /// Rows and columns of patches of each image, or frame, and its patches without those that fill it up.
    fn patches<'a>(&self, inputs: &'a Inputs, names: [&str; 2]) -> Result<Vec<([usize; 2], &'a [f32])>> {
        let Some(([n, most, width], values)) = floats(inputs, names[0])? else { return Ok(Vec::new()) };
        let places = integers::<3>(inputs, names[1])?;
        let Some((_, places)) =
            places.filter(|(dims, _)| *dims == [n, most, 2] && width == self.tower.numbers())
        else {
            return Err(Error::Inputs(format!(
                "{} [{n},{most},{width}] needs {} [{n},{most},2], and patches of {} numbers",
                names[0],
                names[1],
                self.tower.numbers()
            )));
        };
        let of = |(values, places): (&'a [f32], &[i64])| {
            let grid = self.tower.grid(places)?;
            Ok((grid, &values[..grid[0] * grid[1] * width]))
        };
        values.chunks_exact((most * width).max(1)).zip(places.chunks_exact(2 * most.max(1))).map(of).collect()
    }

    fn run(&self, weights: &Weights, grid: [usize; 2], patches: &[f32]) -> Result<EncoderRun> {
        let label = format!("gemma4 {}x{}", grid[0], grid[1]);
        let arguments = self.tower.arguments(grid, patches)?;
        encoder_run(&label, weights, arguments, |p, inputs| {
            self.projected(p, &self.projectors[0], self.tower.eps, self.tower.trace(p, inputs, grid))
        })
    }

    /// Mel bands of a frame.
    fn bands(&self) -> usize {
        self.ear.as_ref().map_or(1, |ear| ear.bands)
    }

    /// Rows of a tower as features.
    fn projected(&self, p: &Parameters, name: &str, eps: f32, x: Option<Tensor>) -> Vec<(String, Tensor)> {
        let features = |x: Tensor| p.linear(&Norm::bare(eps).trace(p, "", &x), name, self.out, false, None);
        x.into_iter().map(|x| ("features".to_string(), features(x))).collect()
    }

    /// The frames of each audio clip without those that fill it up.
    fn clips<'a>(&self, inputs: &'a Inputs) -> Result<Vec<&'a [f32]>> {
        let Some(([n, frames, bands], values)) = floats(inputs, "input_features")? else {
            return Ok(Vec::new());
        };
        let own = self.bands();
        let mask = integers::<2>(inputs, "input_features_mask")?.filter(|(dims, _)| *dims == [n, frames]);
        let Some((_, mask)) = mask.filter(|_| self.ear.is_some() && bands == own) else {
            return Err(Error::Inputs(format!(
                "input_features [{n},{frames},{bands}] need input_features_mask [{n},{frames}], and {own} bands"
            )));
        };
        let of = |(values, mask): (&'a [f32], &[i64])| {
            let heard = mask.iter().take_while(|&&heard| heard != 0).count();
            match mask[heard..].iter().all(|&heard| heard == 0) {
                true => Ok(&values[..heard * bands]),
                false => Err(Error::Inputs("input_features_mask has frames behind padding".into())),
            }
        };
        values.chunks_exact((frames * bands).max(1)).zip(mask.chunks_exact(frames.max(1))).map(of).collect()
    }
}

impl Reader for Towers {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let images = self.patches(inputs, IMAGES)?;
        let images = images.into_iter().map(|(grid, patches)| self.run(weights, grid, patches));
        let mut runs = images.collect::<Result<Vec<_>>>()?;
        // Frames of one size are read together.
        let frames = self.patches(inputs, FRAMES)?;
        for same in frames.chunk_by(|a, b| a.0 == b.0) {
            let grid = same[0].0;
            for some in same.chunks((PATCHES / (grid[0] * grid[1])).max(1)) {
                let patches: Vec<f32> = some.iter().flat_map(|(_, patches)| *patches).copied().collect();
                runs.push(self.run(weights, grid, &patches)?);
            }
        }
        let Some(ear) = &self.ear else { return Ok(runs) };
        for frames in self.clips(inputs)? {
            runs.push(encoder_run("gemma4 audio", weights, ear.arguments(frames)?, |p, inputs| {
                self.projected(p, &self.projectors[1], ear.eps, ear.trace(p, inputs))
            })?);
        }
        Ok(runs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let count = |names: [&str; 2]| -> Result<usize> {
            Ok(self.patches(inputs, names)?.iter().map(|(grid, _)| self.tower.features(*grid)).sum())
        };
        let (images, frames) = (count(IMAGES)?, count(FRAMES)?);
        let clips = self.clips(inputs)?;
        let heard = clips.iter().map(|clip| Gemma4AudioTower::rows(clip.len() / self.bands())).sum();
        let kinds = [(self.image_token, images), (self.video_token, frames), (self.audio_token, heard)];
        let mut layout = media_layout(inputs, &kinds)?;
        let seen = images + frames;
        if self.in_blocks && seen > 0 {
            let seen: Vec<_> = layout.features.iter().map(|row| row.filter(|row| *row < seen)).collect();
            layout.blocks = Some(blocks(&seen));
        }
        Ok(layout)
    }

    fn is_constant(&self, name: &str) -> bool {
        self.tower.is_constant(name) || self.ear.as_ref().is_some_and(|ear| ear.is_constant(name))
    }
}
