//! Models of two towers that embed images and texts in one space, where close means similar: CLIP and SigLIP.

use std::collections::BTreeMap;

use percept_graph::{AttentionSpec, DType, Graph, HostTensor, Role, Tensor, TensorType, Trace};
use percept_modalities::image::Image;
use percept_modalities::text::Tokenizer;
use percept_modalities::{Array, Values};

use crate::block::{Attention, BlockSpec, Context, Mlp, Norm, Stack};
use crate::error::{Error, Result};
use crate::parameters::{Parameters, product};
use crate::processor::{NaFlex, Still};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// A model that embeds images and texts in one space.
pub struct Contrastive {
    /// The parameters of both towers.
    pub weights: Weights,
    /// The tower for images.
    pub vision: VisionTower,
    /// How the rows of an image become one.
    pub vision_pool: VisionPool,
    /// The tower for texts.
    pub text: TextTower,
    /// How images are prepared.
    pub images: ImagePreparation,
    /// Cuts texts into tokens.
    pub tokenizer: Tokenizer,
    /// Similarities have `logit_bias` added.
    pub logit_bias: bool,
}

/// How images are prepared.
#[derive(Debug, Clone)]
pub enum ImagePreparation {
    /// At the tower's size.
    Still(Still),
    /// In their own aspect.
    NaFlex(NaFlex),
}

/// How the rows of an image become one.
#[derive(Debug, Clone, PartialEq)]
pub enum VisionPool {
    /// CLIP: the class row, normalized, times `visual_projection` [width,hidden].
    ClassRow {
        /// Width of the common space.
        width: usize,
    },
    /// SigLIP: a learned query attends to all normalized rows, and an MLP follows.
    Attention {
        /// The attention of the query over the rows.
        attention: Box<Attention>,
        /// The MLP that follows it.
        mlp: Mlp,
    },
}

/// The tower for texts.
#[derive(Debug, Clone, PartialEq)]
pub struct TextTower {
    /// Rows of the table.
    pub vocab: usize,
    /// Tokens of a text; shorter ones are padded.
    pub length: usize,
    /// The blocks that a text's rows go through.
    pub stack: Stack,
    /// The norm behind the last block.
    pub norm: Norm,
    /// Which row stands for the text.
    pub pool: TextPool,
    /// Width of the common space.
    pub width: usize,
}

/// Which row stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPool {
    /// CLIP: the first end token, times `text_projection`.
    End(i32),
    /// CLIP with the configuration of its first releases: the first of the greatest ids, as their end token
    /// was.
    Greatest,
    /// SigLIP: the last row, through `text_model.head`.
    Last,
}

impl Contrastive {
    /// Width of the common space.
    pub fn width(&self) -> usize {
        self.text.width
    }

    /// Images as arrays under the names that transformers gives them: `pixel_values` f32[n,channels,image,image], or
    /// the three arrays of [`NaFlex::batch`].
    ///
    /// # Errors
    /// When the processor does not bring them to the tower's size.
    pub fn prepare(&self, images: &[Image]) -> Result<BTreeMap<String, Array>> {
        let named = |(name, array): (&str, Array)| (name.to_string(), array);
        match &self.images {
            ImagePreparation::Still(still) => {
                let pixels = still.batch(images)?;
                let expected = self.vision.pixels(images.len());
                if pixels.dims != expected.dims {
                    return Err(Error::Inputs(format!(
                        "the image processor gives {:?}, the vision tower reads {:?}",
                        pixels.dims, expected.dims
                    )));
                }
                Ok([("pixel_values", pixels)].map(named).into())
            }
            ImagePreparation::NaFlex(naflex) => Ok(naflex.batch(images)?.map(named).into()),
        }
    }

    /// The inputs of [`Contrastive::image_graph`], made of the arrays of [`Contrastive::prepare`].
    ///
    /// # Errors
    /// When an array is missing or of another kind, or memory cannot be had.
    pub fn image_arguments(&self, arrays: &BTreeMap<String, Array>) -> Result<Vec<(String, HostTensor)>> {
        let wrong = |name: &str| Error::Inputs(format!("{name} are missing, or of another kind"));
        let pixels = match arrays.get("pixel_values") {
            Some(Array { dims, values: Values::F32(values) }) => HostTensor::from_f32(dims.clone(), values)?,
            _ => return Err(wrong("pixel_values")),
        };
        let mut arguments = vec![("pixel_values".to_string(), pixels)];
        if let ImagePreparation::NaFlex(NaFlex { most, .. }) = &self.images {
            let Some(Array { dims, values: Values::I64(shapes) }) = arrays.get("spatial_shapes") else {
                return Err(wrong("spatial_shapes"));
            };
            let (mut segments, mut shares) = (Vec::new(), Vec::new());
            for shape in shapes.chunks_exact(2) {
                let grid = [shape[0], shape[1]].map(|edge| edge.max(1) as usize);
                let count = grid[0].saturating_mul(grid[1]);
                if count > *most {
                    return Err(Error::Inputs(format!(
                        "spatial_shapes has {grid:?}, more than {most} patches"
                    )));
                }
                segments.extend((0..*most).map(|i| i32::from(i >= count)));
                shares.extend(self.vision.shares(grid, *most));
            }
            let n = dims.first().copied().unwrap_or(0);
            let shares = HostTensor::from_f32([n, *most, self.vision.rows()], &shares)?;
            arguments.push(("segments".into(), HostTensor::from_i32([n, *most], &segments)?));
            arguments.push(("shares".into(), shares));
        }
        Ok(arguments)
    }

    /// Texts as the tower reads them: i64[n,length]. Longer texts are cut, and shorter ones padded.
    ///
    /// # Errors
    /// When a text cannot be cut into tokens, or the tokenizer names no padding.
    pub fn tokens(&self, texts: &[String]) -> Result<Array> {
        let mut values = Vec::new();
        for text in texts {
            let padded = self.tokenizer.encode_to_length(text, self.text.length)?;
            values.extend(padded.ids.into_iter().map(i64::from));
        }
        Ok(Array { dims: vec![texts.len(), self.text.length], values: Values::I64(values) })
    }

    /// For each text of [`Contrastive::tokens`], the row that stands for it, counted through all texts.
    pub fn ends(&self, ids: &[i64]) -> Vec<i32> {
        let length = self.text.length;
        let row = |ids: &[i64]| match self.text.pool {
            TextPool::End(end) => ids.iter().position(|&id| id == i64::from(end)).unwrap_or(0),
            TextPool::Greatest => {
                let greatest = ids.iter().max();
                ids.iter().position(|id| Some(id) == greatest).unwrap_or(0)
            }
            TextPool::Last => length - 1,
        };
        ids.chunks_exact(length).enumerate().map(|(i, ids)| (i * length + row(ids)) as i32).collect()
    }

    /// The graph that embeds `batch` images: from `pixel_values` f32[batch,channels,image,image] to
    /// `embedding` f32[batch,width] of length one. In their own aspect they are patches f32[batch,most,numbers], with
    /// `segments` i32[batch,most], of which 0 are those of the image, and `shares` f32[batch,most,positions].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn image_graph(&self, batch: usize) -> Result<Graph> {
        let t = Trace::new(format!("image.{batch}"));
        let p = Parameters::new(&t, &self.weights);
        let (x, segments) = match &self.images {
            ImagePreparation::Still(_) => {
                let pixels = t.input("pixel_values", Role::Data, self.vision.pixels(batch));
                (self.vision.trace(&p, &pixels), None)
            }
            ImagePreparation::NaFlex(naflex) => {
                let patches = t.data("pixel_values", DType::F32, [batch, naflex.most, naflex.numbers()]);
                let segments = t.data("segments", DType::I32, [batch, naflex.most]);
                let shares = t.data("shares", DType::F32, [batch, naflex.most, self.vision.rows()]);
                (self.vision.mixed(&p, &patches, &segments, &shares), Some(segments))
            }
        };
        let hidden = self.vision.hidden;
        let pooled = match &self.vision_pool {
            VisionPool::ClassRow { width } => {
                let class = x.narrow(1, 0, 1).reshape([batch, hidden]);
                let class = self.vision.normalize(&p, &class);
                p.linear(&class, "visual_projection", *width, false, None)
            }
            VisionPool::Attention { attention, mlp } => {
                let rows = self.vision.normalize(&p, &x);
                let pooled = self.attend(&p, attention, &rows, segments.as_ref());
                let path = format!("{}head", self.vision.prefix);
                let inner = self.vision.norm.trace(&p, &format!("{path}.layernorm"), &pooled);
                let inner =
                    p.linear(&inner, &format!("{path}.mlp.fc1"), mlp.width, true, Some(mlp.activation));
                pooled + p.linear(&inner, &format!("{path}.mlp.fc2"), hidden, true, None)
            }
        };
        t.output("embedding", &unit(&pooled));
        Ok(t.finish()?)
    }

    /// The learned query's attention to rows f32[b,n,hidden], or to those of segment 0: f32[b,hidden]. Projections of
    /// query, key and value stand in one matrix.
    fn attend(
        &self,
        p: &Parameters,
        attention: &Attention,
        rows: &Tensor,
        segments: Option<&Tensor>,
    ) -> Tensor {
        let (batch, hidden) = (rows.dim(0), self.vision.hidden);
        let path = format!("{}head", self.vision.prefix);
        let w = p.matrix(&format!("{path}.attention.in_proj_weight"), [3 * hidden, hidden]);
        let b = p.get(&format!("{path}.attention.in_proj_bias"), [3 * hidden]);
        let part = |x: &Tensor, from: usize, to: usize| {
            let (from, to) = (from * hidden, to * hidden);
            product(x, &w.narrow(0, from, to), Some(&b.narrow(0, from, to)), None)
        };
        let heads = |x: Tensor| {
            let dims = [x.dim(0), x.dim(1), attention.heads, attention.head_dim];
            x.reshape(dims).transpose([0, 2, 1, 3])
        };
        let query = part(&p.get(&format!("{path}.probe"), [1, 1, hidden]), 0, 1);
        let query = heads(query).broadcast_to([batch, attention.heads, 1, attention.head_dim]);
        let both = part(rows, 1, 3);
        let [keys, values] =
            [(0, hidden), (hidden, 2 * hidden)].map(|(from, to)| heads(both.narrow(2, from, to)));
        let mut spec = AttentionSpec::full(attention.scale);
        spec.segments = segments.is_some();
        let own = p.trace().full(DType::I32, [batch, 1], 0.0);
        let optional: Vec<&Tensor> = segments.map_or_else(Vec::new, |of_rows| vec![&own, of_rows]);
        let out = query.attention(&keys, &values, &optional, spec);
        let out = out.reshape([batch, hidden]);
        p.linear(&out, &format!("{path}.attention.out_proj"), hidden, true, None)
    }

    /// The graph that embeds `batch` texts: from `input_ids` i32[batch,length] and `ends` i32[batch] to
    /// `embedding` f32[batch,width] of length one.
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn text_graph(&self, batch: usize) -> Result<Graph> {
        let t = Trace::new(format!("text.{batch}"));
        let p = Parameters::new(&t, &self.weights);
        let text = &self.text;
        let ids = t.data("input_ids", DType::I32, [batch, text.length]);
        let hidden = text.stack.blocks.first().map_or(text.width, |b: &BlockSpec| b.hidden);
        let at = |name: &str| format!("text_model.embeddings.{name}.weight");
        let x = p.embedding(&ids, &at("token_embedding"), [text.vocab, hidden]);
        let x = x + p.get(&at("position_embedding"), [text.length, hidden]);
        let x = text.stack.trace(&p, &x, &Context::default());
        let ends = t.input("ends", Role::Data, TensorType::new(DType::I32, [batch]));
        let x = x.reshape([batch * text.length, hidden]).gather(&ends, 0);
        let x = text.norm.trace(&p, "text_model.final_layer_norm", &x);
        let pooled = match text.pool {
            TextPool::Last => p.linear(&x, "text_model.head", text.width, true, None),
            TextPool::End(_) | TextPool::Greatest => p.linear(&x, "text_projection", text.width, false, None),
        };
        t.output("embedding", &unit(&pooled));
        Ok(t.finish()?)
    }

    /// The graph that compares images and texts by their embeddings: from `images` f32[n,width] and `texts`
    /// f32[m,width] to `logits` f32[n,m].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn compare(&self, images: usize, texts: usize) -> Result<Graph> {
        let t = Trace::new("compare");
        let p = Parameters::new(&t, &self.weights);
        let images = t.data("images", DType::F32, [images, self.width()]);
        let texts = t.data("texts", DType::F32, [texts, self.width()]);
        let logits = images.linear(&texts, None, None) * p.get("logit_scale", [1]).exp();
        let logits = if self.logit_bias { logits + p.get("logit_bias", [1]) } else { logits };
        t.output("logits", &logits);
        Ok(t.finish()?)
    }
}

/// Rows f32[n,d] scaled to length one.
fn unit(x: &Tensor) -> Tensor {
    let length = (x * x).sum([1]).sqrt();
    x / length.unsqueeze(1)
}
