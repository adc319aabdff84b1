//! `percept data`: pull, prepare and inspect data.

mod build;
mod inspect;
mod pull;
mod score;
mod tokenizer;

use clap::Subcommand;

use crate::cli::Failure;
use build::Build;
use inspect::Inspect;
use pull::Pull;
use tokenizer::Learn;

#[derive(Subcommand)]
pub enum Data {
    /// Fetch folders, lists of addresses, repositories and shards into one folder
    #[command(after_help = "Examples:\n  percept data pull laion.parquet --out raw --rate 5\n  \
        percept data pull hf://datasets/owner/name@main/data --out raw\n  \
        percept data pull 'https://host/shards/{000..127}.tar' images/ --out raw --json")]
    Pull(Pull),
    /// Filter, deduplicate and shard a corpus by a recipe
    #[command(after_help = "Examples:\n  percept data build captions.toml --out corpus\n  \
        percept data build emoji-world --out world --seed 1 --json\n\nThe guide to recipes is docs/data.md.")]
    Build(Build),
    /// Count the contents of a corpus and show them on a page
    #[command(after_help = "Examples:\n  percept data inspect corpus\n  percept data inspect world --json")]
    Inspect(Inspect),
    /// Train a byte-level BPE tokenizer on the texts of corpora
    #[command(
        after_help = "Examples:\n  percept data tokenizer world/category/train world/sound/train --vocab 640 \
        --out model/tokenizer.json"
    )]
    Tokenizer(Learn),
}

impl Data {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Data::Pull(c) => c.run(),
            Data::Build(c) => c.run(),
            Data::Inspect(c) => c.run(),
            Data::Tokenizer(c) => c.run(),
        }
    }
}
