//! SmolVLM and Idefics3: images cut into square tiles with a small copy of the whole behind them, videos as
//! single frames between timestamps.

use std::collections::BTreeMap;

use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::text::ChatTemplate;
use percept_modalities::video::{Clip, Sampling};
use percept_modalities::{
    Aim, Array, ArrayPart, Content, Error, Grid, Inputs, Media, MediaKind, Message, Part, Pixels, Processor,
    Result, Values,
};

use super::prompt::{Placeholder, Prompt, insert_i64, order, refuse};
use super::settings::{HALF_NORMALIZE, ProcessorFiles, Settings, Size};
use super::transcript::Transcript;
use super::words::in_words;

/// Longest edge that any resize may give.
const MOST: usize = 4096;

/// Tiles of an image, at most; published models cut up to 144.
const MOST_TILES: usize = 256;

/// The template of conversations with videos: transformers takes it whatever template the checkpoint has.
const VIDEO_TEMPLATE: &str = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}\
{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}\
{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}\
{% elif line['type'] == 'image' %}{{ '<image>' }}{% elif line['type'] == 'video' %}{{ '<video>' }}{% endif %}{% endfor %}\
<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/// How images become tiles.
#[derive(Debug, Clone)]
struct Tiling {
    /// Longest edge before tiling; `None` leaves the image's size.
    longest: Option<usize>,
    exact: Option<(usize, usize)>,
    tile: usize,
    split: bool,
    filter: Filter,
    normalize: Normalize,
}

impl Tiling {
    fn read(s: &Settings, size: Size) -> Result<Self> {
        let tile = match s.size("max_image_size", Size::Longest)? {
            None => 364,
            Some(Size::Longest(edge)) => edge,
            Some(other) => {
                return Err(s.fault(format!("`max_image_size` is {other:?}; it needs longest_edge")));
            }
        };
        let (longest, exact) = match (s.get("do_resize", true)?, size) {
            (false, _) => (None, None),
            (true, Size::Longest(edge)) => (Some(edge), None),
            (true, Size::Exact { height, width }) if height.max(width) <= MOST => {
                (None, Some((height, width)))
            }
            (true, other) => {
                return Err(s.fault(format!(
                    "`size` is {other:?}; it needs longest_edge, or a height and a width up to {MOST}"
                )));
            }
        };
        Ok(Self {
            longest,
            exact,
            tile,
            split: s.get("do_image_splitting", true)?,
            filter: s.filter(Filter::Lanczos)?,
            normalize: s.normalize(HALF_NORMALIZE)?,
        })
    }

    fn resize(&self, image: &Image, (height, width): (usize, usize)) -> Result<Image> {
        image::resize(image, width, height, self.filter)
    }

    fn first_size(&self, height: usize, width: usize) -> (usize, usize) {
        match (self.longest, self.exact) {
            (Some(edge), _) => longest_edge(height, width, edge),
            (None, Some(size)) => size,
            (None, None) => (height, width),
        }
    }

    /// Appends an image's tiles, row by row, and the whole image last; gives the rows and columns, zeros when
    /// it is not cut.
    fn tiles(&self, image: &Image, out: &mut Vec<Image>) -> Result<(usize, usize)> {
        let t = self.tile;
        let sized = self.resize(image, self.first_size(image.height, image.width))?;
        if !self.split {
            out.push(self.resize(&sized, (t, t))?);
            return Ok((0, 0));
        }
        let (height, width) = multiple_of_tile(sized.height, sized.width, t);
        let sized = self.resize(&sized, (height, width))?;
        let (rows, columns) = (height / t, width / t);
        if rows * columns > MOST_TILES {
            return Err(Error::Prompt(format!(
                "an image of {}x{} would be cut into {rows}x{columns} tiles of {t} pixels, more than {MOST_TILES}",
                image.width, image.height
            )));
        }
        if rows * columns == 1 {
            out.push(sized);
            return Ok((0, 0));
        }
        for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
            out.push(image::crop(&sized, column * t, row * t, t, t)?);
        }
        out.push(self.resize(&sized, (t, t))?);
        Ok((rows, columns))
    }

    /// Normalized images, one after the other.
    fn planes(&self, images: &[Image]) -> Vec<f32> {
        images.iter().flat_map(|p| image::normalize(p, &self.normalize)).collect()
    }

    /// A video's frame: two successive resizes, never cut.
    fn frame(&self, image: &Image) -> Result<Image> {
        let (height, width) = self.first_size(image.height, image.width);
        let sized = image::resize_tensor(image, width, height, self.filter)?;
        image::resize_tensor(&sized, self.tile, self.tile, self.filter)
    }
}

/// Height and width with this longest edge. Sizes are truncated and odd shorter edges grow by one; images
/// grow too.
fn longest_edge(height: usize, width: usize, edge: usize) -> (usize, usize) {
    let ratio = width as f64 / height as f64;
    let even = |n: usize| (n + n % 2).max(1);
    let (h, w) = if width >= height {
        (even((edge as f64 / ratio) as usize), edge)
    } else {
        (edge, even((edge as f64 * ratio) as usize))
    };
    let ratio = w as f64 / h as f64;
    if w >= h && w > MOST {
        (((MOST as f64 / ratio) as usize).max(1), MOST)
    } else if h > w && h > MOST {
        (MOST, ((MOST as f64 * ratio) as usize).max(1))
    } else {
        (h, w)
    }
}

/// Height and width grown to multiples of the tile; the shorter edge follows the longer one's growth first.
fn multiple_of_tile(height: usize, width: usize, tile: usize) -> (usize, usize) {
    let ratio = width as f64 / height as f64;
    let up = |n: usize| n.div_ceil(tile).max(1) * tile;
    if width >= height {
        let w = up(width);
        (up((w as f64 / ratio) as usize), w)
    } else {
        let h = up(height);
        (h, up((h as f64 * ratio) as usize))
    }
}

/// The processor of SmolVLM and Idefics3.
pub struct SmolVlm {
    prompt: Prompt,
    video_template: ChatTemplate,
    image: Tiling,
    video: Tiling,
    rows: usize,
    image_token: String,
    video_token: String,
    fake_token: String,
    global_token: String,
    fps: f64,
    frames: usize,
}

impl SmolVlm {
    /// Reads the processor's files.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholder.
    pub fn new(files: &ProcessorFiles, prompt: Prompt) -> Result<Self> {
        let still = Size::Longest(4 * 364);
        let v = &files.video;
        // Published files keep the video's settings under one key of their own, which goes before the others.
        let sampling = match v.value("video_sampling") {
            Some(serde_json::Value::Object(values)) => Settings::new("video_sampling", values.clone()),
            _ => Settings::default(),
        };
        let size = match (v.size("size", Size::Longest)?, sampling.size("video_size", Size::Longest)?) {
            // A size of its own is written over `video_size` when both are there.
            (Some(size), _) | (None, Some(size)) => size,
            (None, None) => still,
        };
        let image_token = prompt.token("image_token", "<image>");
        prompt.id(&image_token)?;
        let mut video = Tiling::read(v, size)?;
        video.split = false;
        Ok(Self {
            image: Tiling::read(&files.image, files.image.size("size", Size::Longest)?.unwrap_or(still))?,
            video,
            rows: files.processor.count("image_seq_len", 169)?,
            video_template: ChatTemplate::new(VIDEO_TEMPLATE, BTreeMap::new())?,
            video_token: prompt.token("video_token", "<video>"),
            fake_token: prompt.token("fake_image_token", "<fake_token_around_image>"),
            global_token: prompt.token("global_image_token", "<global-img>"),
            fps: sampling.get("fps", v.get("fps", 1.0)?)?,
            frames: sampling.count("max_frames", v.count("num_frames", 64)?)?,
            image_token,
            prompt,
        })
    }

    /// Refuses files for a tower of larger images, or for one that gives more rows of features of an image.
    ///
    /// # Errors
    /// Names the setting.
    pub fn fits(&self, edge: usize, rows: usize) -> Result<()> {
        for (key, given, most) in [
            ("image_seq_len", self.rows, rows),
            ("max_image_size", self.image.tile, edge),
            ("max_image_size", self.video.tile, edge),
        ] {
            if given > most {
                return Err(Error::Config {
                    file: "processor_config.json".into(),
                    why: format!("`{key}` is {given}, the model's tower has {most}"),
                });
            }
        }
        Ok(())
    }

    fn placeholder<'a>(
        &'a self,
        kind: MediaKind,
        token: &'a str,
        replacements: Vec<String>,
    ) -> Placeholder<'a> {
        Placeholder { kind, token, feature: &self.image_token, replacements }
    }

    /// What stands for one whole image.
    fn whole(&self) -> String {
        let (fake, global) = (&self.fake_token, &self.global_token);
        format!("{fake}{global}{}{fake}", self.image_token.repeat(self.rows))
    }

    /// What stands for an image of so many rows and columns of tiles.
    fn image_text(&self, (rows, columns): (usize, usize)) -> String {
        if rows == 0 {
            return self.whole();
        }
        let mut text = String::new();
        for row in 1..=rows {
            for column in 1..=columns {
                text += &self.fake_token;
                text += &format!("<row_{row}_col_{column}>");
                text += &self.image_token.repeat(self.rows);
            }
            text.push('\n');
        }
        text.push('\n');
        text + &self.whole()
    }

    /// What stands for a clip; `frames` is the count that the introduction names.
    fn clip_text(&self, clip: &Clip, frames: usize) -> String {
        let duration = clip.seconds() as u64;
        let mut text = format!(
            "You are provided the following series of {} frames from a {} [H:MM:SS] video.\n",
            in_words(frames),
            clock(duration)
        );
        for second in &clip.times {
            text += &format!("\nFrame from {:02}:{:02}:", (second / 60.0) as u64, (second % 60.0) as u64);
            text += &self.whole();
        }
        text + "\n\n"
    }
}

/// Seconds as Python prints a `timedelta`: "0:01:05", "1 day, 2:00:00".
fn clock(seconds: u64) -> String {
    let (days, s) = (seconds / 86_400, seconds % 86_400);
    let day = match days {
        0 => String::new(),
        1 => "1 day, ".into(),
        n => format!("{n} days, "),
    };
    format!("{day}{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// The same messages, text as the one part of a list: the template for videos looks into lists only.
fn in_parts(messages: &[Message]) -> Vec<Message> {
    let parts = |m: &Message| match &m.content {
        Content::Text(text) => Content::Parts(vec![Part::Text { text: text.clone() }]),
        parts => parts.clone(),
    };
    messages.iter().map(|m| Message { content: parts(m), ..m.clone() }).collect()
}

impl Processor for SmolVlm {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "SmolVLM", true, true, false)?;
        let text = if media.videos.is_empty() {
            self.prompt.render(messages, &media.variables, aim)?
        } else {
            Transcript::render(messages, aim, |m, prompt| {
                self.video_template.render(&in_parts(m), prompt, &media.variables)
            })?
        };

        let (mut texts, mut images, mut grids) = (Vec::new(), Vec::new(), Vec::new());
        for image in &media.images {
            let mut tiles = Vec::new();
            let grid = self.image.tiles(image, &mut tiles)?;
            texts.push(self.image_text(grid));
            // An image that is not cut is one tile.
            grids.push(vec![grid.0.max(1), grid.1.max(1)]);
            images.push(self.image.planes(&tiles));
        }
        let (mut videos, mut clips) = (Vec::new(), Vec::new());
        let longest = media.videos.iter().map(|c| c.frames.len()).max().unwrap_or(0);
        for clip in &media.videos {
            if clip.frames.is_empty() {
                return Err(Error::Prompt("a video has no frames".into()));
            }
            videos.push(self.clip_text(clip, longest));
            let frames = clip.frames.iter().map(|f| self.video.frame(f)).collect::<Result<Vec<_>>>()?;
            clips.push(self.video.planes(&frames));
        }

        let edge = if images.is_empty() { self.video.tile } else { self.image.tile };
        if !clips.is_empty() && edge != self.video.tile {
            return Err(Error::Prompt(format!(
                "images of {edge} pixels and frames of {} cannot share a prompt",
                self.video.tile
            )));
        }
        let area = edge * edge;
        let has_images = !images.is_empty();
        let counts = [&images, &clips].map(|all| all.iter().map(Vec::len).collect::<Vec<_>>());
        let (lead, values) = if images.is_empty() {
            // Shorter clips end in empty frames, which the model leaves out.
            let lead = vec![clips.len(), longest];
            clips.iter_mut().for_each(|c| c.resize(longest * 3 * area, 0.0));
            (lead, clips.concat())
        } else {
            let (mut images, mut clips) = (images.into_iter(), clips.into_iter());
            let kinds = order(&text.text, [&self.image_token, &self.video_token]);
            let in_order =
                kinds.into_iter().filter_map(|kind| if kind == 0 { images.next() } else { clips.next() });
            let values: Vec<f32> = in_order.flatten().collect();
            (vec![1, values.len() / (3 * area)], values)
        };

        let placeholders = [
            self.placeholder(MediaKind::Image, &self.image_token, texts),
            self.placeholder(MediaKind::Video, &self.video_token, videos),
        ];
        let mut inputs = self.prompt.encode(&text, &placeholders)?;
        if !values.is_empty() {
            let mask = vec![1; values.len() / 3];
            insert_i64(&mut inputs, "pixel_attention_mask", [lead.clone(), vec![edge; 2]].concat(), mask);
            let dims = [lead, vec![3, edge, edge]].concat();
            inputs.arrays.insert("pixel_values".into(), Array { dims, values: Values::F32(values) });
        }
        let mut start = 0;
        for (kind, index) in inputs.shown.iter().map(|s| (s.kind, s.index)).collect::<Vec<_>>() {
            let (values, normalize, grid) = match kind {
                MediaKind::Video => (counts[1][index], &self.video.normalize, None),
                _ => {
                    let grid = Grid { of: "tiles", extents: grids[index].clone() };
                    (counts[0][index], &self.image.normalize, Some(grid))
                }
            };
            let part = ArrayPart {
                array: "pixel_values".into(),
                start,
                dims: vec![1, values / (3 * area), 3, edge, edge],
                pixels: Some(Pixels { normalize: normalize.clone(), patches: None }),
            };
            // Clips alone are padded to the longest one.
            start += if has_images { values } else { longest * 3 * area };
            inputs.attach(kind, index, grid, vec![part]);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn video_sampling(&self) -> Option<Sampling> {
        Some(Sampling::Centered { fps: self.fps, most: self.frames, skip: 1.0 })
    }
}
