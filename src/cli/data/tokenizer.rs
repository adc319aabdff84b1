//! `percept data tokenizer`: a tokenizer from the texts of corpora.

use std::path::PathBuf;

use clap::Args;
use percept::data::loader::Dataset;
use percept::data::tokenizer;
use percept::model::family::percept::SPECIAL_TOKENS;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::failure::write_file;

#[derive(Args)]
pub struct Learn {
    /// Corpora: a split of one, as CORPUS/SPLIT or CORPUS:SPLIT, folders of shards, or .tar files
    #[arg(required = true, value_name = "DIR")]
    corpora: Vec<PathBuf>,
    /// Largest number of tokens, those of the 256 bytes and the special ones included
    #[arg(long, default_value_t = 8192, value_name = "N")]
    vocab: usize,
    /// Special tokens, which come first and in this order; by default those of the family percept
    #[arg(long, value_name = "TOKEN", value_delimiter = ',')]
    special: Vec<String>,
    /// The file to write
    #[arg(long, default_value = "tokenizer.json", value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Learn {
    pub fn run(self) -> Result<(), Failure> {
        let mut texts = Vec::new();
        for corpus in &self.corpora {
            let samples = Dataset::at(corpus)?;
            for at in 0..samples.len() {
                // One bad sample does not cost the rest.
                match samples.read(at) {
                    Ok(sample) => texts.extend(tokenizer::texts(&sample)),
                    Err(e) => eprintln!("left out: {e}"),
                }
            }
        }
        let count = texts.len();
        let wrong = |e: percept::data::Error| Failure::Usage(e.to_string());
        let own: Vec<&str> = self.special.iter().map(String::as_str).collect();
        let special = if own.is_empty() { &SPECIAL_TOKENS[..] } else { &own };
        let json = tokenizer::train(texts.into_iter(), self.vocab, special).map_err(wrong)?;
        if let Some(folder) = self.out.parent() {
            let source = |source| Failure::File { path: folder.to_path_buf(), source };
            std::fs::create_dir_all(folder).map_err(source)?;
        }
        write_file(&self.out, &json)?;
        if self.json {
            println!("{}", json!({ "out": self.out, "texts": count }));
        } else {
            println!("{} learnt from {count} texts", self.out.display());
        }
        Ok(())
    }
}
