//! What turns images, clips and sounds into features of the decoder's width.

use percept_graph::{HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::json;

use super::ACTIVATION;
use super::turns::Turns;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::media::{Reader, token};
use crate::parameters::Parameters;
use crate::processor::NativeMedia;
use crate::vision::{Grids, Resume, encoder_run, floats, mrope_layout};
use crate::weights::Weights;

/// The extents of all media, and the ids that stand for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Senses {
    /// Width of the decoder.
    hidden: usize,
    /// Channels behind each convolution but the last, which gives the decoder's width.
    channels: Vec<usize>,
    /// Pixels of an image's edge.
    image: usize,
    /// Pixels of a frame's edge.
    frame: usize,
    /// Frames of a clip, an even number.
    frames: usize,
    /// Mel bands of a sound.
    bands: usize,
    /// Frames of log-mel of a sound.
    steps: usize,
    /// Frames of log-mel that make one feature.
    patch: usize,
    /// Placeholders of images, clips and sounds.
    tokens: [i32; 3],
    turns: Turns,
}

/// A kind of medium, in the order in which features are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    Image,
    Video,
    Audio,
}

impl Sense {
    pub const ALL: [Self; 3] = [Self::Image, Self::Video, Self::Audio];

    /// The array of inputs that holds all media of this kind.
    pub fn array(self) -> &'static str {
        match self {
            Self::Image => "pixel_values",
            Self::Video => "pixel_values_videos",
            Self::Audio => "input_features",
        }
    }
}

impl Senses {
    /// What the configuration says.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, decoder: &Decoder) -> Result<Self> {
        let vision = c.section(
            "vision_config",
            json!({ "channels": [32, 64], "image_size": 48, "frame_size": 32, "num_frames": 6 }),
        )?;
        let audio =
            c.section("audio_config", json!({ "num_mel_bins": 64, "num_frames": 48, "patch_size": 4 }))?;
        let senses = Self {
            hidden: decoder.hidden,
            channels: vision.list("channels")?,
            image: vision.positive("image_size")?,
            frame: vision.positive("frame_size")?,
            frames: vision.positive("num_frames")?,
            bands: audio.positive("num_mel_bins")?,
            steps: audio.positive("num_frames")?,
            patch: audio.positive("patch_size")?,
            tokens: [token(c, "image", 3)?, token(c, "video", 4)?, token(c, "audio", 5)?],
            turns: Turns { answer: token(c, "answer", 1)?, end: token(c, "eos", 2)? },
        };
        if senses.channels.len() > 8 || senses.channels.contains(&0) {
            let why = format!("is {:?}; it must be the channels of at most 8 convolutions", senses.channels);
            return Err(vision.error("channels", &why));
        }
        for (key, edge) in [("image_size", senses.image), ("frame_size", senses.frame)] {
            if !edge.is_multiple_of(senses.stride()) || edge > 1 << 12 {
                let why = format!("is {edge}; it must be a multiple of {}, at most 4096", senses.stride());
                return Err(vision.error(key, &why));
            }
        }
        if !senses.frames.is_multiple_of(2) || senses.frames > 1 << 12 {
            let why = format!("is {}; frames go in pairs, of which there may be 2048", senses.frames);
            return Err(vision.error("num_frames", &why));
        }
        if !senses.steps.is_multiple_of(senses.patch) || senses.steps.max(senses.bands) > 1 << 16 {
            let why = format!("is {}; it must be a multiple of {}", senses.steps, senses.patch);
            return Err(audio.error("num_frames", &why));
        }
        Ok(senses)
    }

    /// What a processor must know.
    pub fn described(&self) -> NativeMedia {
        NativeMedia {
            image: self.image,
            frame: self.frame,
            frames: self.frames,
            bands: self.bands,
            steps: self.steps,
            grids: Sense::ALL.map(|s| self.grid(s)),
        }
    }

    /// Pixels of an edge that one feature stands for.
    fn stride(&self) -> usize {
        2 << self.channels.len()
    }

    /// The extents of one medium in its array.
    pub fn extents(&self, sense: Sense) -> Vec<usize> {
        match sense {
            Sense::Image => vec![3, self.image, self.image],
            Sense::Video => vec![self.frames, 3, self.frame, self.frame],
            Sense::Audio => vec![self.bands, self.steps],
        }
    }

    /// Features of one medium in time, height and width.
    fn grid(&self, sense: Sense) -> [usize; 3] {
        let (image, frame) = (self.image / self.stride(), self.frame / self.stride());
        match sense {
            Sense::Image => [1, image, image],
            Sense::Video => [self.frames / 2, frame, frame],
            Sense::Audio => [self.steps / self.patch, 1, 1],
        }
    }

    /// All media of a kind, their number first; `None` when there are none.
    fn media<'a>(&self, sense: Sense, inputs: &'a Inputs) -> Result<Option<(usize, &'a [f32])>> {
        let (name, extents) = (sense.array(), self.extents(sense));
        let found = match sense {
            Sense::Image => floats::<4>(inputs, name)?.map(|(d, v)| (d.to_vec(), v)),
            Sense::Video => floats::<5>(inputs, name)?.map(|(d, v)| (d.to_vec(), v)),
            Sense::Audio => floats::<3>(inputs, name)?.map(|(d, v)| (d.to_vec(), v)),
        };
        match found {
            None => Ok(None),
            Some((dims, _)) if dims[0] == 0 => Ok(None),
            Some((dims, values)) if dims[1..] == extents[..] => Ok(Some((dims[0], values))),
            Some((dims, _)) => Err(Error::Inputs(format!(
                "{name} are {dims:?}; this model reads {extents:?} of each, as its processor makes them"
            ))),
        }
    }

    /// Features f32[n rows,hidden] of n media.
    pub fn trace(&self, sense: Sense, p: &Parameters, x: &Tensor) -> Tensor {
        let features = match sense {
            Sense::Image => self.images(p, x),
            Sense::Video => self.clips(p, x),
            Sense::Audio => self.sounds(p, x),
        };
        features.reshape([x.dim(0) * self.grid(sense).iter().product::<usize>(), self.hidden])
    }

    /// f32[n,3,s,s] as [n,rows,hidden].
    fn images(&self, p: &Parameters, x: &Tensor) -> Tensor {
        let x = self.stem(p, x);
        let rows = x.dim(1);
        x + p.get("model.image.positions", [rows, self.hidden])
    }

    /// f32[n,frames,3,s,s] as [n,frames/2,rows,hidden].
    fn clips(&self, p: &Parameters, x: &Tensor) -> Tensor {
        let (n, pairs, s) = (x.dim(0), self.frames / 2, self.frame);
        let x = x.reshape([n * pairs, 2, 3, s, s]);
        let frame = |i: usize| x.narrow(1, i, i + 1).reshape([n * pairs, 3, s, s]);
        let (first, second) = (frame(0), frame(1));
        let change = (&second - &first).patchify([self.stride(), self.stride()]);
        let rows = change.dim(1);
        let x = self.stem(p, &first) + p.linear(&change, "model.video.change", self.hidden, true, None);
        let places = p.get("model.video.places", [rows, self.hidden]);
        let times = p.get("model.video.times", [pairs, 1, self.hidden]);
        x.reshape([n, pairs, rows, self.hidden]) + places + times
    }

    /// f32[n,bands,steps] as [n,rows,hidden].
    fn sounds(&self, p: &Parameters, x: &Tensor) -> Tensor {
        let rows = self.steps / self.patch;
        let x = x.transpose([0, 2, 1]).reshape([x.dim(0), rows, self.patch * self.bands]);
        let x = p.linear(&x, "model.audio.patch", self.hidden, true, None);
        x + p.get("model.audio.positions", [rows, self.hidden])
    }

    /// Images f32[n,3,s,s] through convolutions of 3 x 3 that halve the edge, as [n,rows,hidden].
    fn stem(&self, p: &Parameters, x: &Tensor) -> Tensor {
        let mut x = x.transpose([0, 2, 3, 1]);
        for (i, &channels) in self.channels.iter().chain([&self.hidden]).enumerate() {
            let last = i == self.channels.len();
            let activation = (!last).then_some(ACTIVATION);
            x = p.linear(&windows(&x), &format!("model.image.conv{i}"), channels, true, activation);
        }
        x.reshape([x.dim(0), x.dim(1) * x.dim(2), self.hidden])
    }
}

/// The 3 x 3 pixels around every second pixel of x [n,h,w,c], row by row, as [n,h/2,w/2,9c]; zeros beyond the
/// edges. They are the square of 2 x 2 that begins there, then its neighbours above, to the left and in the
/// corner: four moves of memory in place of nine.
fn windows(x: &Tensor) -> Tensor {
    let [n, h, w, c] = [x.dim(0), x.dim(1) / 2, x.dim(2) / 2, x.dim(3)];
    let squares = x.reshape([n, h, 2, w, 2, c]).transpose([0, 1, 3, 2, 4, 5]);
    // The last rows or columns of the squares one step up or to the left.
    let neighbours = |up: usize, left: usize| {
        let part = squares.slice([0, 0, 0, up, left, 0], [n, h - up, w - left, 2, 2, c], [1; 6]);
        let part = part.reshape([n, h - up, w - left, (2 - up) * (2 - left) * c]);
        part.pad(0.0, [0, up, left, 0], [0; 4], [0; 4])
    };
    let parts = [neighbours(0, 0), neighbours(1, 0), neighbours(0, 1), neighbours(1, 1)];
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 3).unwrap_or(squares)
}

impl Reader for Senses {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let mut runs = Vec::new();
        for sense in Sense::ALL {
            let Some((n, values)) = self.media(sense, inputs)? else { continue };
            let media = HostTensor::from_f32([vec![n], self.extents(sense)].concat(), values)?;
            runs.push(encoder_run("percept", weights, vec![(sense.array(), media)], |p, x| {
                vec![("features".into(), self.trace(sense, p, &x[0]))]
            })?);
        }
        Ok(runs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let mut kinds = Vec::new();
        for (sense, token) in Sense::ALL.into_iter().zip(self.tokens) {
            let n = self.media(sense, inputs)?.map_or(0, |(n, _)| n);
            kinds.push(Grids { token, features: vec![self.grid(sense); n], steps: Vec::new() });
        }
        let layout = mrope_layout(inputs, &kinds, Resume::AllAxes)?;
        let blocks = self.turns.blocks(&layout.ids);
        Ok(Layout { blocks: Some(blocks), ..layout })
    }
}

#[cfg(test)]
mod tests {
    use percept_graph::{Trace, reference};

    use super::*;

    // Worked out by hand on rows 1 2 3 4, 5 6 7 8 ...
    #[test]
    fn windows_are_centred_on_every_second_pixel() {
        let t = Trace::new("windows");
        let x = t.data("x", percept_graph::DType::F32, [1, 4, 4, 1]);
        t.output("y", &windows(&x));
        let graph = t.finish().unwrap();
        let pixels: Vec<f32> = (1..=16).map(|v| v as f32).collect();
        let given = HostTensor::from_f32([1, 4, 4, 1], &pixels).unwrap();
        let y = reference::evaluate(&graph, &[given]).unwrap()[0].values();
        let window = |i: usize| y[9 * i..9 * (i + 1)].iter().map(|v| *v as i32).collect::<Vec<_>>();
        assert_eq!(window(0), [1, 2, 5, 6, 0, 0, 0, 0, 0]);
        assert_eq!(window(1), [3, 4, 7, 8, 0, 0, 2, 6, 0]);
        assert_eq!(window(3), [11, 12, 15, 16, 7, 8, 10, 14, 6]);
    }
}
