//! InternVL: images cut into square tiles with a small copy of the whole behind them, videos as one tile a frame.

use percept_modalities::image::{self, Filter, Image};
use percept_modalities::video::{Clip, Sampling};
use percept_modalities::{
    Aim, Array, ArrayPart, Error, Grid, Inputs, Media, MediaKind, Message, Pixels, Processor, Result, Values,
};

use super::prompt::{Placeholder, Prompt, order, refuse, rows};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles, Settings, Size};
use super::still::{Still, StillDefaults};

/// Tiles of an image, at most; published models cut up to 12.
pub(super) const MOST_TILES: usize = 256;

/// The processor of InternVL.
pub struct InternVl {
    prompt: Prompt,
    image: Still,
    video: Still,
    edge: usize,
    /// Fewest and most tiles of an image.
    tiles: [usize; 2],
    /// Feature rows of a tile.
    rows: usize,
    begin_token: String,
    end_token: String,
    image_token: String,
    video_token: String,
    frames: usize,
}

/// The grid of tiles, as columns and rows, whose shape is the nearest to an image's. Of equally near ones a later one with
/// no fewer tiles is taken while half of its pixels are fewer than the image's. There are at most `along` on a side.
pub(super) fn canvas(image: &Image, edge: usize, [least, most]: [usize; 2], along: usize) -> (usize, usize) {
    let mut grids: Vec<(usize, usize)> = (1..=most.min(along))
        .flat_map(|columns| (1..=(most / columns).min(along)).map(move |rows| (columns, rows)))
        .filter(|(columns, rows)| columns * rows >= least)
        .collect();
    grids.sort_by_key(|(columns, rows)| columns * rows);
    let aspect = image.width as f64 / image.height as f64;
    let area = (image.width * image.height) as f64;
    let (mut best, mut nearest) = ((1, 1), f64::INFINITY);
    for (columns, rows) in grids {
        let off = (aspect - columns as f64 / rows as f64).abs();
        let fits = area > 0.5 * (edge * edge * columns * rows) as f64;
        if off < nearest || (off == nearest && fits) {
            (best, nearest) = ((columns, rows), off);
        }
    }
    best
}

/// An image's tiles on a grid of columns and rows, row by row, and of more than one the whole image behind them.
pub(super) fn cut(
    image: &Image,
    edge: usize,
    (columns, down): (usize, usize),
    still: &Still,
) -> Result<Vec<Image>> {
    let sized = image::resize(image, columns * edge, down * edge, still.filter)?;
    let places = (0..down).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let tile = |(row, column): (usize, usize)| image::crop(&sized, column * edge, row * edge, edge, edge);
    let mut tiles = places.map(tile).collect::<Result<Vec<_>>>()?;
    if tiles.len() > 1 {
        tiles.push(still.fit(image)?);
    }
    Ok(tiles)
}

impl InternVl {
    /// Reads the processor's files; tiles of `edge` pixels have `rows` rows of features.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks a token.
    pub fn new(files: &ProcessorFiles, edge: usize, rows: usize, prompt: Prompt) -> Result<Self> {
        let defaults = StillDefaults {
            size: Size::square(384),
            bare: Size::square,
            filter: Filter::Bicubic,
            crop: false,
            normalize: CLIP_NORMALIZE,
        };
        let still = |s: &Settings| -> Result<Still> {
            let still = Still::read(s, defaults)?;
            if still.size != Some(Size::square(edge)) || still.crop.is_some() {
                return Err(
                    s.fault(format!("images must be resized to {edge}x{edge}, as the model reads them"))
                );
            }
            Ok(still)
        };
        let tiles = [files.image.count("min_patches", 1)?, files.image.count("max_patches", 12)?];
        if tiles[0] > tiles[1] || tiles[1] > MOST_TILES {
            let why = format!(
                "`min_patches` and `max_patches` are {tiles:?}; an image has up to {MOST_TILES} tiles"
            );
            return Err(files.image.fault(why));
        }
        let given = files.processor.count("image_seq_length", rows)?;
        if given != rows {
            return Err(files.processor.fault(format!(
                "`image_seq_length` is {given}, the model has {rows} rows of features a tile"
            )));
        }
        let token = |role: &str, usual: &str| -> Result<String> {
            let token = prompt.token(role, usual);
            prompt.id(&token)?;
            Ok(token)
        };
        Ok(Self {
            image: still(&files.image)?,
            video: Still { resize: image::resize_tensor, ..still(&files.video)? },
            edge,
            tiles,
            rows,
            begin_token: token("start_image_token", "<img>")?,
            end_token: token("end_image_token", "</img>")?,
            image_token: token("context_image_token", "<IMG_CONTEXT>")?,
            video_token: prompt.token("video_token", "<video>"),
            frames: files.video.count("num_frames", 8)?,
            prompt,
        })
    }

    /// An image's tiles row by row and, of more than one, the whole image behind them; also their rows and columns.
    fn cut(&self, image: &Image) -> Result<(Vec<Image>, [usize; 2])> {
        let (columns, down) = match self.tiles[1] {
            1 => (1, 1),
            _ => canvas(image, self.edge, self.tiles, MOST_TILES),
        };
        let tiles = cut(image, self.edge, (columns, down), &self.image)?;
        Ok((tiles, [down, columns]))
    }

    /// What stands for so many tiles.
    fn text(&self, tiles: usize) -> Result<String> {
        let features = rows(&self.image_token, self.rows.saturating_mul(tiles))?;
        Ok(format!("{}{features}{}", self.begin_token, self.end_token))
    }

    fn clip_text(&self, clip: &Clip) -> Result<String> {
        let frame = |i: usize| Ok(format!("Frame{}: {}", i + 1, self.text(1)?));
        Ok((0..clip.frames.len()).map(frame).collect::<Result<Vec<_>>>()?.join("\n"))
    }
}

impl Processor for InternVl {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "InternVL", true, true, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let images = media.images.iter().map(|image| self.cut(image)).collect::<Result<Vec<_>>>()?;
        let mut clips = Vec::new();
        for clip in &media.videos {
            if clip.frames.is_empty() {
                return Err(Error::Prompt("a video has no frames".into()));
            }
            clips.push(clip.frames.iter().map(|frame| self.video.fit(frame)).collect::<Result<Vec<_>>>()?);
        }
        let placeholders = [
            Placeholder {
                kind: MediaKind::Image,
                token: &self.image_token,
                feature: &self.image_token,
                replacements: images
                    .iter()
                    .map(|(tiles, _)| self.text(tiles.len()))
                    .collect::<Result<_>>()?,
            },
            Placeholder {
                kind: MediaKind::Video,
                token: &self.video_token,
                feature: &self.image_token,
                replacements: media.videos.iter().map(|clip| self.clip_text(clip)).collect::<Result<_>>()?,
            },
        ];
        let mut inputs = self.prompt.encode(&text, &placeholders)?;
        // Tiles stand in the order of the prompt.
        let (mut values, mut parts, mut next) = (Vec::new(), Vec::new(), [0, 0]);
        for kind in order(&text.text, [&self.image_token, &self.video_token]) {
            let index = next[kind];
            next[kind] += 1;
            let (tiles, still, grid) = match kind {
                0 => {
                    let (tiles, grid) = &images[index];
                    let grid = Grid { of: "tiles", extents: grid.to_vec() };
                    (tiles, &self.image, Some(grid))
                }
                _ => (&clips[index], &self.video, None),
            };
            let part = ArrayPart {
                array: "pixel_values".into(),
                start: values.len(),
                dims: vec![tiles.len(), 3, self.edge, self.edge],
                pixels: Some(Pixels { normalize: still.normalize.clone(), patches: None }),
            };
            tiles.iter().for_each(|tile| values.extend(image::normalize(tile, &still.normalize)));
            parts.push(([MediaKind::Image, MediaKind::Video][kind], index, grid, part));
        }
        if !values.is_empty() {
            let dims = vec![values.len() / (3 * self.edge.pow(2)), 3, self.edge, self.edge];
            inputs.arrays.insert("pixel_values".into(), Array { dims, values: Values::F32(values) });
        }
        for (kind, index, grid, part) in parts {
            inputs.attach(kind, index, grid, vec![part]);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn video_sampling(&self) -> Option<Sampling> {
        Some(Sampling::Middles(self.frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of get_optimal_tiled_canvas, transformers 5.24.
    #[test]
    fn tiles_are_those_of_the_original() {
        let of = |width: usize, height: usize, most: usize| {
            canvas(&Image { width, height, rgb: Vec::new() }, 448, [1, most], MOST_TILES)
        };
        assert_eq!(of(324, 208, 6), (3, 2));
        assert_eq!(of(1920, 1080, 12), (4, 2));
        assert_eq!(of(448, 448, 12), (1, 1));
        assert_eq!(of(1000, 1000, 12), (3, 3));
        assert_eq!(of(100, 2000, 12), (1, 12));
        assert_eq!(of(640, 480, 12), (4, 3));
    }
}
