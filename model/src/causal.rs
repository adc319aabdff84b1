//! What a session asks of a model.

use std::collections::BTreeMap;

use percept_graph::{Graph, HostTensor};
use percept_modalities::{Inputs, Processor, Values};

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::text;
use crate::weights::Weights;

/// A model that continues a sequence of tokens and media.
pub trait CausalModel: Send + Sync {
    /// The part that reads tokens and features and gives logits.
    fn decoder(&self) -> &Decoder;

    /// The parameters of the decoder and of encoders of media.
    fn weights(&self) -> &Weights;

    /// What turns conversations and media into the model's inputs.
    fn processor(&self) -> &dyn Processor;

    /// The tokens that end an answer.
    ///
    /// # Errors
    /// When a file of the checkpoint cannot be read.
    fn ends(&self) -> Result<Vec<i32>> {
        text::ends(self.weights().checkpoint(), self.processor().tokenizer())
    }

    /// The encoder runs that these inputs need, in the order in which their features are numbered.
    ///
    /// # Errors
    /// When the inputs do not fit the model.
    fn encoder_runs(&self, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// Where tokens and features stand.
    ///
    /// # Errors
    /// When the inputs do not fit the model: the count of placeholders is not that of the features.
    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        Layout::text(inputs)
    }

    /// Whether a tensor of the checkpoint is a constant, such as a bound or a statistic, which training leaves as it
    /// is.
    fn is_constant(&self, name: &str) -> bool {
        self.decoder().is_constant(name)
    }
}

/// One run of an encoder. The graph's output `features` is f32[n,hidden] in the decoder's width; outputs
/// `deepstack.{k}` have the same shape.
pub struct EncoderRun {
    /// Runs with equal keys have equal graphs.
    pub key: String,
    /// The graph; its parameters are named as in the checkpoint.
    pub graph: Graph,
    /// Every input that is no parameter, by name.
    pub arguments: BTreeMap<String, HostTensor>,
}

/// A prompt as the decoder reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// A token a row; where features stand, any valid id.
    pub ids: Vec<i32>,
    /// Positions of the rows, one list for each axis that a rotation reads, at least one. Frames of a video may stand
    /// between whole ones.
    pub positions: Vec<Vec<f32>>,
    /// The positions of the next row, one for each list of positions; all of them go up by one a row from
    /// there.
    pub next: Vec<f32>,
    /// Rows whose embedding is a row of the encoders' features, counted through all runs.
    pub features: Vec<Option<usize>>,
    /// Numbers of image blocks that see both ways, -1 elsewhere. A block must not be longer than a prefill
    /// chunk.
    pub blocks: Option<Vec<i32>>,
}

impl Layout {
    /// Text alone, counted from 0.
    ///
    /// # Errors
    /// When the inputs have no single row of token ids.
    pub fn text(inputs: &Inputs) -> Result<Self> {
        let ids = input_ids(inputs)?;
        let rows = ids.len();
        Ok(Self {
            positions: vec![(0..rows).map(|at| at as f32).collect()],
            next: vec![rows as f32],
            features: vec![None; rows],
            blocks: None,
            ids,
        })
    }

    /// As [`Layout::text`], with the rows whose id `is_placeholder` taken by features in order.
    ///
    /// # Errors
    /// Also when there are not `count` such rows.
    pub fn with_features(
        inputs: &Inputs,
        count: usize,
        is_placeholder: impl Fn(i32) -> bool,
    ) -> Result<Self> {
        let mut layout = Self::text(inputs)?;
        let mut row = 0;
        for (slot, &id) in layout.features.iter_mut().zip(&layout.ids) {
            if is_placeholder(id) {
                *slot = Some(row);
                row += 1;
            }
        }
        if row != count {
            return Err(Error::Inputs(format!(
                "the prompt has {row} placeholders, the media give {count} rows of features"
            )));
        }
        Ok(layout)
    }
}

/// The token ids of inputs for one sequence.
///
/// # Errors
/// When there are none, or they are not i64[1,t] of ids that i32 holds.
pub fn input_ids(inputs: &Inputs) -> Result<Vec<i32>> {
    let wrong = |why: &str| Error::Inputs(format!("input_ids {why}"));
    let array = inputs.arrays.get("input_ids").ok_or_else(|| wrong("are missing"))?;
    match (&array.dims[..], &array.values) {
        ([1, _], Values::I64(ids)) => {
            let all: Option<Vec<i32>> = ids.iter().map(|&id| i32::try_from(id).ok()).collect();
            all.ok_or_else(|| wrong("do not fit 32 bits"))
        }
        _ => Err(wrong("must be whole numbers for one sequence, [1,t]")),
    }
}
