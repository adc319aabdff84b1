//! Qwen2.5-Omni's thinker: Qwen2.5-VL with audio_parts. Its voice, the talker, is left aside. What it shares with Qwen3-Omni's stands
//! here too.

use percept_modalities::Inputs;
use serde_json::json;

use crate::audio::Qwen2_5Tower;
use crate::causal::{EncoderRun, Layout, input_ids};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, check_width, processor_files, prompt, token};
use crate::family::qwen2_vl::{self, grids};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::{ClipLength, QwenVersion, QwenVl, Sound};
use crate::vision::{Grids, QwenTower, Resume, floats, integers, mrope_at};
use crate::weights::Weights;

/// The array that tells frames of sound from padding.
pub const MASK: &str = "feature_attention_mask";

/// A Qwen2.5-Omni checkpoint, of which the thinker is read.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = thinker(c)?;
    let audio = c.section("audio_config", json!({}))?;
    let tower = Qwen2_5Tower::read(
        &audio,
        weights.prefix(&["thinker.audio_tower.", "audio_tower."], "conv1.weight"),
    )?;
    let audio_parts = AudioParts {
        bands: tower.bands,
        out: tower.out,
        length: ClipLength::Fixed,
        rows: Box::new(Qwen2_5Tower::rows),
    };
    build(
        &c,
        weights,
        QwenVersion::Omni2_5,
        "qwen2_5_omni_text",
        QwenTower::omni2_5,
        audio_parts,
        Box::new(tower),
    )
}

/// The decoder of the thinker.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    qwen2_vl::text(
        &c.over(json!({
            "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
            "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "sliding_window": 32768,
        })),
        names,
    )
}

/// The thinker's part of a configuration, which may be all of it.
///
/// # Errors
/// When there is something else under its key.
pub fn thinker(c: &Config) -> Result<Config> {
    match c.get("thinker_config") {
        Some(_) => c.section("thinker_config", json!({})),
        None => Ok(c.clone()),
    }
}

/// What the processor has to know of a tower of sound.
pub struct AudioParts {
    /// Mel bands of a frame.
    pub bands: usize,
    /// Width of the features.
    pub out: usize,
    /// How long the features of a clip are.
    pub length: ClipLength,
    /// Rows of features of so many frames.
    pub rows: Box<dyn Fn(usize) -> usize + Send + Sync>,
}

/// A tower that turns the sound of prompts into features.
pub trait AudioEncoder: Send + Sync {
    /// The runs for a clip's frames f32[bands,frames], in each of which the outputs beside `features` are `deepstack`
    /// sets of zeros.
    ///
    /// # Errors
    /// When there are no frames, or the checkpoint's tensors do not fit the configuration.
    fn encode(&self, weights: &Weights, features: &[f32], deepstack: usize) -> Result<Vec<EncoderRun>>;

    /// Rows of features of so many frames, and rows that the runs give, of which they are the first.
    fn extents(&self, frames: usize) -> [usize; 2];
}

impl AudioEncoder for Qwen2_5Tower {
    fn encode(&self, weights: &Weights, features: &[f32], _: usize) -> Result<Vec<EncoderRun>> {
        Ok(vec![self.run(weights, features)?])
    }

    fn extents(&self, frames: usize) -> [usize; 2] {
        [Self::rows(frames), self.given(frames)]
    }
}

/// A thinker of either generation.
///
/// # Errors
/// As [`open`].
pub fn build(
    c: &Config,
    weights: Weights,
    version: QwenVersion,
    model_type: &str,
    tower: impl Fn(&Config, &str) -> Result<QwenTower>,
    audio_parts: AudioParts,
    audio_encoder: Box<dyn AudioEncoder>,
) -> Result<Model> {
    let text = c.section("text_config", json!({ "model_type": model_type }))?;
    let names = DecoderNames::find(
        &weights,
        &["thinker.model.", "model."],
        &["thinker.lm_head.weight", "lm_head.weight"],
    );
    let mut decoder = decoder(&text, &names)?;
    let prefix = weights.prefix(&["thinker.visual.", "visual."], "patch_embed.proj.weight");
    let tower = tower(&c.section("vision_config", json!({}))?, prefix)?;
    check_width(tower.out(), &decoder)?;
    check_width(audio_parts.out, &decoder)?;
    decoder.deepstack = tower.deepstack();
    let (files, prompt) = (processor_files(&weights)?, prompt(&weights)?);
    let spoken = prompt
        .token("audio_token", if version == QwenVersion::Omni2_5 { "<|AUDIO|>" } else { "<|audio_pad|>" });
    prompt.id(&spoken)?;
    let features = Sound::extractor(&files)?;
    if features.bands() != audio_parts.bands {
        let why = format!("is {}, the feature extractor gives {} bands", audio_parts.bands, features.bands());
        return Err(c.error("num_mel_bins", &why));
    }
    let sound =
        Sound { features, token: spoken, mask: MASK, length: audio_parts.length, rows: audio_parts.rows };
    let reader = Thinker {
        tower,
        audio_encoder,
        bands: audio_parts.bands,
        pace: c.maybe_f64("position_id_per_seconds")?.unwrap_or(25.0) as f32,
        whole: version == QwenVersion::Omni2_5,
        image_token: token(c, "image", 151_655)?,
        video_token: token(c, "video", 151_656)?,
        audio_token: token(c, "audio", 151_646)?,
    };
    let processor = Box::new(QwenVl::new(version, &files, prompt)?.with_sound(sound));
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor, reader })))
}

/// Reads images, videos and sound.
struct Thinker {
    tower: QwenTower,
    audio_encoder: Box<dyn AudioEncoder>,
    bands: usize,
    /// Positions in time for a second.
    pace: f32,
    /// Frames of a video stand at whole positions.
    whole: bool,
    image_token: i32,
    video_token: i32,
    audio_token: i32,
}

impl Thinker {
    /// Frames of each clip that are heard.
    fn heard(&self, inputs: &Inputs) -> Result<Vec<usize>> {
        let Some(([_, frames], mask)) = integers::<2>(inputs, MASK)? else { return Ok(Vec::new()) };
        Ok(mask.chunks_exact(frames.max(1)).map(|m| m.iter().filter(|&&m| m != 0).count()).collect())
    }

    /// Frames, rows and columns of features.
    fn merged(&self, inputs: &Inputs, name: &str) -> Result<Vec<[usize; 3]>> {
        let m = self.tower.merge;
        Ok(grids(inputs, name)?.iter().map(|[t, h, w]| [*t, h / m, w / m]).collect())
    }
}

impl Reader for Thinker {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let mut runs = qwen2_vl::grid_runs(&self.tower, weights, inputs)?;
        let Some(([n, bands, all], features)) = floats::<3>(inputs, "input_features")? else {
            return Ok(runs);
        };
        let heard = self.heard(inputs)?;
        if n != heard.len() || bands != self.bands || all == 0 || heard.iter().any(|&frames| frames > all) {
            return Err(Error::Inputs(format!(
                "input_features are {:?}, the model reads {:?} with {MASK}",
                [n, bands, all],
                [heard.len(), self.bands]
            )));
        }
        for (clip, frames) in features.chunks_exact(bands * all).zip(heard) {
            let own: Vec<f32> = clip.chunks_exact(all).flat_map(|band| &band[..frames]).copied().collect();
            runs.extend(self.audio_encoder.encode(weights, &own, self.tower.deepstack())?);
        }
        Ok(runs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let (images, videos) =
            (self.merged(inputs, "image_grid_thw")?, self.merged(inputs, "video_grid_thw")?);
        let mut seen: usize = images.iter().chain(&videos).map(|grid| grid.iter().product::<usize>()).sum();
        let seconds = floats::<1>(inputs, "video_second_per_grid")?.map_or(&[][..], |(_, s)| s);
        let kinds = [
            Grids { token: self.image_token, features: images, steps: Vec::new() },
            Grids { token: self.video_token, features: videos, steps: Vec::new() },
        ];
        let time = |kind: usize, which: usize, frame: usize| {
            // An image has one frame, at no time.
            let seconds = if kind == 1 { seconds.get(which).copied().unwrap_or(1.0) } else { 0.0 };
            let at = frame as f32 * seconds * self.pace;
            if self.whole { at.trunc() } else { at }
        };
        let mut layout = mrope_at(input_ids(inputs)?, &kinds, Resume::AllAxes, time)?;
        // Sound is counted like text.
        let mut places = Vec::new();
        for frames in self.heard(inputs)? {
            let [rows, given] = self.audio_encoder.extents(frames);
            places.extend(seen..seen + rows);
            seen += given;
        }
        let slots: Vec<usize> =
            (0..layout.ids.len()).filter(|&at| layout.ids[at] == self.audio_token).collect();
        if slots.len() != places.len() {
            return Err(Error::Inputs(format!(
                "the prompt has {} placeholders for sound (token {}), but the clips have {} rows of features",
                slots.len(),
                self.audio_token,
                places.len()
            )));
        }
        slots.into_iter().zip(places).for_each(|(at, place)| layout.features[at] = Some(place));
        Ok(layout)
    }
}
