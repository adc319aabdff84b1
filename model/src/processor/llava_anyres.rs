//! LLaVA-NeXT and LLaVA-OneVision: an image as a small copy of itself and the squares of its best resolution.

use percept_modalities::image::{self, Filter, Image};
use percept_modalities::video::{Clip, Quota, Sampling};
use percept_modalities::{
    Aim, Array, Error, Grid, Inputs, Media, MediaKind, Message, Processor, Result, Values,
};

use super::anyres::{Extent, Tiling, best_resolution, fitted, most_squares};
use super::llava::{CLIP_STILL, Tower};
use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles, Settings, Size};
use super::still::{Still, StillDefaults, mean_colour, pad_to_square, stack};

/// Where OneVision's processor differs from NeXT's.
struct OneVision {
    /// Feature rows of one square.
    rows: usize,
    /// More squares of features than this are shrunk.
    most: Option<usize>,
    video: Still,
    video_token: String,
    /// Frames of a clip; a shorter clip has all of its frames, as in transformers, whose processor picks none
    /// by itself.
    frames: usize,
}

/// The processor of LLaVA-NeXT and LLaVA-OneVision.
pub struct LlavaAnyres {
    prompt: Prompt,
    still: Still,
    /// The small copy's extent, before it is fitted like every square.
    whole: Extent,
    square: usize,
    resolutions: Vec<Extent>,
    tower: Tower,
    image_token: String,
    one_vision: Option<OneVision>,
}

impl LlavaAnyres {
    /// Reads LLaVA-NeXT's files.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholder.
    pub fn next(files: &ProcessorFiles, tower: Tower, prompt: Prompt) -> Result<Self> {
        let resolutions = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)];
        Self::new(files, tower, prompt, CLIP_STILL, resolutions.to_vec())
    }

    /// Reads LLaVA-OneVision's files; `aspect` is the model's `vision_aspect_ratio`.
    ///
    /// # Errors
    /// As [`LlavaAnyres::next`].
    pub fn one_vision(files: &ProcessorFiles, tower: Tower, aspect: &str, prompt: Prompt) -> Result<Self> {
        let still = StillDefaults {
            size: Size::square(384),
            bare: Size::square,
            filter: Filter::Bicubic,
            crop: false,
            normalize: CLIP_NORMALIZE,
        };
        let steps = || (1..=6).map(|i| 384 * i);
        let resolutions = steps().flat_map(|h| steps().map(move |w| (h, w))).collect();
        let rows = (tower.image / tower.patch).pow(2);
        let mut this = Self::new(files, tower, prompt, still, resolutions)?;
        let aspect: String = files.processor.get("vision_aspect_ratio", aspect.to_owned())?;
        let usual: String = files.processor.get("video_token", "<video>".into())?;
        this.one_vision = Some(OneVision {
            rows: files.processor.count("num_image_tokens", rows)?,
            most: most_squares(&aspect),
            video: Still { resize: image::resize_tensor, ..Still::read(&files.video, still)? },
            video_token: this.prompt.token("video_token", &usual),
            frames: files.video.count("num_frames", 32)?,
        });
        Ok(this)
    }

    fn new(
        files: &ProcessorFiles,
        tower: Tower,
        prompt: Prompt,
        defaults: StillDefaults,
        resolutions: Vec<Extent>,
    ) -> Result<Self> {
        let still = Still::read(&files.image, defaults)?;
        let whole = match still.size {
            Some(Size::Exact { height, width }) => (height, width),
            Some(Size::Shortest(edge)) => (edge, edge),
            _ => return Err(files.image.fault("this model's images cannot go with `do_resize` off")),
        };
        let square = still.crop.map_or(whole.0, |c| c.0);
        let resolutions = resolutions_of(&files.image, resolutions, square)?;
        let usual: String = files.processor.get("image_token", "<image>".into())?;
        let image_token = prompt.token("image_token", &usual);
        prompt.id(&image_token)?;
        let tower = tower.or(files)?;
        Ok(Self { prompt, still, whole, square, resolutions, tower, image_token, one_vision: None })
    }

    /// The small copy and the squares of an image, at the size that the tower reads.
    fn squares(&self, image: &Image, resolution: Extent) -> Result<Vec<Image>> {
        let resize = |(height, width): Extent| image::resize(image, width, height, self.still.filter);
        let (height, width) = fitted((image.height, image.width), resolution);
        let (top, left) = ((resolution.0 - height) / 2, (resolution.1 - width) / 2);
        let (right, bottom) = (resolution.1 - width - left, resolution.0 - height - top);
        let padded = image::pad(&resize((height, width))?, left, top, right, bottom, [0; 3])?;
        let mut out = vec![self.still.fit(&resize(self.whole)?)?];
        for top in (0..resolution.0).step_by(self.square) {
            for left in (0..resolution.1).step_by(self.square) {
                let square = image::crop(&padded, left, top, self.square, self.square)?;
                out.push(self.still.fit(&square)?);
            }
        }
        Ok(out)
    }

    /// Placeholders of an image that is cut into squares which the tower reads at `edge` pixels.
    fn placeholders(&self, size: Extent, resolution: Extent, edge: Extent) -> usize {
        match &self.one_vision {
            Some(one) => {
                let side = one.rows.isqrt();
                let tiling = Tiling::new(size, resolution, edge.0, side, one.most);
                (tiling.features() + one.rows).saturating_sub(usize::from(self.tower.strategy == "default"))
            }
            None => {
                let tiling = Tiling::new(size, resolution, edge.0, edge.0 / self.tower.patch, None);
                tiling.features().saturating_add(self.tower.features(edge.0, edge.1))
            }
        }
    }
}

/// `image_grid_pinpoints`, which must be whole squares.
fn resolutions_of(s: &Settings, default: Vec<Extent>, square: usize) -> Result<Vec<Extent>> {
    let resolutions: Vec<Extent> = s.get("image_grid_pinpoints", default)?;
    let whole = |n: usize| n > 0 && n <= 1 << 20 && n.is_multiple_of(square);
    // Four times the pixels of the largest published one, in at most so many squares.
    let large = |(h, w): &&Extent| h * w > 1 << 24 || (h / square) * (w / square) > 256;
    if let Some((h, w)) = resolutions.iter().filter(|r| whole(r.0) && whole(r.1)).find(large) {
        return Err(s.fault(format!(
            "`image_grid_pinpoints` has [{h}, {w}], more pixels or squares of {square} than any image is cut into"
        )));
    }
    match resolutions.iter().find(|r| !whole(r.0) || !whole(r.1)) {
        Some((h, w)) => Err(s.fault(format!(
            "`image_grid_pinpoints` has [{h}, {w}], which are not multiples of {square} pixels"
        ))),
        None if resolutions.is_empty() => Err(s.fault("`image_grid_pinpoints` is empty")),
        None => Ok(resolutions),
    }
}

impl Processor for LlavaAnyres {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "LLaVA-NeXT", true, self.one_vision.is_some(), false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        // OneVision does not cut images that share a prompt.
        let whole_only = self.one_vision.is_some() && media.images.len() > 1;

        let (mut images, mut texts, mut grids) = (Vec::new(), Vec::new(), Vec::new());
        for image in &media.images {
            let size = (image.height, image.width);
            if let (true, Some(one)) = (whole_only, &self.one_vision) {
                let padded = pad_to_square(image, mean_colour(&self.still.normalize))?;
                images.push(vec![self.still.fit(&padded)?]);
                let dropped = usize::from(self.tower.strategy == "default");
                texts.push(rows(&self.image_token, one.rows + 1 - dropped)?);
                grids.push([1, 1]);
                continue;
            }
            let resolution = best_resolution(size, &self.resolutions).ok_or_else(|| {
                Error::Prompt(format!("no resolution of this model fits an image of {}x{}", size.1, size.0))
            })?;
            let squares = self.squares(image, resolution)?;
            grids.push([resolution.0 / self.square, resolution.1 / self.square]);
            let edge = (squares[0].height, squares[0].width);
            texts.push(rows(&self.image_token, self.placeholders(size, resolution, edge))?);
            images.push(squares);
        }

        let kind = MediaKind::Image;
        let mut placeholders = vec![Placeholder {
            kind,
            token: &self.image_token,
            feature: &self.image_token,
            replacements: texts,
        }];
        let mut clips = Vec::new();
        if let Some(one) = &self.one_vision {
            let pooled = one.rows.isqrt().div_ceil(2).pow(2);
            let of = |clip: &Clip| rows(&one.video_token, clip.frames.len().saturating_mul(pooled) + 1);
            let replacements = media.videos.iter().map(of).collect::<Result<_>>()?;
            let (kind, token) = (MediaKind::Video, &one.video_token);
            placeholders.push(Placeholder { kind, token, feature: token, replacements });
            for clip in &media.videos {
                clips.push(clip.frames.iter().map(|f| one.video.fit(f)).collect::<Result<Vec<_>>>()?);
            }
        }

        let mut inputs = self.prompt.encode(&text, &placeholders)?;
        if !images.is_empty() {
            let sizes = media.images.iter().flat_map(|p| [p.height as i64, p.width as i64]).collect();
            insert_i64(&mut inputs, "image_sizes", vec![images.len(), 2], sizes);
            if self.one_vision.is_some() {
                insert_i64(&mut inputs, "batch_num_images", vec![1], vec![images.len() as i64]);
            }
            inputs.arrays.insert("pixel_values".into(), padded_stack(&images, &self.still)?);
            let tiles = |i: usize| Some(Grid { of: "tiles", extents: grids[i].to_vec() });
            inputs.attach_rows(kind, "pixel_values", Some(&self.still.normalize), tiles);
        }
        if let (Some(one), false) = (&self.one_vision, clips.is_empty()) {
            if let Some(other) = clips.iter().find(|c| c.is_empty() || c.len() != clips[0].len()) {
                return Err(Error::Prompt(format!(
                    "videos of {} and {} frames cannot share a prompt of this model: it needs equally many, at least one",
                    clips[0].len(),
                    other.len()
                )));
            }
            let lead = vec![clips.len(), clips[0].len()];
            let frames: Vec<Image> = clips.into_iter().flatten().collect();
            inputs.arrays.insert("pixel_values_videos".into(), stack(&frames, &one.video.normalize, lead)?);
            let normalize = Some(&one.video.normalize);
            inputs.attach_rows(MediaKind::Video, "pixel_values_videos", normalize, |_| None);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn video_sampling(&self) -> Option<Sampling> {
        self.one_vision.as_ref().map(|one| Sampling::Uniform(Quota::UpTo(one.frames)))
    }
}

/// f32[images, most squares, 3, h, w]: images of fewer squares end in zeros.
fn padded_stack(images: &[Vec<Image>], still: &Still) -> Result<Array> {
    let most = images.iter().map(Vec::len).max().unwrap_or(0);
    let mut values = Vec::new();
    let mut dims = Vec::new();
    for squares in images {
        let array = stack(squares, &still.normalize, vec![squares.len()])?;
        let Values::F32(mut of_image) = array.values else { continue };
        of_image.resize(of_image.len() / squares.len() * most, 0.0);
        values.extend(of_image);
        dims = array.dims;
    }
    dims[0] = most;
    dims.insert(0, images.len());
    Ok(Array { dims, values: Values::F32(values) })
}
