//! Granite Docling: pages cut into square tiles that the prompt names by row and column, with a small copy of the whole
//! behind them.

use percept_modalities::image::{self, Filter, Image};
use percept_modalities::{
    Aim, Array, ArrayPart, Grid, Inputs, Media, MediaKind, Message, Pixels, Processor, Result, Values,
};

use super::internvl::{MOST_TILES, canvas, cut};
use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles, Settings, Size};
use super::still::{Still, StillDefaults};

/// Tiles along a page's edge: the vocabulary names no more rows and columns.
const MOST_ROWS: usize = 16;

/// The processor of Granite Docling.
pub struct GraniteDocling {
    prompt: Prompt,
    still: Still,
    edge: usize,
    /// Fewest and most tiles of a page.
    tiles: [usize; 2],
    dense: Option<Dense>,
    /// Feature rows of a tile.
    rows: usize,
    /// Tiles have four times as many, and the model is told.
    fine: bool,
    image_token: String,
}

/// Which pages are cut into more tiles than others.
struct Dense {
    /// How many they may have.
    tiles: usize,
    /// A page's width on the usual tiles is less than this share of its own.
    shrunk: Option<f64>,
    /// Its width by its height is more than the first, and no more than the second.
    aspect: [Option<f64>; 2],
}

impl Dense {
    fn read(s: &Settings) -> Result<Option<Self>> {
        let number = |key: &str| -> Result<Option<f64>> { Ok(s.find::<f64>(key)?.filter(|n| *n > 0.0)) };
        let (shrunk, least) = (number("dense_max_scale")?, number("dense_min_aspect")?);
        let tiles = s.get("dense_max_patches", 0usize)?;
        if tiles > MOST_TILES {
            return Err(
                s.fault(format!("`dense_max_patches` is {tiles}; an image has up to {MOST_TILES} tiles"))
            );
        }
        let asked = tiles > 0 && (shrunk.is_some() || least.is_some());
        Ok(asked.then_some(Self { tiles, shrunk, aspect: [least, number("dense_max_aspect")?] }))
    }

    fn selects(&self, image: &Image, edge: usize, usual: [usize; 2]) -> bool {
        let aspect = image.width as f64 / image.height as f64;
        let [least, most] = self.aspect;
        let shrinks = |scale: f64| {
            let (columns, _) = canvas(image, edge, usual, MOST_ROWS);
            ((columns * edge) as f64 / image.width as f64) < scale
        };
        least.is_none_or(|least| aspect > least)
            && most.is_none_or(|most| aspect <= most)
            && self.shrunk.is_none_or(shrinks)
    }
}

impl GraniteDocling {
    /// Reads the processor's files; tiles of `edge` pixels have `rows` rows of features on the coarse way.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks a token.
    pub fn new(files: &ProcessorFiles, edge: usize, rows: usize, prompt: Prompt) -> Result<Self> {
        let s = &files.image;
        let defaults = StillDefaults {
            size: Size::square(512),
            bare: Size::square,
            filter: Filter::Bicubic,
            crop: false,
            normalize: CLIP_NORMALIZE,
        };
        let still = Still::read(s, defaults)?;
        if still.size != Some(Size::square(edge)) || still.crop.is_some() {
            return Err(s.fault(format!("images must be resized to {edge}x{edge}, as the model reads them")));
        }
        let tiles = [s.count("min_patches", 1)?, s.count("max_patches", 32)?];
        if tiles[0] > tiles[1] || tiles[1] > MOST_TILES {
            let why = format!(
                "`min_patches` and `max_patches` are {tiles:?}; an image has up to {MOST_TILES} tiles"
            );
            return Err(s.fault(why));
        }
        let cuts = s.get("crop_to_patches", true)? && tiles[1] > 1;
        let given = files.processor.count("image_seq_len", 64)?;
        if given != rows {
            let why = format!("`image_seq_len` is {given}, the model has {rows} rows of features a tile");
            return Err(files.processor.fault(why));
        }
        let image_token = prompt.token("image_token", "<image>");
        prompt.id(&image_token)?;
        Ok(Self {
            still,
            edge,
            tiles: if cuts { tiles } else { [1, 1] },
            dense: if cuts { Dense::read(s)? } else { None },
            rows,
            fine: s.get("fine_route", false)?,
            image_token,
            prompt,
        })
    }

    /// A page's tiles, and how many columns and rows of them there are.
    fn cut(&self, image: &Image) -> Result<(Vec<Image>, (usize, usize))> {
        let [least, mut most] = self.tiles;
        if let Some(dense) = self.dense.as_ref().filter(|dense| dense.selects(image, self.edge, self.tiles)) {
            most = dense.tiles;
        }
        let grid =
            if most == 1 { (1, 1) } else { canvas(image, self.edge, [least.min(most), most], MOST_ROWS) };
        Ok((cut(image, self.edge, grid, &self.still)?, grid))
    }

    /// What stands for a page of so many columns and rows of tiles.
    fn text(&self, (columns, down): (usize, usize)) -> Result<String> {
        let fake = "<fake_token_around_image>";
        let features = rows(&self.image_token, self.rows * if self.fine { 4 } else { 1 })?;
        let mut text = String::new();
        for row in 1..=down {
            (1..=columns).for_each(|column| text += &format!("{fake}<row_{row}_col_{column}>{features}"));
            text.push('\n');
        }
        if columns * down > 1 {
            text += &format!("\n{fake}<global-img>{features}{fake}");
        }
        Ok(text)
    }
}

impl Processor for GraniteDocling {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "Granite Docling", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let pages = media.images.iter().map(|image| self.cut(image)).collect::<Result<Vec<_>>>()?;
        let placeholder = Placeholder {
            kind: MediaKind::Image,
            token: &self.image_token,
            feature: &self.image_token,
            replacements: pages.iter().map(|(_, grid)| self.text(*grid)).collect::<Result<_>>()?,
        };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        let mut values = Vec::new();
        for (index, (tiles, (columns, down))) in pages.iter().enumerate() {
            let part = ArrayPart {
                array: "pixel_values".into(),
                start: values.len(),
                dims: vec![tiles.len(), 3, self.edge, self.edge],
                pixels: Some(Pixels { normalize: self.still.normalize.clone(), patches: None }),
            };
            tiles.iter().for_each(|tile| values.extend(image::normalize(tile, &self.still.normalize)));
            let grid = Grid { of: "tiles", extents: vec![*down, *columns] };
            inputs.attach(MediaKind::Image, index, Some(grid), vec![part]);
        }
        if !values.is_empty() {
            let tiles = values.len() / (3 * self.edge.pow(2));
            let dims = vec![1, tiles, 3, self.edge, self.edge];
            inputs.arrays.insert("pixel_values".into(), Array { dims, values: Values::F32(values) });
            insert_i64(&mut inputs, "pixel_attention_mask", vec![1, tiles], vec![1; tiles]);
            if self.fine {
                insert_i64(&mut inputs, "tile_fine_mask", vec![1], vec![1]);
            }
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }
}
