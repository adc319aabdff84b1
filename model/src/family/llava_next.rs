//! LLaVA-NeXT and LLaVA-OneVision: squares of an image's best resolution with their borders cut off, a
//! learned row at the end of each line; OneVision also reads videos, every frame at half the resolution.

use percept_graph::Tensor;
use percept_modalities::Inputs;
use serde_json::Value;

use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::Model;
use crate::family::llava::{View, no_grid, text};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, token};
use crate::processor::anyres::{Extent, Tiling, best_resolution, most_squares};
use crate::processor::{LlavaAnyres, ProcessorFiles};
use crate::vision::{Rows, encoder_run, floats, integers, media_layout};
use crate::weights::Weights;

/// A LLaVA-NeXT checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let decoder = text(c, &weights, "llama")?;
    let view = View::read(c, &weights, decoder.hidden, "default", -2)?;
    let defaults = vec![(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)];
    let reader = Squares::read(c, &weights, view, defaults, None, token(c, "image", 32_000)?, None)?;
    let files = processor_files(&weights)?;
    let processor = LlavaAnyres::next(&files, reader.view.described(), prompt(&weights)?)?;
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// A LLaVA-OneVision checkpoint.
///
/// # Errors
/// As [`open`].
pub fn open_one_vision(c: &Config, weights: Weights) -> Result<Model> {
    let decoder = text(c, &weights, "qwen2")?;
    let view = View::read(c, &weights, decoder.hidden, "full", -1)?;
    let steps = || (1..=6).map(|i| 384 * i);
    let defaults = steps().flat_map(|h| steps().map(move |w| (h, w))).collect();
    let aspect = match c.get("vision_aspect_ratio") {
        Some(_) => c.text("vision_aspect_ratio")?,
        None => "anyres_max_9",
    };
    let tokens = (token(c, "image", 151_646)?, Some(token(c, "video", 151_647)?));
    let reader = Squares::read(c, &weights, view, defaults, most_squares(aspect), tokens.0, tokens.1)?;
    let files: ProcessorFiles = processor_files(&weights)?;
    let processor = LlavaAnyres::one_vision(&files, reader.view.described(), aspect, prompt(&weights)?)?;
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// Images as squares, videos as small frames.
struct Squares {
    view: View,
    /// Rows and columns of features of one square.
    side: usize,
    resolutions: Vec<Extent>,
    /// More squares of features than this are shrunk.
    most: Option<usize>,
    newline: String,
    image_token: i32,
    video_token: Option<i32>,
}

/// One image's part of the inputs.
struct ImageSquares<'a> {
    values: &'a [f32],
    squares: usize,
    rows: Rows,
}

impl Squares {
    fn read(
        c: &Config,
        weights: &Weights,
        view: View,
        defaults: Vec<Extent>,
        most: Option<usize>,
        image_token: i32,
        video_token: Option<i32>,
    ) -> Result<Self> {
        let side = view.rows().isqrt();
        if side * side != view.rows() {
            return Err(no_grid(view.rows()));
        }
        let pair = |v: &Value| match v.as_array()?.as_slice() {
            [h, w] => Some((usize::try_from(h.as_u64()?).ok()?, usize::try_from(w.as_u64()?).ok()?)),
            _ => None,
        };
        let whole = |&(h, w): &Extent| {
            let fits = |n: usize| n > 0 && n <= 1 << 20 && n.is_multiple_of(view.tower.image);
            fits(h) && fits(w)
        };
        let resolutions = match c.get("image_grid_pinpoints") {
            None => defaults,
            Some(v) => {
                let all = v.as_array().and_then(|all| all.iter().map(pair).collect::<Option<Vec<_>>>());
                all.filter(|all| !all.is_empty() && all.iter().all(whole)).ok_or_else(|| {
                    c.error(
                        "image_grid_pinpoints",
                        &format!("must be pairs of multiples of {} pixels", view.tower.image),
                    )
                })?
            }
        };
        let newline = weights.prefix(&["", "model."], "image_newline");
        let newline = format!("{newline}image_newline");
        Ok(Self { view, side, resolutions, most, newline, image_token, video_token })
    }

    /// The images of the inputs, each with the rows of its squares' features that stand in the prompt.
    fn images<'a>(&self, inputs: &'a Inputs) -> Result<Vec<ImageSquares<'a>>> {
        let Some(([n, most, c, h, w], values)) = floats(inputs, "pixel_values")? else {
            return Ok(Vec::new());
        };
        self.view.tower.check([n, c, h, w])?;
        let sizes = match integers::<2>(inputs, "image_sizes")? {
            Some(([count, 2], sizes)) if count == n => sizes,
            _ => {
                return Err(Error::Inputs(format!(
                    "image_sizes must be [{n}, 2], a height and a width for each image"
                )));
            }
        };
        // Images that share a conversation of OneVision are not cut.
        let together: Vec<i64> = match integers::<1>(inputs, "batch_num_images")? {
            Some((_, counts)) => {
                counts.iter().flat_map(|&k| vec![k; usize::try_from(k).unwrap_or(0).min(n)]).collect()
            }
            None => vec![1; n],
        };
        let each = values.chunks_exact((most * c * h * w).max(1)).zip(sizes.chunks_exact(2)).enumerate();
        each.map(|(i, (values, size))| {
            let extent = |v: i64| usize::try_from(v).ok().filter(|v| *v > 0 && *v <= 1 << 30);
            let (Some(height), Some(width)) = (extent(size[0]), extent(size[1])) else {
                return Err(Error::Inputs(format!(
                    "image_sizes has {size:?}, which is no image's height and width"
                )));
            };
            let (squares, rows) = match together.get(i) {
                Some(1) => self.laid_out((height, width))?,
                _ => (1, Rows::pick(0..self.view.rows()).then(self.view.rows())),
            };
            if squares > most {
                return Err(Error::Inputs(format!(
                    "pixel_values has {most} squares for an image of {squares}"
                )));
            }
            Ok(ImageSquares { values: &values[..squares * c * h * w], squares, rows })
        })
        .collect()
    }

    /// How many squares an image is cut into with its small copy, and which rows of their features are read.
    /// The row behind all of them is the newline.
    fn laid_out(&self, size: Extent) -> Result<(usize, Rows)> {
        let resolution = best_resolution(size, &self.resolutions)
            .ok_or_else(|| Error::Inputs(format!("no resolution fits an image of {}x{}", size.1, size.0)))?;
        let (side, area) = (self.side, self.side.pow(2));
        let tiling = Tiling::new(size, resolution, self.view.tower.image, side, self.most);
        let squares = 1 + tiling.squares.0 * tiling.squares.1;
        let [rows, columns] = tiling.kept.clone();
        let at = |y: usize, x: usize| {
            let square = 1 + y / side * tiling.squares.1 + x / side;
            square * area + y % side * side + x % side
        };
        let grid = match tiling.resized {
            Some(to) => Rows::bilinear((rows.len(), columns.len()), to, false, |y, x| {
                at(rows.start + y, columns.start + x)
            }),
            None => {
                Rows::pick(rows.flat_map(|y| columns.clone().map(move |x| (y, x))).map(|(y, x)| at(y, x)))
            }
        };
        Ok((squares, Rows::pick(0..area).chain(grid.with_each(tiling.extent().0, squares * area))))
    }

    /// One run: the features of so many squares or frames, of which `rows` are read.
    fn run(
        &self,
        weights: &Weights,
        label: &str,
        n: usize,
        values: &[f32],
        rows: &Rows,
    ) -> Result<EncoderRun> {
        let mut arguments = vec![("pixels", self.view.pixels(n, values)?)];
        arguments.extend(rows.arguments()?);
        encoder_run(label, weights, arguments, |p, inputs| {
            let features = self.view.trace(p, &inputs[0]);
            let (n, t, d) = (features.dim(0), features.dim(1), features.dim(2));
            let newline = p.get(&self.newline, [1, d]);
            let table = Tensor::concat(&[&features.reshape([n * t, d]), &newline], 0).unwrap_or(newline);
            vec![("features".into(), Rows::of(&table, &inputs[1..]))]
        })
    }

    /// Videos and frames of the inputs.
    fn clips<'a>(&self, inputs: &'a Inputs) -> Result<Option<([usize; 2], &'a [f32])>> {
        let Some(([clips, frames, c, h, w], values)) = floats(inputs, "pixel_values_videos")? else {
            return Ok(None);
        };
        self.view.tower.check([clips, c, h, w])?;
        Ok((clips * frames > 0).then_some(([clips, frames], values)))
    }

    /// The pooled features of one frame of a run, which come after those of `before` frames.
    fn frame(&self, before: usize) -> Rows {
        let (side, half) = (self.side, self.side.div_ceil(2));
        Rows::bilinear((side, side), (half, half), false, |y, x| before * side * side + y * side + x)
    }
}

impl Reader for Squares {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let images = self.images(inputs)?;
        let mut runs = images
            .iter()
            .map(|p| self.run(weights, "anyres", p.squares, p.values, &p.rows))
            .collect::<Result<Vec<_>>>()?;
        if let Some(([clips, frames], values)) = self.clips(inputs)? {
            let frame = values.len() / (clips * frames);
            for clip in values.chunks_exact(frame * frames) {
                for (i, some) in clip.chunks(frame * self.view.tower.batch()).enumerate() {
                    let n = some.len() / frame;
                    let mut rows = (0..n).fold(Rows::default(), |all, k| all.chain(self.frame(k)));
                    if i * self.view.tower.batch() + n == frames {
                        rows = rows.then(n * self.side.pow(2));
                    }
                    runs.push(self.run(weights, "frames", n, some, &rows)?);
                }
            }
        }
        Ok(runs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let images = self.images(inputs)?.iter().map(|p| p.rows.len()).sum();
        let videos = self
            .clips(inputs)?
            .map_or(0, |([clips, frames], _)| clips * (frames * self.side.div_ceil(2).pow(2) + 1));
        let mut kinds = vec![(self.image_token, images)];
        kinds.extend(self.video_token.map(|token| (token, videos)));
        media_layout(inputs, &kinds)
    }
}
