//! `percept embed`: pictures and texts as vectors.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use percept::hal::CompileOptions;
use percept::infer::{Placer, Pooling, TextPlacer};
use percept::modalities::image::{self, Image, Limits};
use percept::model::Model;
use serde_json::{Value, json};

use super::Failure;
use super::failure::read_bytes;
use super::loading::{Loading, report_fallbacks};

/// CLIP and SigLIP place pictures and texts in one space. A language model gives texts the last block's row of their last
/// token, as embedding models made of decoders are trained to do; --pooling mean averages the rows of all tokens instead.
/// Every embedding has length one.
#[derive(Args)]
pub struct Embed {
    #[command(flatten)]
    loading: Loading,
    /// A picture; may be given several times
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A text; may be given several times
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// Which tokens of a language model stand for a text
    #[arg(long, default_value = "last")]
    pooling: Rows,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rows {
    /// The last token, which has seen all others
    Last,
    /// The mean of all tokens
    Mean,
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
        let embeddings = match model {
            Model::Contrastive(model) => {
                let mut placer = Placer::new(model, device, options);
                let mut all = Vec::new();
                // A few pictures at a time: all of them need not fit into memory.
                for files in self.image.chunks(Placer::BATCH) {
                    let pictures = files.iter().map(|file| picture(file)).collect::<Result<Vec<_>, _>>()?;
                    all.extend(placer.images(&pictures)?);
                }
                all.extend(placer.texts(&self.text)?);
                report_fallbacks(placer.reports());
                all
            }
            Model::Causal(model) => {
                if !self.image.is_empty() {
                    let why = "this model places texts alone; pictures need CLIP or SigLIP";
                    return Err(Failure::Usage(why.into()));
                }
                let mut placer = TextPlacer::new(model, device, options)?;
                let pooling = match self.pooling {
                    Rows::Last => Pooling::Last,
                    Rows::Mean => Pooling::Mean,
                };
                let all = self.text.iter().map(|t| placer.text(t, pooling)).collect::<Result<Vec<_>, _>>()?;
                report_fallbacks(placer.reports());
                all
            }
            Model::Speech(_) => {
                let why = "this model writes down speech and places nothing; try `percept transcribe`";
                return Err(Failure::Usage(why.into()));
            }
        };
        if self.json {
            let entry =
                |(input, embedding): (String, &Vec<f32>)| json!({"input": input, "embedding": embedding});
            println!("{}", Value::Array(inputs.zip(&embeddings).map(entry).collect()));
        } else {
            for (input, embedding) in inputs.zip(&embeddings) {
                let numbers: Vec<String> = embedding.iter().map(f32::to_string).collect();
                println!("{input}\t{}", numbers.join(" "));
            }
        }
        Ok(())
    }
}

fn picture(file: &std::path::Path) -> Result<Image, Failure> {
    let content =
        |e: percept::modalities::Error| Failure::Content { path: file.to_path_buf(), why: e.to_string() };
    image::decode(&read_bytes(file)?, &Limits::default()).map_err(content)
}
