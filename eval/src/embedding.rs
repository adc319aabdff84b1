//! Models that embed: images among the texts of classes, images and texts that find one another, and texts that are alike.

use std::path::Path;

use percept_data::Blob;
use percept_infer::{Embedder, Pooling, TextEmbedder};
use percept_modalities::image::{self, Image};

use crate::batches::in_batches;
use crate::error::{Error, Result};
use crate::metric::ranks;
use crate::run::{Options, Outcome};
use crate::scoring::{Answer, Metric, written};
use crate::task::{Question, Task};

/// A model that embeds: every embedding has length one.
pub trait Embeds {
    /// The embeddings of images; `None` where the model embeds no images.
    ///
    /// # Errors
    /// When the model fails.
    fn images(&mut self, images: &[Image]) -> Option<Result<Vec<Vec<f32>>>>;
    /// The embeddings of texts.
    ///
    /// # Errors
    /// When the model fails.
    fn texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>>;
}

impl Embeds for Embedder {
    fn images(&mut self, images: &[Image]) -> Option<Result<Vec<Vec<f32>>>> {
        Some(Self::images(self, images).map_err(Error::from))
    }

    fn texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        Ok(Self::texts(self, texts)?)
    }
}

/// A model that embeds texts, and the tokens that stand for a text.
pub struct TextModel(pub TextEmbedder, pub Pooling);

impl Embeds for TextModel {
    fn images(&mut self, _images: &[Image]) -> Option<Result<Vec<Vec<f32>>>> {
        None
    }

    fn texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        Ok(self.0.texts(texts, self.1)?)
    }
}

/// Run a task on a model that embeds.
///
/// # Errors
/// As [`crate::run::run`]; when the task reads answers rather than embeddings.
pub fn run_embedding(
    model: &mut dyn Embeds,
    task: &Task,
    folder: &Path,
    options: &Options,
    told: &mut dyn FnMut(bool),
) -> Result<Outcome> {
    if !task.metric.is_embedded() {
        let why = "this model embeds, and says nothing; give a task of embeddings, such as stsb_test or \
                   coco2017_retrieval";
        return Err(Error::Task(format!("{}: {why}", task.name)));
    }
    if task.metric.embeds_images() && model.images(&[]).is_none() {
        return Err(Error::Lacks { task: task.name.clone(), kind: "images" });
    }
    let decode = |_: &Question, media: &[Blob]| {
        let decoded = media.iter().map(|blob| image::decode(&blob.bytes, &image::Limits::default()));
        let images =
            decoded.collect::<percept_modalities::Result<Vec<Image>>>().map_err(|e| e.to_string())?;
        match images.len() {
            0 if task.metric.embeds_images() => Err("it has no image".to_owned()),
            _ => Ok(images),
        }
    };
    // Made when the first question is asked.
    let mut classes: Option<Classes> = None;
    in_batches(task, folder, options, told, decode, |batch| match task.metric {
        Metric::ZeroShot => {
            if classes.is_none() {
                classes = Some(Classes::embed(model, task, folder)?);
            }
            let images = images_of(model, task, batch)?;
            let Some(classes) = &classes else { return Ok(Vec::new()) };
            batch
                .iter()
                .zip(&images)
                .map(|((question, _), image)| classes.among(task, question, image))
                .collect()
        }
        Metric::Retrieval => {
            let images = images_of(model, task, batch)?;
            let texts: Vec<String> =
                batch.iter().flat_map(|(question, _)| question.right.texts.iter().cloned()).collect();
            let mut texts = model.texts(&texts)?.into_iter();
            let answer = |((question, _), image): (&(Question, Vec<Image>), &Vec<f32>)| {
                let own = texts.by_ref().take(question.right.texts.len());
                let vectors = std::iter::once(written(image)).chain(own.map(|text| written(&text)));
                Answer { vectors: vectors.collect(), ..Answer::default() }
            };
            Ok(batch.iter().zip(&images).map(answer).collect())
        }
        _ => {
            let pair = |(question, _): &(Question, Vec<Image>)| {
                [question.prompt.clone(), question.other.clone().unwrap_or_default()]
            };
            let texts: Vec<String> = batch.iter().flat_map(pair).collect();
            let cosines = model.texts(&texts)?;
            let answer = |pair: &[Vec<f32>]| Answer {
                similarity: pair.first().zip(pair.get(1)).map(|(a, b)| dot(a, b)),
                ..Answer::default()
            };
            Ok(cosines.chunks(2).map(answer).collect())
        }
    })
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn images_of(model: &mut dyn Embeds, task: &Task, batch: &[(Question, Vec<Image>)]) -> Result<Vec<Vec<f32>>> {
    // Each question has an image: what has none was not asked.
    let images: Vec<Image> = batch.iter().filter_map(|(_, images)| images.first().cloned()).collect();
    model.images(&images).ok_or_else(|| Error::Lacks { task: task.name.clone(), kind: "images" })?
}

/// The classes of a task, each by the mean of the embeddings of its texts.
struct Classes {
    names: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

impl Classes {
    fn embed(model: &mut dyn Embeds, task: &Task, folder: &Path) -> Result<Self> {
        let (names, texts) = task.class_texts(folder)?;
        let mean = |texts: &Vec<String>| -> Result<Vec<f32>> {
            let all = model.texts(texts)?;
            let width = all.first().map_or(0, Vec::len);
            let mut mean: Vec<f64> =
                (0..width).map(|at| all.iter().map(|vector| f64::from(vector[at])).sum::<f64>()).collect();
            let length = mean.iter().map(|number| number * number).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            mean.iter_mut().for_each(|number| *number /= length);
            Ok(mean.into_iter().map(|number| number as f32).collect())
        };
        let vectors = texts.iter().map(mean).collect::<Result<_>>()?;
        Ok(Self { names, vectors })
    }

    /// Where the right class of an image stands among all.
    fn among(&self, task: &Task, question: &Question, image: &[f32]) -> Result<Answer> {
        let right = question.right.option.unwrap_or(0);
        if right >= self.names.len() {
            let (count, name) = (self.names.len(), task.ask.classes.as_deref().unwrap_or_default());
            let why =
                format!("question {}: its class is number {right}, and {name} names {count}", question.id);
            return Err(Error::Task(format!("{}: {why}", task.name)));
        }
        let similarities: Vec<f64> = self.vectors.iter().map(|class| dot(image, class)).collect();
        let best = (0..similarities.len()).max_by(|a, b| similarities[*a].total_cmp(&similarities[*b]));
        Ok(Answer {
            said: best.map(|at| self.names[at].clone()).unwrap_or_default(),
            rank: ranks::rank(&similarities, |at| at == right),
            ..Answer::default()
        })
    }
}
