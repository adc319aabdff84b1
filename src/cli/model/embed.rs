//! `percept embed`: images and texts as vectors, and how alike they are.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use percept::hal::CompileOptions;
use percept::infer::{Embedder, ImageEmbedder, Pooling, TextEmbedder, cosine};
use percept::modalities::image::{self, Image, Limits};
use percept::model::Model;
use serde_json::{Value, json};

use super::loading::{Loading, report_fallbacks};
use crate::cli::Failure;
use crate::cli::failure::read_bytes;
use crate::cli::output::printable;
use crate::cli::table::table;

/// CLIP, SigLIP and SigLIP 2 embed images and texts in one space, DINOv3 images alone. BERT and its successors embed texts
/// as the files that sentence-transformers packs with them say. A language model embeds a text as the last block's row of
/// its last token, as embedding models made of decoders are trained to do, unless files of sentence-transformers beside it name
/// others; --pooling mean averages the rows of all tokens
/// instead. Every embedding has length one.
///
/// Several inputs are compared: images with texts by the cosine of their embeddings and by the probability that the model
/// gives the pair (CLIP: among the texts given; SigLIP: each pair by itself), images alone or texts alone with one another
/// by the cosine. One input alone, and --json, print the vectors.
#[derive(Args)]
pub struct Embed {
    #[command(flatten)]
    loading: Loading,
    /// An image; may be repeated
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A text; may be repeated
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// Which tokens stand for a text; by default those that the model's files name, and the last one of a language model
    #[arg(long)]
    pooling: Option<Rows>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Rows {
    /// The last token, which has seen all others
    Last,
    /// The mean of all tokens
    Mean,
    /// The first token, as encoders are trained with
    First,
}

impl Rows {
    /// What embeds texts by them.
    pub fn pooling(self) -> Pooling {
        match self {
            Rows::Last => Pooling::Last,
            Rows::Mean => Pooling::Mean,
            Rows::First => Pooling::First,
        }
    }
}

impl Embed {
    pub fn run(self) -> Result<(), Failure> {
        if self.image.is_empty() && self.text.is_empty() {
            return Err(Failure::Usage("nothing to embed: give --image FILE or --text TEXT".into()));
        }
        let model = self.loading.open()?;
        let (device, host) = self.loading.device()?;
        let options = CompileOptions { strict: self.loading.strict, host, ..CompileOptions::default() };
        let inputs = self.image.iter().map(|f| f.display().to_string()).chain(self.text.iter().cloned());
        let inputs: Vec<String> = inputs.collect();
        let mut probabilities = Vec::new();
        let embeddings = match model {
            Model::Contrastive(model) => {
                let mut embedder = Embedder::new(model, device, options);
                let mut all = Vec::new();
                // A few images at a time: all of them need not fit into memory.
                for files in self.image.chunks(Embedder::BATCH) {
                    all.extend(embedder.images(&decode_images(files)?)?);
                }
                let texts = embedder.texts(&self.text)?;
                if !all.is_empty() && !texts.is_empty() {
                    let logits = embedder.compare(&all, &texts)?;
                    probabilities = embedder.probabilities(&logits);
                }
                all.extend(texts);
                report_fallbacks(embedder.reports());
                all
            }
            Model::Causal(model) => {
                if !self.image.is_empty() {
                    let why = "this model embeds texts alone; to embed images, give CLIP or SigLIP";
                    return Err(Failure::Usage(why.into()));
                }
                let mut embedder = TextEmbedder::new(model, device, options)?;
                let pooling = self.pooling.map_or(embedder.pooling(), Rows::pooling);
                let all = embedder.texts(&self.text, pooling)?;
                report_fallbacks(embedder.reports());
                all
            }
            Model::TextEncoder(model) => {
                if !self.image.is_empty() {
                    let why = "this model embeds texts alone; to embed images, give CLIP, SigLIP or DINOv3";
                    return Err(Failure::Usage(why.into()));
                }
                let pooling = self.pooling.map_or(model.pooling, Rows::pooling);
                let mut embedder = TextEmbedder::of_encoder(model, device, options);
                let all = embedder.texts(&self.text, pooling)?;
                report_fallbacks(embedder.reports());
                all
            }
            Model::ImageEncoder(model) => {
                if !self.text.is_empty() {
                    let why = "this model embeds images alone; to embed texts too, give CLIP or SigLIP";
                    return Err(Failure::Usage(why.into()));
                }
                let mut embedder = ImageEmbedder::new(model, device, options);
                let mut all = Vec::new();
                for files in self.image.chunks(Embedder::BATCH) {
                    all.extend(embedder.images(&decode_images(files)?)?);
                }
                report_fallbacks(embedder.reports());
                all
            }
            Model::Speech(_) | Model::Frames(_) => {
                let why = "this model transcribes speech and does not embed; try `percept transcribe`";
                return Err(Failure::Usage(why.into()));
            }
        };
        let compared = compared(self.image.len(), &embeddings, &probabilities);
        if self.json {
            let entry = |i: usize| {
                let mut entry = json!({"input": inputs[i], "embedding": embeddings[i]});
                let others = compared.iter().filter(|pair| pair.of == i);
                let others: Vec<Value> = others.map(|pair| pair.json(&inputs)).collect();
                if !others.is_empty() {
                    entry["similarities"] = others.into();
                }
                entry
            };
            println!("{}", Value::Array((0..inputs.len()).map(entry).collect()));
        } else if compared.is_empty() {
            for (input, embedding) in inputs.iter().zip(&embeddings) {
                let numbers: Vec<String> = embedding.iter().map(f32::to_string).collect();
                println!("{}\t{}", printable(input), numbers.join(" "));
            }
        } else {
            let mut rows = table(&["INPUT", "COMPARED WITH", "COSINE", "PROBABILITY"], &[2, 3]);
            for pair in &compared {
                rows.add_row([
                    printable(&inputs[pair.of]).into_owned(),
                    printable(&inputs[pair.with]).into_owned(),
                    format!("{:.4}", pair.cosine),
                    pair.probability.map_or_else(|| "-".to_string(), |p| format!("{:.2} %", 100.0 * p)),
                ]);
            }
            println!("{rows}");
        }
        Ok(())
    }
}

/// How alike two inputs are.
struct Pair {
    /// The index of the first among the inputs.
    of: usize,
    /// The index of the second.
    with: usize,
    cosine: f32,
    probability: Option<f32>,
}

impl Pair {
    fn json(&self, inputs: &[String]) -> Value {
        json!({"input": inputs[self.with], "cosine": self.cosine, "probability": self.probability})
    }
}

/// The first `images` embeddings, which are those of images, with every text; where all are of one kind, each with those
/// before it.
fn compared(images: usize, embeddings: &[Vec<f32>], probabilities: &[Vec<f32>]) -> Vec<Pair> {
    let pair = |of: usize, with: usize| Pair {
        of,
        with,
        cosine: cosine(&embeddings[of], &embeddings[with]),
        probability: with.checked_sub(images).and_then(|text| probabilities.get(of)?.get(text)).copied(),
    };
    let alike = images == 0 || images == embeddings.len();
    let firsts = if alike { 0..embeddings.len() } else { 0..images };
    let others = |of: usize| if alike { 0..of } else { images..embeddings.len() };
    firsts.flat_map(|of| others(of).map(move |with| (of, with))).map(|(of, with)| pair(of, with)).collect()
}

fn decode_images(files: &[PathBuf]) -> Result<Vec<Image>, Failure> {
    files.iter().map(|file| decode_image(file)).collect()
}

fn decode_image(file: &std::path::Path) -> Result<Image, Failure> {
    let content =
        |e: percept::modalities::Error| Failure::Content { path: file.to_path_buf(), why: e.to_string() };
    image::decode(&read_bytes(file)?, &Limits::default()).map_err(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_compared_with_texts_and_where_there_are_none_with_one_another() {
        let all = [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8]];
        let pairs = |images: usize| {
            let found = compared(images, &all, &[vec![0.7]]);
            found.iter().map(|p| (p.of, p.with, p.cosine, p.probability)).collect::<Vec<_>>()
        };
        let among = [(1, 0, 0.0, None), (2, 0, 0.6, None), (2, 1, 0.8, None)];
        assert_eq!(pairs(0), among);
        assert_eq!(pairs(3), among);
        assert_eq!(pairs(2), [(0, 2, 0.6, Some(0.7)), (1, 2, 0.8, None)]);
    }
}
