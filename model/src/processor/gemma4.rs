//! Gemma 4: images and frames at their own aspect ratio with a bounded number of features, videos as single frames
//! behind their times, audio in frames of its spectrogram.

use percept_modalities::audio::{UsmMel, Waveform};
use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::video::{Clip, Quota, Sampling};
use percept_modalities::{
    Aim, Array, ArrayPart, Error, Grid, Inputs, Media, MediaKind, Message, Processor, Result, Values,
};

use super::naflex::patches;
use super::prompt::{Placeholder, Prompt, insert_i64, mark_tokens, refuse, rows};
use super::settings::{ProcessorFiles, Settings};
use super::still::Resize;

/// Numbers of features that an image may be given, at most.
const MOST_FEATURES: [usize; 5] = [70, 140, 280, 560, 1120];
/// Numbers that an image becomes, at most: some times those of published models.
const MOST_NUMBERS: usize = 1 << 25;
/// What pixels become where nothing is said: they stay between 0 and 1.
const NO_NORMALIZE: ([f64; 3], [f64; 3]) = ([0.0; 3], [1.0; 3]);

/// How images become rows of patches.
#[derive(Debug, Clone)]
struct Patching {
    /// Pixels of a patch's edge.
    patch: usize,
    /// Patches along the edge of the square that becomes one feature.
    pool: usize,
    /// Features of an image, at most; images with fewer are filled up with patches of zeros.
    most: usize,
    filter: Filter,
    normalize: Normalize,
    resize: Resize,
}

/// What the images of a prompt become.
#[derive(Default)]
struct Rows {
    patches: Vec<f32>,
    /// Column and row of each patch, -1 where there is none.
    places: Vec<i64>,
    /// Rows and columns of features of each image.
    grids: Vec<[usize; 2]>,
}

impl Patching {
    /// Reads the settings; `most` is the number of features where nothing is said, and the model cuts patches of
    /// `patch` pixels and averages squares of `pool` of them.
    fn read(
        s: &Settings,
        most: usize,
        [patch, pool]: [usize; 2],
        normalizes: bool,
        resize: Resize,
    ) -> Result<Self> {
        let own = [s.count("patch_size", 16)?, s.count("pooling_kernel_size", 3)?];
        if own != [patch, pool] {
            return Err(s.fault(format!(
                "`patch_size` is {} and `pooling_kernel_size` {}; the model has {patch} and {pool}",
                own[0], own[1]
            )));
        }
        let most = s.count("max_soft_tokens", most)?;
        if !MOST_FEATURES.contains(&most) {
            return Err(s.fault(format!("`max_soft_tokens` is {most}; it must be one of {MOST_FEATURES:?}")));
        }
        let numbers = [3, patch, patch, most, pool, pool].into_iter().fold(1usize, usize::saturating_mul);
        if numbers > MOST_NUMBERS {
            return Err(s.fault(format!(
                "`max_soft_tokens` is {most}, of {pool}x{pool} patches of {patch} pixels: {numbers} numbers an image, and \
                 {MOST_NUMBERS} is the most"
            )));
        }
        if !s.get("do_resize", true)? {
            return Err(s.fault("`do_resize` is false; images of any size are no whole number of features"));
        }
        let mut normalize = s.normalize(NO_NORMALIZE)?;
        if !s.get("do_normalize", normalizes)? {
            (normalize.mean, normalize.std) = NO_NORMALIZE;
        }
        Ok(Self { patch, pool, most, filter: s.filter(Filter::Bicubic)?, normalize, resize })
    }

    /// Patches of an image, at most.
    fn patches(&self) -> usize {
        self.most * self.pool.pow(2)
    }

    /// Rows and columns of features of an image: as large as its aspect ratio and the number of features allow.
    fn grid(&self, height: usize, width: usize) -> Result<[usize; 2]> {
        let unit = self.patch * self.pool;
        let (h, w) = (height as f64, width as f64);
        let scale = ((self.patches() * self.patch.pow(2)) as f64 / (h * w)).sqrt();
        let whole = |edge: f64| (scale * edge / unit as f64).floor() as usize;
        // A long strip has one row of features, and as many as it has room for.
        let strip = |long: f64, short: f64| ((long / short).floor() as usize).min(self.most);
        match [whole(h), whole(w)] {
            [0, 0] => Err(Error::Prompt(format!("an image of {width}x{height} has no room for a feature"))),
            [0, _] => Ok([1, strip(w, h)]),
            [_, 0] => Ok([strip(h, w), 1]),
            grid => Ok(grid),
        }
    }

    /// Appends an image's patches.
    fn append(&self, image: &Image, out: &mut Rows) -> Result<()> {
        let [down, along] = self.grid(image.height, image.width)?;
        let [rows, columns] = [down, along].map(|n| n * self.pool);
        let (height, width) = (rows * self.patch, columns * self.patch);
        let sized = (self.resize)(image, width, height, self.filter)?;
        patches(&sized, self.patch, &self.normalize, &mut out.patches);
        out.places.extend((0..rows * columns).flat_map(|i| [(i % columns) as i64, (i / columns) as i64]));
        out.grids.push([down, along]);
        let all = out.grids.len() * self.patches();
        out.patches.resize(all * 3 * self.patch.pow(2), 0.0);
        out.places.resize(2 * all, -1);
        Ok(())
    }

    /// Puts the patches of `n` images and their places among the inputs.
    fn insert(&self, inputs: &mut Inputs, [pixels, places]: [&str; 2], n: usize, rows: Rows) {
        let dims = vec![n, self.patches(), 3 * self.patch.pow(2)];
        inputs.arrays.insert(pixels.into(), Array { dims, values: Values::F32(rows.patches) });
        insert_i64(inputs, places, vec![n, self.patches(), 2], rows.places);
    }
}

/// The processor of Gemma 4.
pub struct Gemma4 {
    prompt: Prompt,
    image: Patching,
    video: Patching,
    image_token: String,
    video_token: String,
    /// Before and behind the features of an image or a frame.
    begin: String,
    end: String,
    sampling: Sampling,
    audio: Option<Sound>,
}

/// How audio is prepared, by a model that hears.
struct Sound {
    mel: UsmMel,
    token: String,
    /// Before and behind the features of a clip.
    begin: String,
    end: String,
}

/// The placeholder of videos, which has no role in tokenizer_config.json.
const VIDEO_TOKEN: &str = "<|video|>";

impl Gemma4 {
    /// Reads the processor's files; the model cuts patches of `cut[0]` pixels and averages squares of `cut[1]` of them,
    /// and reads frames of `mel` where it takes audio.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks a placeholder.
    pub fn new(files: &ProcessorFiles, cut: [usize; 2], mel: Option<UsmMel>, prompt: Prompt) -> Result<Self> {
        let v = &files.video;
        let frames = v.count("num_frames", 32)?;
        let sampling = match v.get("do_sample_frames", true)? {
            true => Sampling::Uniform(Quota::UpTo(frames)),
            false => Sampling::All,
        };
        let image_token = prompt.token("image_token", "<|image|>");
        prompt.id(&image_token)?;
        let sound = |mel: UsmMel| -> Result<Sound> {
            let token = prompt.token("audio_token", "<|audio|>");
            prompt.id(&token)?;
            let [begin, end] = [("boa_token", "<|audio>"), ("eoa_token", "<audio|>")]
                .map(|(role, usual)| prompt.token(role, usual));
            Ok(Sound { mel, token, begin, end })
        };
        Ok(Self {
            audio: mel.map(sound).transpose()?,
            image: Patching::read(&files.image, 280, cut, false, image::resize)?,
            video: Patching::read(v, 70, cut, true, image::resize_tensor)?,
            image_token,
            video_token: VIDEO_TOKEN.into(),
            begin: prompt.token("boi_token", "<|image>"),
            end: prompt.token("eoi_token", "<image|>"),
            sampling,
            prompt,
        })
    }

    /// What stands for an image or a frame of so many features.
    fn whole(&self, token: &str, [down, along]: [usize; 2]) -> Result<String> {
        Ok(format!("{}{}{}", self.begin, rows(token, down * along)?, self.end))
    }

    /// What stands for a clip whose frames have these features each.
    fn clip_text(&self, clip: &Clip, grid: [usize; 2]) -> Result<String> {
        let frame = self.whole(&self.video_token, grid)?;
        let at = |s: &f64| format!("{:02}:{:02} {frame}", (s / 60.0) as u64, (s % 60.0) as u64);
        Ok(clip.times.iter().map(at).collect::<Vec<_>>().join(" "))
    }
}

impl Sound {
    /// What stands for a clip: a token for each row that is left of its frames when they are halved twice.
    fn text(&self, clip: &Waveform) -> Result<String> {
        match self.mel.heard(clip.samples.len()) {
            0 => Err(Error::Prompt(format!(
                "an audio clip of {} samples is too short: this model needs one frame",
                clip.samples.len()
            ))),
            frames => {
                let features = rows(&self.token, frames.div_ceil(2).div_ceil(2))?;
                Ok(format!("{}{features}{}", self.begin, self.end))
            }
        }
    }

    /// Puts the frames of clips among the inputs, filled up to those of the longest, and which of them are heard.
    fn insert(&self, inputs: &mut Inputs, clips: &[Waveform]) -> Result<()> {
        let longest = clips.iter().map(|clip| clip.samples.len()).max().unwrap_or(0);
        let (frames, bands) = (self.mel.frames(longest), self.mel.bands());
        let (mut values, mut heard) = (Vec::new(), Vec::new());
        for (i, clip) in clips.iter().enumerate() {
            values.extend(self.mel.features(clip)?);
            heard.resize(values.len() / bands, 1);
            values.resize((i + 1) * frames * bands, 0.0);
            heard.resize((i + 1) * frames, 0);
        }
        let dims = vec![clips.len(), frames, bands];
        inputs.arrays.insert("input_features".into(), Array { dims, values: Values::F32(values) });
        insert_i64(inputs, "input_features_mask", vec![clips.len(), frames], heard);
        for index in 0..clips.len() {
            let part = |array: &str, dims: Vec<usize>| ArrayPart {
                array: array.into(),
                start: index * dims.iter().product::<usize>(),
                dims,
                pixels: None,
            };
            let parts = vec![
                part("input_features", vec![1, frames, bands]),
                part("input_features_mask", vec![1, frames]),
            ];
            inputs.attach(MediaKind::Audio, index, None, parts);
        }
        Ok(())
    }
}

impl Processor for Gemma4 {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "Gemma 4", true, true, self.audio.is_some())?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let (mut images, mut frames) = (Rows::default(), Rows::default());
        media.images.iter().try_for_each(|image| self.image.append(image, &mut images))?;
        let image_texts = images.grids.iter().map(|grid| self.whole(&self.image_token, *grid));
        let image_texts = image_texts.collect::<Result<Vec<_>>>()?;
        let mut clip_texts = Vec::new();
        for clip in &media.videos {
            clip.frames.iter().try_for_each(|frame| self.video.append(frame, &mut frames))?;
            let grid = frames.grids.last().filter(|_| !clip.frames.is_empty());
            let grid = grid.ok_or_else(|| Error::Prompt("a video has no frames".into()))?;
            clip_texts.push(self.clip_text(clip, *grid)?);
        }
        let of = |kind, token, replacements| Placeholder { kind, token, feature: token, replacements };
        let mut placeholders = vec![of(MediaKind::Image, &self.image_token, image_texts)];
        // A vocabulary without the token has no videos.
        if !clip_texts.is_empty() {
            placeholders.push(of(MediaKind::Video, &self.video_token, clip_texts));
        }
        if let Some(sound) = self.audio.as_ref().filter(|_| !media.audios.is_empty()) {
            let texts = media.audios.iter().map(|clip| sound.text(clip)).collect::<Result<_>>()?;
            placeholders.push(of(MediaKind::Audio, &sound.token, texts));
        }
        let mut inputs = self.prompt.encode(&text, &placeholders)?;
        drop(placeholders);
        let mut kinds = vec![(self.prompt.id(&self.image_token)?, 1)];
        kinds.extend(self.prompt.id(&self.video_token).ok().map(|id| (id, 2)));
        if let Some(sound) = &self.audio {
            kinds.push((self.prompt.id(&sound.token)?, 3));
            if !media.audios.is_empty() {
                sound.insert(&mut inputs, &media.audios)?;
            }
        }
        mark_tokens(&mut inputs, "mm_token_type_ids", &kinds);
        if !images.grids.is_empty() {
            let grids = std::mem::take(&mut images.grids);
            self.image.insert(&mut inputs, ["pixel_values", "image_position_ids"], grids.len(), images);
            let features = |i: usize| Some(Grid { of: "features", extents: grids[i].to_vec() });
            inputs.attach_rows(MediaKind::Image, "pixel_values", None, features);
        }
        if !frames.grids.is_empty() {
            let grids = std::mem::take(&mut frames.grids);
            self.video.insert(
                &mut inputs,
                ["pixel_values_videos", "video_position_ids"],
                grids.len(),
                frames,
            );
            let (most, numbers) = (self.video.patches(), 3 * self.video.patch.pow(2));
            let mut first = 0;
            for (index, count) in media.videos.iter().map(|clip| clip.frames.len()).enumerate() {
                let [down, along] = grids[first];
                let part = ArrayPart {
                    array: "pixel_values_videos".into(),
                    start: first * most * numbers,
                    dims: vec![count, most, numbers],
                    pixels: None,
                };
                let grid = Grid { of: "features", extents: vec![count, down, along] };
                inputs.attach(MediaKind::Video, index, Some(grid), vec![part]);
                first += count;
            }
            let counts: Vec<i64> = media.videos.iter().map(|clip| clip.frames.len() as i64).collect();
            insert_i64(&mut inputs, "num_frames_per_video", vec![counts.len()], counts);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn video_sampling(&self) -> Option<Sampling> {
        Some(self.sampling.clone())
    }

    fn audio_rate(&self) -> Option<u32> {
        self.audio.as_ref().map(|sound| sound.mel.rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of get_aspect_ratio_preserving_size, transformers 5.24, over 48 pixels a feature.
    #[test]
    fn grids_are_those_of_the_original() {
        let s = Settings::new("f", serde_json::Map::new());
        let p = Patching::read(&s, 280, [16, 3], false, image::resize).unwrap();
        let of = |height, width| p.grid(height, width).unwrap();
        assert_eq!(of(480, 640), [14, 19]);
        assert_eq!(of(33, 2000), [2, 130]);
        assert_eq!(of(3, 2000), [1, 280]);
        assert_eq!(of(4000, 5), [280, 1]);
        assert_eq!(of(1, 1), [16, 16]);
    }
}
