//! Percept's own family: images and frames at one size each, audio as log-mel of a fixed length, a
//! placeholder for each feature row.

use percept_modalities::audio::LogMel;
use percept_modalities::image::Filter;
use percept_modalities::video::{Clip, Quota, Sampling};
use percept_modalities::{
    Aim, Array, Error, Grid, Inputs, Media, MediaKind, Message, Processor, Result, Values,
};
use serde_json::{Map, Value, json};

use super::prompt::{Placeholder, Prompt};
use super::settings::{HALF_NORMALIZE, ProcessorFiles, Settings, Size};
use super::still::{Still, StillDefaults, stack};

/// The placeholders of images, videos and audio.
pub const NATIVE_TOKENS: [&str; 3] = ["<|image|>", "<|video|>", "<|audio|>"];

/// The sizes of a model's media, from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeMedia {
    /// Pixels of an image's edge.
    pub image: usize,
    /// Pixels of a frame's edge.
    pub frame: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Mel bands of the audio.
    pub bands: usize,
    /// Log-mel frames of the audio.
    pub steps: usize,
    /// Features of an image, a video and an audio clip in time, height and width.
    pub grids: [[usize; 3]; 3],
}

impl NativeMedia {
    /// The `processor_config.json` of a model that reads such media. An audio clip is one second long.
    pub fn files(&self) -> Value {
        let still = |edge: usize| {
            json!({
                "do_resize": true, "size": { "height": edge, "width": edge }, "resample": 2, "do_rescale": true,
                "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            })
        };
        json!({
            "processor_class": "PerceptProcessor",
            "image_processor": still(self.image),
            "video_processor": still(self.frame),
            "feature_extractor": {
                "feature_size": self.bands, "sampling_rate": RATE, "hop_length": RATE as usize / self.steps.max(1),
                "chunk_length": 1, "n_fft": 1024, "padding_value": 0.0,
            },
        })
    }
}

/// The kinds of media, in the order of [`NATIVE_TOKENS`].
const KINDS: [MediaKind; 3] = [MediaKind::Image, MediaKind::Video, MediaKind::Audio];

/// Samples per second of a new model's audio.
const RATE: u32 = 16_000;

/// The processor of the native family.
pub struct Native {
    prompt: Prompt,
    image: Still,
    video: Still,
    audio: LogMel,
    media: NativeMedia,
}

impl Native {
    /// Reads the processor's files.
    ///
    /// # Errors
    /// When a setting cannot be used or is not what the model reads, or the vocabulary lacks a placeholder.
    pub fn new(files: &ProcessorFiles, media: NativeMedia, prompt: Prompt) -> Result<Self> {
        let usual = match media.files() {
            Value::Object(mut all) => all.remove("feature_extractor"),
            _ => None,
        };
        let usual: Map<String, Value> = usual.and_then(|v| v.as_object().cloned()).unwrap_or_default();
        let audio = LogMel::from_json(files.audio.file(), &files.audio.json(usual))?;
        if (audio.bands(), audio.frames()) != (media.bands, media.steps) {
            return Err(files.audio.fault(format!(
                "it gives {} bands of {} frames, the model reads {} of {}",
                audio.bands(),
                audio.frames(),
                media.bands,
                media.steps
            )));
        }
        for token in NATIVE_TOKENS {
            prompt.id(token)?;
        }
        let image = still(&files.image, media.image)?;
        Ok(Self { video: still(&files.video, media.frame)?, image, audio, media, prompt })
    }

    /// Frames of clips as f32[n,frames,3,s,s].
    fn clips(&self, clips: &[Clip]) -> Result<Array> {
        let mut frames = Vec::new();
        for clip in clips {
            if clip.frames.len() != self.media.frames {
                return Err(Error::Prompt(format!(
                    "a clip has {} frames, this model reads {}",
                    clip.frames.len(),
                    self.media.frames
                )));
            }
            frames.extend(clip.frames.iter().map(|f| self.video.fit(f)).collect::<Result<Vec<_>>>()?);
        }
        stack(&frames, &self.video.normalize, vec![clips.len(), self.media.frames])
    }
}

/// How images become squares of `edge` pixels.
fn still(settings: &Settings, edge: usize) -> Result<Still> {
    let defaults = StillDefaults {
        size: Size::square(edge),
        bare: Size::square,
        filter: Filter::Bilinear,
        crop: false,
        normalize: HALF_NORMALIZE,
    };
    let still = Still::read(settings, defaults)?;
    match (still.size, still.crop) {
        (_, Some((h, w))) if (h, w) == (edge, edge) => Ok(still),
        (Some(size), None) if size == Size::square(edge) => Ok(still),
        _ => Err(settings.fault(format!("the model reads {edge}x{edge} pixels, `size` must say so"))),
    }
}

impl Processor for Native {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        let transcript = self.prompt.render(messages, &media.variables, aim)?;
        let given = [media.images.len(), media.videos.len(), media.audios.len()];
        let placeholders: Vec<Placeholder<'_>> = (0..3)
            .map(|i| Placeholder {
                kind: KINDS[i],
                token: NATIVE_TOKENS[i],
                feature: NATIVE_TOKENS[i],
                replacements: vec![NATIVE_TOKENS[i].repeat(self.media.grids[i].iter().product()); given[i]],
            })
            .collect();
        let mut inputs = self.prompt.encode(&transcript, &placeholders)?;
        if given[0] > 0 {
            inputs.arrays.insert("pixel_values".into(), self.image.batch(&media.images)?);
        }
        if given[1] > 0 {
            inputs.arrays.insert("pixel_values_videos".into(), self.clips(&media.videos)?);
        }
        if given[2] > 0 {
            let mut features = Vec::new();
            for audio in &media.audios {
                if let Array { values: Values::F32(values), .. } = self.audio.features(audio)? {
                    features.extend(values);
                }
            }
            let dims = vec![given[2], self.media.bands, self.media.steps];
            inputs.arrays.insert("input_features".into(), Array { dims, values: Values::F32(features) });
        }
        let arrays = ["pixel_values", "pixel_values_videos", "input_features"];
        let pixels = [Some(&self.image.normalize), Some(&self.video.normalize), None];
        for (i, kind) in KINDS.into_iter().enumerate() {
            let grid = |_| Some(Grid { of: "features", extents: self.media.grids[i].to_vec() });
            inputs.attach_rows(kind, arrays[i], pixels[i], grid);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn video_sampling(&self) -> Option<Sampling> {
        Some(Sampling::Uniform(Quota::Count(self.media.frames)))
    }

    fn audio_rate(&self) -> Option<u32> {
        Some(self.audio.rate())
    }
}
