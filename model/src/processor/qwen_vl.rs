//! Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: images at their own resolution, cut into patches in the order in which
//! the tower merges them.

use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::video::{Clip, Quota, Sampling};
use percept_modalities::{
    Aim, Array, ArrayPart, Error, Grid, Inputs, Media, MediaKind, Message, Patches, Pixels, Processor,
    Result, Values,
};

use super::prompt::{Placeholder, Prompt, insert_i64, mark_tokens, refuse, rows};
use super::settings::{CLIP_NORMALIZE, HALF_NORMALIZE, ProcessorFiles, Settings, Size};
use super::sound::Sound;
use super::still::Resize;

/// Which of the family it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum QwenVersion {
    Qwen2,
    Qwen2_5,
    Qwen3,
    Qwen3_5,
    /// Qwen2.5-Omni, whose placeholders have names of their own.
    Omni2_5,
    Omni3,
}

impl QwenVersion {
    /// Whether the time of every pair of frames stands before it in the prompt.
    pub fn tells_times(self) -> bool {
        matches!(self, QwenVersion::Qwen3 | QwenVersion::Qwen3_5)
    }
}

/// How images become patches.
#[derive(Debug, Clone)]
pub(super) struct Patching {
    /// How images are resized, if they are.
    resize: Option<Resize>,
    pub(super) min_pixels: usize,
    pub(super) max_pixels: usize,
    filter: Filter,
    normalize: Normalize,
    pub(super) patch: usize,
    pub(super) temporal: usize,
    pub(super) merge: usize,
}

impl Patching {
    /// `own_bounds`: the keys `min_pixels` and `max_pixels` go before those of `size`.
    pub(super) fn read(
        s: &Settings,
        own_bounds: bool,
        resize: Resize,
        pixels: (usize, usize),
        patch: usize,
        normalize: ([f64; 3], [f64; 3]),
    ) -> Result<Self> {
        // Files of the first releases give `min_pixels` and `max_pixels` instead, beside a size that nothing
        // reads.
        let size = match s.value("size") {
            Some(size) if own_bounds && size.get("max_pixels").is_some() => None,
            _ => s.size("size", |n| Size::Edges { shortest: n, longest: n })?,
        };
        let (shortest, longest) = match size {
            Some(Size::Edges { shortest, longest }) => (shortest, longest),
            None | Some(_) if own_bounds => pixels,
            None => pixels,
            Some(_) => {
                return Err(s.fault("`size` needs shortest_edge and longest_edge, the least and most pixels"));
            }
        };
        let bound = |key: &str, size: usize| if own_bounds { s.count(key, size) } else { Ok(size) };
        let p = Self {
            resize: s.get("do_resize", true)?.then_some(resize),
            min_pixels: bound("min_pixels", shortest)?,
            max_pixels: bound("max_pixels", longest)?,
            filter: s.filter(Filter::Bicubic)?,
            normalize: s.normalize(normalize)?,
            patch: s.count("patch_size", patch)?,
            temporal: s.count("temporal_patch_size", 2)?,
            merge: s.count("merge_size", 2)?,
        };
        // Images smaller than these bounds grow to them.
        let (most, factor) = (if own_bounds { 1 << 22 } else { 1 << 20 }, p.patch.saturating_mul(p.merge));
        if p.min_pixels > most {
            let why = format!("the smallest size, {} pixels, is more than the largest, {most}", p.min_pixels);
            return Err(s.fault(why));
        }
        if p.patch > 1 << 7 || factor > 1 << 10 || p.temporal > 8 {
            return Err(s.fault(format!(
                "patches of {} pixels and {} frames merged by {} are not those of a vision tower",
                p.patch, p.temporal, p.merge
            )));
        }
        Ok(p)
    }

    pub(super) fn factor(&self) -> usize {
        self.patch * self.merge
    }

    /// Brings an image to a size, or checks that it has one.
    pub(super) fn fit(&self, image: &Image, size: (usize, usize)) -> Result<Image> {
        if let Some(resize) = self.resize {
            return resize(image, size.1, size.0, self.filter);
        }
        let f = self.factor();
        if !image.width.is_multiple_of(f) || !image.height.is_multiple_of(f) {
            return Err(Error::Prompt(format!(
                "an image of {}x{} cannot be cut into patches: with `do_resize` off both must be multiples of {f}",
                image.width, image.height
            )));
        }
        Ok(image.clone())
    }

    /// Appends the patches of frames of one size, one for every `temporal` frames; the last frame is
    /// repeated. Within a patch the order is channel, frame, row, column. Gives the grid: frames, rows and
    /// columns of patches.
    pub(super) fn patches(&self, frames: &[Image], out: &mut Vec<f32>) -> [usize; 3] {
        let (p, m) = (self.patch, self.merge);
        let (gh, gw) = (frames[0].height / p, frames[0].width / p);
        let width = frames[0].width;
        let grid = [frames.len().div_ceil(self.temporal), gh, gw];
        out.reserve(grid.iter().product::<usize>() * 3 * self.temporal * p * p);
        for group in frames.chunks(self.temporal) {
            let planes: Vec<Vec<f32>> = group.iter().map(|f| image::normalize(f, &self.normalize)).collect();
            let plane = gh * p * width;
            for (block_row, block_column) in (0..gh / m).flat_map(|r| (0..gw / m).map(move |c| (r, c))) {
                for (row, column) in
                    (0..m).flat_map(|r| (0..m).map(move |c| (block_row * m + r, block_column * m + c)))
                {
                    for channel in 0..3 {
                        for t in 0..self.temporal {
                            let values = &planes[t.min(planes.len() - 1)][channel * plane..];
                            for y in row * p..(row + 1) * p {
                                out.extend_from_slice(&values[y * width + column * p..][..p]);
                            }
                        }
                    }
                }
            }
        }
        grid
    }

    /// Rows of features that a grid becomes.
    pub(super) fn features(&self, grid: [usize; 3]) -> usize {
        grid.iter().product::<usize>() / (self.merge * self.merge)
    }
}

/// The processor of a Qwen-VL model.
pub struct QwenVl {
    version: QwenVersion,
    prompt: Prompt,
    image: Patching,
    video: Patching,
    sampling: Sampling,
    /// Bound on a frame's share of a video's pixels, in feature rows; `None` unless the file asks for it.
    cap: Option<usize>,
    image_token: String,
    video_token: String,
    start_token: String,
    end_token: String,
    /// The template's own start and end around a video's placeholder stay, around those of its frames.
    outer: bool,
    ids: [(i64, i64); 2],
    /// What hears, in those that do.
    sound: Option<Sound>,
}

impl QwenVl {
    /// Reads the processor's files.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholders.
    pub fn new(version: QwenVersion, files: &ProcessorFiles, prompt: Prompt) -> Result<Self> {
        let three = version.tells_times();
        let (patch, area, video_normalize) = match version {
            QwenVersion::Qwen3 | QwenVersion::Qwen3_5 | QwenVersion::Omni3 => (16, 32 * 32, HALF_NORMALIZE),
            _ => (14, 28 * 28, CLIP_NORMALIZE),
        };
        let omni = matches!(version, QwenVersion::Omni2_5 | QwenVersion::Omni3);
        // Where videos have no file of their own, their bounds are not those of images.
        let bounds = ["size", "min_pixels", "max_pixels"];
        let borrowed = omni && files.video.file() == files.image.file();
        let v = &if borrowed { files.video.without(&bounds) } else { files.video.clone() };
        let image =
            Patching::read(&files.image, true, image::resize, (56 * 56, 28 * 28 * 1280), 14, CLIP_NORMALIZE)?;
        let video = Patching::read(
            v,
            !three,
            image::resize_tensor,
            (128 * area, 768 * area),
            patch,
            video_normalize,
        )?;
        let cap = v.get("cap_pixels_per_frame", false)?;
        let quota = match v.find("num_frames")? {
            Some(n) => Quota::Count(n),
            None => Quota::PerSecond {
                fps: v.get("fps", 2.0)?,
                least: v.count("min_frames", 4)?,
                most: v.count("max_frames", 768)?,
            },
        };
        let usual = match version {
            QwenVersion::Omni2_5 => ["<|IMAGE|>", "<|VIDEO|>"],
            _ => ["<|image_pad|>", "<|video_pad|>"],
        };
        let (image_token, video_token) =
            (prompt.token("image_token", usual[0]), prompt.token("video_token", usual[1]));
        Ok(Self {
            version,
            sampling: if three {
                Sampling::Spread(quota)
            } else {
                Sampling::Strided { quota, multiple: video.temporal }
            },
            cap: if cap {
                Some(v.count("max_video_tokens", if three { 768 } else { 128_000 })?)
            } else {
                None
            },
            ids: [(prompt.id(&image_token)?, 1), (prompt.id(&video_token)?, 2)],
            start_token: prompt.token("vision_start_token", "<|vision_start|>"),
            end_token: prompt.token("vision_end_token", "<|vision_end|>"),
            outer: version != QwenVersion::Qwen3 || files.processor.value("video_processor").is_some(),
            image_token,
            video_token,
            image,
            video,
            prompt,
            sound: None,
        })
    }

    /// The same with ears.
    pub fn with_sound(self, sound: Sound) -> Self {
        Self { sound: Some(sound), ..self }
    }

    /// Height and width to which a clip's frames are resized.
    fn frame_size(&self, frames: usize, height: usize, width: usize) -> Result<(usize, usize)> {
        let (p, factor) = (&self.video, self.video.factor());
        let floor = (p.min_pixels as f64 * 1.05) as usize;
        if self.version.tells_times() {
            let most = match self.cap {
                Some(cap) => (cap * factor * factor).min(p.max_pixels / frames).max(floor) * frames,
                None => p.max_pixels,
            };
            return clip_size(frames, p.temporal, (height, width), factor, p.min_pixels, most);
        }
        let most = match self.cap {
            Some(cap) => {
                let total = (cap as f64 * (factor * factor) as f64 * 0.9) as usize;
                p.max_pixels.min(total * p.temporal / frames).max(floor)
            }
            None => p.max_pixels,
        };
        smart_resize((height, width), factor, p.min_pixels, most)
    }

    /// What stands for a clip in the prompt.
    fn clip_text(&self, clip: &Clip, grid: [usize; 3]) -> Result<String> {
        let rows = self.video.features(grid);
        if !self.version.tells_times() {
            return self::rows(&self.video_token, rows);
        }
        let frame = self::rows(&self.video_token, rows / grid[0])?;
        let frames = timestamps(clip, self.video.temporal)
            .into_iter()
            .map(|seconds| format!("<{seconds:.1} seconds>{}{frame}{}", self.start_token, self.end_token));
        Ok(frames.collect())
    }
}

impl Processor for QwenVl {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "Qwen-VL", true, true, self.sound.is_some())?;
        let mut text = self.prompt.render(messages, &media.variables, aim)?;
        if !self.outer {
            // What transformers 4 does, and what Qwen3-VL was trained with; transformers 5, which writes
            // nested files, leaves the outer pair in place.
            let video = &self.video_token;
            text.replace(&format!("{}{video}{}", self.start_token, self.end_token), video);
        }

        let (mut pixels, mut grids, mut images) = (Vec::new(), Vec::new(), Vec::new());
        for image in &media.images {
            let p = &self.image;
            let size = smart_resize((image.height, image.width), p.factor(), p.min_pixels, p.max_pixels)?;
            let grid = p.patches(&[p.fit(image, size)?], &mut pixels);
            images.push(rows(&self.image_token, p.features(grid))?);
            grids.push(grid);
        }

        let (mut video_pixels, mut video_grids, mut videos) = (Vec::new(), Vec::new(), Vec::new());
        let mut seconds = Vec::new();
        for clip in &media.videos {
            let Some(first) = clip.frames.first() else {
                return Err(Error::Prompt("a video has no frames".into()));
            };
            let size = self.frame_size(clip.frames.len(), first.height, first.width)?;
            let frames = clip.frames.iter().map(|f| self.video.fit(f, size)).collect::<Result<Vec<_>>>()?;
            let grid = self.video.patches(&frames, &mut video_pixels);
            let sampled_fps = clip.indices.len() as f64 / clip.total_frames.max(1) as f64 * clip.fps;
            seconds.push((self.video.temporal as f64 / sampled_fps) as f32);
            videos.push(self.clip_text(clip, grid)?);
            video_grids.push(grid);
        }

        let heard = self
            .sound
            .as_ref()
            .map(|sound| Ok::<_, Error>((sound, sound.hear(&media.audios)?)))
            .transpose()?;
        let mut placeholders = vec![
            placeholder(MediaKind::Image, &self.image_token, images),
            placeholder(MediaKind::Video, &self.video_token, videos),
        ];
        placeholders.extend(heard.as_ref().map(|(sound, heard)| sound.placeholder(heard)));
        let mut inputs = self.prompt.encode(&text, &placeholders)?;
        mark_tokens(&mut inputs, "mm_token_type_ids", &self.ids);
        insert(&mut inputs, &self.image, MediaKind::Image, pixels, &grids);
        insert(&mut inputs, &self.video, MediaKind::Video, video_pixels, &video_grids);
        if let Some((sound, heard)) = heard {
            sound.insert(heard, &mut inputs);
        }
        let timed = match self.version {
            QwenVersion::Qwen2_5 => Some("second_per_grid_ts"),
            QwenVersion::Omni2_5 | QwenVersion::Omni3 => Some("video_second_per_grid"),
            QwenVersion::Qwen2 | QwenVersion::Qwen3 | QwenVersion::Qwen3_5 => None,
        };
        if let Some(name) = timed.filter(|_| !seconds.is_empty()) {
            let array = Array { dims: vec![seconds.len()], values: Values::F32(seconds) };
            inputs.arrays.insert(name.into(), array);
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
        self.sound.as_ref().map(|sound| sound.features.rate())
    }
}

fn placeholder(kind: MediaKind, token: &str, replacements: Vec<String>) -> Placeholder<'_> {
    Placeholder { kind, token, feature: token, replacements }
}

/// Adds the pixels of all media of a kind, and how many patches each is.
pub(super) fn insert(
    inputs: &mut Inputs,
    p: &Patching,
    kind: MediaKind,
    pixels: Vec<f32>,
    grids: &[[usize; 3]],
) {
    if grids.is_empty() {
        return;
    }
    let names = match kind {
        MediaKind::Video => ("pixel_values_videos", "video_grid_thw"),
        _ => ("pixel_values", "image_grid_thw"),
    };
    let width = 3 * p.temporal * p.patch * p.patch;
    let array = Array { dims: vec![pixels.len() / width, width], values: Values::F32(pixels) };
    inputs.arrays.insert(names.0.into(), array);
    let grid = grids.iter().flatten().map(|&n| n as i64).collect();
    insert_i64(inputs, names.1, vec![grids.len(), 3], grid);
    let mut start = 0;
    for (index, &grid) in grids.iter().enumerate() {
        let rows: usize = grid.iter().product();
        let patches = Patches { grid, patch: p.patch, temporal: p.temporal, merge: p.merge };
        let part = ArrayPart {
            array: names.0.into(),
            start,
            dims: vec![rows, width],
            pixels: Some(Pixels { normalize: p.normalize.clone(), patches: Some(patches) }),
        };
        start += rows * width;
        inputs.attach(kind, index, Some(Grid { of: "patches", extents: grid.to_vec() }), vec![part]);
    }
}

/// Seconds from the start, the mean of the first and last frame of every `group`; the last frame is repeated.
fn timestamps(clip: &Clip, group: usize) -> Vec<f64> {
    let at = |i: usize| clip.times.get(i).or(clip.times.last()).copied().unwrap_or(0.0);
    (0..clip.times.len()).step_by(group).map(|i| (at(i) + at(i + group - 1)) / 2.0).collect()
}

/// A size of which an edge is shorter than `factor`, scaled up until it is not; halves round to even (PaddleOCR-VL).
pub(super) fn grown((mut height, mut width): (usize, usize), factor: usize) -> (usize, usize) {
    let scaled =
        |edge: usize, by: usize| (edge as f64 * factor as f64 / by as f64).round_ties_even() as usize;
    if height < factor {
        (height, width) = (factor, scaled(width, height));
    }
    if width < factor {
        (height, width) = (scaled(height, width), factor);
    }
    (height, width)
}

/// Height and width, multiples of `factor` with an area within bounds, that keep the aspect ratio as well as
/// they can (`smart_resize` of Qwen2-VL). Halves round to even.
pub(super) fn smart_resize(
    (height, width): (usize, usize),
    factor: usize,
    least: usize,
    most: usize,
) -> Result<(usize, usize)> {
    check_ratio(height, width)?;
    Ok(within(1.0, 1, (height, width), factor, least, most))
}

/// The same for a clip, whose bounds are on the pixels of all its frames (`smart_resize` of Qwen3-VL's
/// videos).
pub(super) fn clip_size(
    frames: usize,
    temporal: usize,
    (mut height, mut width): (usize, usize),
    factor: usize,
    least: usize,
    most: usize,
) -> Result<(usize, usize)> {
    if frames < temporal {
        return Err(Error::Prompt(format!(
            "a video of {frames} frame(s) is too short: this model needs {temporal}"
        )));
    }
    if height < factor || width < factor {
        let scale = (factor as f64 / height as f64).max(factor as f64 / width as f64);
        (height, width) = ((height as f64 * scale) as usize, (width as f64 * scale) as usize);
    }
    check_ratio(height, width)?;
    let rounded = (frames as f64 / temporal as f64).round_ties_even() as usize * temporal;
    Ok(within(frames as f64, rounded, (height, width), factor, least, most))
}

fn check_ratio(height: usize, width: usize) -> Result<()> {
    let ratio = height.max(width) as f64 / height.min(width).max(1) as f64;
    if height == 0 || width == 0 || ratio > 200.0 {
        return Err(Error::Prompt(format!(
            "an image of {width}x{height} is too narrow: one side may be at most 200 times the other"
        )));
    }
    Ok(())
}

fn within(
    frames: f64,
    rounded_frames: usize,
    (height, width): (usize, usize),
    factor: usize,
    least: usize,
    most: usize,
) -> (usize, usize) {
    let (f, h, w) = (factor as f64, height as f64, width as f64);
    let multiple = |x: f64| x as usize * factor;
    let size = (multiple((h / f).round_ties_even()), multiple((w / f).round_ties_even()));
    let area = rounded_frames.saturating_mul(size.0).saturating_mul(size.1);
    if area > most {
        let beta = (frames * h * w / most as f64).sqrt();
        let down = |x: f64| multiple((x / beta / f).floor()).max(factor);
        (down(h), down(w))
    } else if area < least {
        let beta = (least as f64 / (frames * h * w)).sqrt();
        let up = |x: f64| multiple((x * beta / f).ceil());
        (up(h), up(w))
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_first_releases_have_their_bounds_beside_the_size() {
        let file = r#"{"size": {"min_pixels": 1, "max_pixels": 2}, "min_pixels": 3136, "max_pixels": 28224}"#;
        let settings = Settings::new("preprocessor_config.json", serde_json::from_str(file).unwrap());
        let p = Patching::read(&settings, true, image::resize, (9, 9), 14, CLIP_NORMALIZE).unwrap();
        assert_eq!((p.min_pixels, p.max_pixels), (3136, 28_224));
    }
}
