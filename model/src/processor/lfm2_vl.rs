//! LFM2-VL: an image at a size near its own, or, when it is large, cut into square tiles with a small copy behind them;
//! both as rows of patches.

use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::{
    Aim, Array, ArrayPart, Grid, Inputs, Media, MediaKind, Message, Processor, Result, Values,
};

use super::internvl::{MOST_TILES, canvas};
use super::naflex;
use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::settings::{HALF_NORMALIZE, ProcessorFiles, Settings};

/// Pixels of the edge of a tile, at most; published models have 512.
const MOST_EDGE: usize = 4096;

/// The processor of LFM2-VL.
pub struct Lfm2Vl {
    prompt: Prompt,
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Patches along the edge of a row of features.
    pub factor: usize,
    /// Fewest and most rows of features of an image that is not cut, or of the copy of one that is.
    tokens: [usize; 2],
    /// Fewest and most tiles of an image; `None` when none is cut.
    tiles: Option<[usize; 2]>,
    /// Pixels of the edge of a tile.
    edge: usize,
    /// An image with more pixels than the largest size times this is cut.
    tolerance: f64,
    thumbnail: bool,
    filter: Filter,
    normalize: Normalize,
    image_token: String,
    /// What stands around an image and before its copy, if anything does.
    marks: Option<[String; 3]>,
}

/// The parts of an image and how many rows and columns of tiles there are, none of an image that was not cut.
struct Cut {
    parts: Vec<Image>,
    tiles: [usize; 2],
}

impl Lfm2Vl {
    /// Reads the processor's files.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks a token.
    pub fn new(files: &ProcessorFiles, prompt: Prompt) -> Result<Self> {
        let s = &files.image;
        for (key, why) in [
            ("do_resize", "images of any size are no whole number of patches"),
            ("do_pad", "tiles of one prompt share an array"),
        ] {
            if !s.get(key, true)? {
                return Err(s.fault(format!("`{key}` is false; {why}")));
            }
        }
        let tiles = [s.count("min_tiles", 2)?, s.count("max_tiles", 10)?];
        let cuts = s.get("do_image_splitting", true)? && tiles != [1, 1];
        let token = |role: &str, usual: &str| -> Result<String> {
            let token = prompt.token(role, usual);
            prompt.id(&token)?;
            Ok(token)
        };
        let marks = match files.processor.get("use_image_special_tokens", true)? {
            true => Some([
                token("image_start_token", "<|image_start|>")?,
                token("image_end_token", "<|image_end|>")?,
                token("image_thumbnail_token", "<|img_thumbnail|>")?,
            ]),
            false => None,
        };
        let p = Self {
            patch: s.count("encoder_patch_size", 16)?,
            factor: s.count("downsample_factor", 2)?,
            tokens: [s.count("min_image_tokens", 64)?, s.count("max_image_tokens", 256)?],
            tiles: cuts.then_some(tiles),
            edge: s.count("tile_size", 512)?,
            tolerance: s.get("max_pixels_tolerance", 2.0)?,
            thumbnail: s.get("use_thumbnail", true)?,
            filter: s.filter(Filter::Bilinear)?,
            normalize: s.normalize(HALF_NORMALIZE)?,
            image_token: token("image_token", "<image>")?,
            marks,
            // The template writes them all.
            prompt: prompt.without_more_tokens(),
        };
        p.check(s, tiles)?;
        Ok(p)
    }

    fn check(&self, s: &Settings, [least, most]: [usize; 2]) -> Result<()> {
        if self.patch > 256 || self.factor > 64 || self.tokens[1] > 1 << 14 || self.tokens[0] > self.tokens[1]
        {
            return Err(s.fault(format!(
                "patches of {} pixels merged by {} into {:?} rows of features are not those of a vision tower",
                self.patch, self.factor, self.tokens
            )));
        }
        if self.tiles.is_none() {
            return Ok(());
        }
        if least > most || most > MOST_TILES {
            let why = format!(
                "`min_tiles` and `max_tiles` are {least} and {most}; an image has up to {MOST_TILES} tiles"
            );
            return Err(s.fault(why));
        }
        if self.edge > MOST_EDGE || !self.edge.is_multiple_of(self.unit()) {
            let why = format!(
                "`tile_size` is {}; it must be a multiple of {} and at most {MOST_EDGE}",
                self.edge,
                self.unit()
            );
            return Err(s.fault(why));
        }
        Ok(())
    }

    /// Pixels of the edge of a row of features.
    fn unit(&self) -> usize {
        self.patch * self.factor
    }

    /// Patches of a part, at most.
    fn most(&self) -> usize {
        let tile = if self.tiles.is_some() { (self.edge / self.patch).pow(2) } else { 0 };
        tile.max(self.tokens[1] * self.factor.pow(2))
    }

    /// Height and width, multiples of the unit, nearest to an image's whose rows of features are within bounds
    /// (`smart_resize`).
    fn size(&self, image: &Image) -> [usize; 2] {
        let unit = self.unit();
        let [least, most] = self.tokens.map(|n| (n * unit * unit) as f64);
        let edges = [image.height, image.width].map(|n| n as f64 / unit as f64);
        let area = (image.height * image.width) as f64;
        let near = edges.map(|n| (n.round_ties_even() as usize).max(1) * unit);
        let pixels = (near[0] * near[1]) as f64;
        if pixels > most {
            let by = (area / most).sqrt();
            edges.map(|n| ((n / by).floor() as usize).max(1) * unit)
        } else if pixels < least {
            let by = (least / area).sqrt();
            edges.map(|n| (n * by).ceil() as usize * unit)
        } else {
            near
        }
    }

    /// Whether an image is to be cut.
    fn is_large(&self, image: &Image) -> bool {
        let unit = self.unit();
        let near = |n: usize| ((n as f64 / unit as f64).round_ties_even() as usize * unit).max(self.patch);
        let most = (self.tokens[1] * unit * unit) as f64;
        (near(image.height) * near(image.width)) as f64 > most * self.tolerance
    }

    fn cut(&self, image: &Image) -> Result<Cut> {
        let sized = |[height, width]: [usize; 2]| image::resize_tensor(image, width, height, self.filter);
        let Some(bounds) = self.tiles.filter(|_| self.is_large(image)) else {
            return Ok(Cut { parts: vec![sized(self.size(image))?], tiles: [0, 0] });
        };
        let edge = self.edge;
        let (columns, down) = canvas(image, edge, bounds, usize::MAX);
        let whole = sized([down * edge, columns * edge])?;
        let places = (0..down).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let tile = |(row, column): (usize, usize)| image::crop(&whole, column * edge, row * edge, edge, edge);
        let mut parts = places.map(tile).collect::<Result<Vec<_>>>()?;
        // A single tile is written as an image that was not cut, and has no copy.
        if self.thumbnail && parts.len() > 1 {
            parts.push(sized(self.size(image))?);
        }
        let tiles = if down * columns > 1 { [down, columns] } else { [0, 0] };
        Ok(Cut { parts, tiles })
    }

    /// Rows of features of a part.
    fn features(&self, part: &Image) -> Result<String> {
        rows(&self.image_token, part.height / self.unit() * (part.width / self.unit()))
    }

    /// What stands for an image.
    fn text(&self, cut: &Cut) -> Result<String> {
        let [down, columns] = cut.tiles;
        let [start, end, copy] = self.marks.clone().unwrap_or_default();
        let mut text = start;
        for (i, part) in cut.parts.iter().enumerate() {
            if self.marks.is_some() && i < down * columns {
                text += &format!("<|img_row_{}_col_{}|>", i / columns + 1, i % columns + 1);
            } else if i > 0 && i == down * columns {
                text += &copy;
            }
            text += &self.features(part)?;
        }
        Ok(text + &end)
    }
}

impl Processor for Lfm2Vl {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "LFM2-VL", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let images = media.images.iter().map(|image| self.cut(image)).collect::<Result<Vec<_>>>()?;
        let placeholder = Placeholder {
            kind: MediaKind::Image,
            token: &self.image_token,
            feature: &self.image_token,
            replacements: images.iter().map(|cut| self.text(cut)).collect::<Result<_>>()?,
        };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        let (most, numbers) = (self.most(), 3 * self.patch.pow(2));
        let (mut pixels, mut mask, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, Cut { parts, tiles }) in images.iter().enumerate() {
            let start = pixels.len();
            for part in parts {
                let begun = pixels.len();
                let grid = naflex::patches(part, self.patch, &self.normalize, &mut pixels);
                pixels.resize(begun + most * numbers, 0.0);
                mask.extend((0..most).map(|i| i64::from(i < grid[0] * grid[1])));
                shapes.extend(grid.map(|n| n as i64));
            }
            let grid = (tiles[0] > 0).then(|| Grid { of: "tiles", extents: tiles.to_vec() });
            let dims = vec![parts.len(), most, numbers];
            let part = ArrayPart { array: "pixel_values".into(), start, dims, pixels: None };
            inputs.attach(MediaKind::Image, index, grid, vec![part]);
        }
        let n = shapes.len() / 2;
        if n > 0 {
            let array = Array { dims: vec![n, most, numbers], values: Values::F32(pixels) };
            inputs.arrays.insert("pixel_values".into(), array);
            insert_i64(&mut inputs, "pixel_attention_mask", vec![n, most], mask);
            insert_i64(&mut inputs, "spatial_shapes", vec![n, 2], shapes);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }
}
