//! GLM-4V and GLM-4.6V: images and frames at their own size, cut into patches as in Qwen2-VL; every pair of frames is an
//! image in the prompt, with its time behind it.

use percept_modalities::image;
use percept_modalities::video::{Clip, Sampling};
use percept_modalities::{Aim, Array, Error, Inputs, Media, MediaKind, Message, Processor, Result, Values};

use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::qwen_vl::{Patching, clip_size, insert};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles};

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GlmVersion {
    V,
    V46,
}

/// The processor of a GLM-4V model.
pub struct Glm4v {
    version: GlmVersion,
    prompt: Prompt,
    image: Patching,
    video: Patching,
    sampling: Sampling,
    image_token: String,
    video_token: String,
    image_id: i64,
    /// What stands before and behind a clip.
    clip_ids: [i64; 2],
}

const BEGIN: &str = "<|begin_of_image|>";
const END: &str = "<|end_of_image|>";

impl Glm4v {
    /// Reads the processor's files, for a tower of patches of so many pixels and frames, of which squares are merged.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks a token.
    pub fn new(
        version: GlmVersion,
        files: &ProcessorFiles,
        tower: [usize; 3],
        prompt: Prompt,
    ) -> Result<Self> {
        let (i, v) = (&files.image, &files.video);
        let image =
            Patching::read(i, false, image::resize, (112 * 112, 28 * 28 * 15_000), 14, CLIP_NORMALIZE)?;
        let sizes = (112 * 112, 28 * 28 * 2 * 30_000);
        let video = Patching::read(v, false, image::resize_tensor, sizes, 14, CLIP_NORMALIZE)?;
        for (settings, p) in [(i, &image), (v, &video)] {
            if [p.patch, p.temporal, p.merge] != tower {
                let why =
                    format!("patches of {} pixels and {} frames merged by {}", p.patch, p.temporal, p.merge);
                return Err(settings.fault(format!("{why} are not the model's {tower:?}")));
            }
        }
        let (image_token, video_token) =
            (prompt.token("image_token", "<|image|>"), prompt.token("video_token", "<|video|>"));
        [BEGIN, END].into_iter().try_for_each(|token| prompt.id(token).map(drop))?;
        Ok(Self {
            version,
            sampling: match version {
                GlmVersion::V => {
                    Sampling::Ticks { fps: v.get("fps", 2.0)?, seconds: v.get("max_duration", 300.0)? }
                }
                GlmVersion::V46 => Sampling::Groups(video.temporal),
            },
            image_id: prompt.id(&image_token)?,
            clip_ids: [prompt.id("<|begin_of_video|>")?, prompt.id("<|end_of_video|>")?],
            image_token,
            video_token,
            image,
            video,
            prompt,
        })
    }

    /// What stands for a clip in the prompt.
    fn clip_text(&self, clip: &Clip, grid: [usize; 3]) -> Result<String> {
        let frame = rows(&self.image_token, self.video.features(grid) / grid[0])?;
        // That of the first frame of each pair; transformers counts in pairs whatever a patch holds.
        let times: Vec<f64> = clip.times.iter().copied().step_by(2).collect();
        let time = |i: usize| times.get(i).or(times.last()).copied().unwrap_or(0.0);
        let shown = |seconds: f64| match self.version {
            GlmVersion::V => format!("{seconds:.0}", seconds = seconds.trunc()),
            GlmVersion::V46 => format!("{seconds:.1} seconds"),
        };
        Ok((0..grid[0]).map(|i| format!("{BEGIN}{frame}{END}{}", shown(time(i)))).collect())
    }

    /// Adds `mm_token_type_ids` i64[1,t]: 1 at rows of images, 2 at those of clips.
    fn mark(&self, inputs: &mut Inputs) {
        let Some(Array { dims, values: Values::I64(ids) }) = inputs.arrays.get("input_ids") else { return };
        let mut within = 0i64;
        let mark = |&id: &i64| {
            within += i64::from(id == self.clip_ids[0]) - i64::from(id == self.clip_ids[1]);
            if id == self.image_id { 1 + i64::from(within > 0) } else { 0 }
        };
        let (dims, marks) = (dims.clone(), ids.iter().map(mark).collect());
        insert_i64(inputs, "mm_token_type_ids", dims, marks);
    }
}

impl Processor for Glm4v {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "GLM-4V", true, true, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let fitted = |p: &Patching, frames: usize, image: &image::Image| -> Result<(usize, usize)> {
            let size = (image.height, image.width);
            clip_size(frames, p.temporal, size, p.factor(), p.min_pixels, p.max_pixels)
        };
        let (mut pixels, mut grids, mut images) = (Vec::new(), Vec::new(), Vec::new());
        for image in &media.images {
            let p = &self.image;
            let size = fitted(p, p.temporal, image)?;
            let grid = p.patches(&[p.fit(image, size)?], &mut pixels);
            images.push(rows(&self.image_token, p.features(grid))?);
            grids.push(grid);
        }
        let (mut video_pixels, mut video_grids, mut videos) = (Vec::new(), Vec::new(), Vec::new());
        for clip in &media.videos {
            let Some(first) = clip.frames.first() else {
                return Err(Error::Prompt("a video has no frames".into()));
            };
            let size = fitted(&self.video, clip.frames.len(), first)?;
            let frames = clip.frames.iter().map(|f| self.video.fit(f, size)).collect::<Result<Vec<_>>>()?;
            let grid = self.video.patches(&frames, &mut video_pixels);
            videos.push(self.clip_text(clip, grid)?);
            video_grids.push(grid);
        }
        let feature = &self.image_token;
        let placeholders = [
            Placeholder { kind: MediaKind::Image, token: feature, feature, replacements: images },
            Placeholder { kind: MediaKind::Video, token: &self.video_token, feature, replacements: videos },
        ];
        let mut inputs = self.prompt.encode(&text, &placeholders)?;
        self.mark(&mut inputs);
        insert(&mut inputs, &self.image, MediaKind::Image, pixels, &grids);
        insert(&mut inputs, &self.video, MediaKind::Video, video_pixels, &video_grids);
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn video_sampling(&self) -> Option<Sampling> {
        Some(self.sampling.clone())
    }
}
