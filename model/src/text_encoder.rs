//! Models that embed texts alone: encoders that see both ways, of whose rows one or the mean stands for the text (BERT
//! and its successors as sentence-transformers packs them).

use percept_graph::{DType, Graph, Trace};
use percept_modalities::text::Tokenizer;

use crate::block::{Context, Norm, Stack};
use crate::error::Result;
use crate::parameters::Parameters;
use crate::weights::Weights;

/// Which rows stand for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first one, of the token that begins a text.
    First,
    /// The last one, which in a decoder has seen all others.
    Last,
    /// The mean of all.
    Mean,
}

/// A model that embeds texts alone.
pub struct TextEncoder {
    /// Its parameters.
    pub weights: Weights,
    /// Cuts texts into tokens.
    pub tokenizer: Tokenizer,
    /// Prefix of its parameters, with its dot.
    pub prefix: String,
    /// Rows of the table.
    pub vocab: usize,
    /// Width of the rows.
    pub hidden: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// The position of a text's first token.
    pub first_position: usize,
    /// Rows of the table of token types, of which texts have the first.
    pub types: usize,
    /// Tokens of a text; longer texts are cut.
    pub length: usize,
    /// Put before every text.
    pub instruction: String,
    /// Which rows stand for a text.
    pub pooling: Pooling,
    /// The blocks that a text's rows go through.
    pub stack: Stack,
    /// The norm of the embeddings, before the first block.
    pub norm: Norm,
}

impl TextEncoder {
    /// The tokens of a text with those that begin and end it. Longer texts are cut, as sentence-transformers does.
    ///
    /// # Errors
    /// When it cannot be cut into tokens.
    pub fn tokens(&self, text: &str) -> Result<Vec<i32>> {
        let text = format!("{}{text}", self.instruction);
        let all = self.tokenizer.encode(&text, true)?;
        let ids = match all.len() > self.length {
            true => self.tokenizer.encode_to_length(&text, self.length)?.ids,
            false => all,
        };
        Ok(ids.into_iter().map(|id| id as i32).collect())
    }

    /// The graph that encodes `batch` texts of `rows` tokens: from `input_ids` i32[batch,rows] and `segments`
    /// i32[batch,rows], of which those of a text are equal and those of its padding others, to `hidden`
    /// f32[batch,rows,hidden].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn graph(&self, batch: usize, rows: usize) -> Result<Graph> {
        let t = Trace::new(format!("text.{batch}.{rows}"));
        let p = Parameters::new(&t, &self.weights);
        let [ids, segments] = ["input_ids", "segments"].map(|name| t.data(name, DType::I32, [batch, rows]));
        let at = |name: &str| format!("{}embeddings.{name}", self.prefix);
        let table = |name: &str, n: usize, from: usize, to: usize| {
            p.get(&at(&format!("{name}.weight")), [n, self.hidden]).narrow(0, from, to)
        };
        let x = p.embedding(&ids, &at("word_embeddings.weight"), [self.vocab, self.hidden]);
        let first = self.first_position;
        let x = x + table("position_embeddings", self.positions, first, first + rows);
        let x = x + table("token_type_embeddings", self.types, 0, 1);
        let x = self.norm.trace(&p, &at("LayerNorm"), &x);
        let cx = Context { segments: vec![segments], ..Context::default() };
        t.output("hidden", &self.stack.trace(&p, &x, &cx));
        Ok(t.finish()?)
    }
}
