//! The inputs of a pass over a decoder: one list says what a pass reads, and both declares it in a graph and
//! fills it for a run. Steps over a cache, training, embeddings of texts and the speech decoder have the same
//! list, in other shapes.

use std::collections::HashMap;

use percept_graph::{DType, HostTensor, Role, Tensor, TensorType, Trace};

use crate::cache::{CacheShape, PAGE};
use crate::decoder::Decoder;
use crate::error::{Error, Result};

/// Sequences that have equally many rows in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// How many sequences it has.
    pub sequences: usize,
    /// How many rows each of them has.
    pub rows: usize,
}

/// Where the features of media come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MediaShape {
    /// The pass reads none.
    #[default]
    None,
    /// They are given with the rows that they stand at.
    Given,
    /// They are computed in the same graph; each row says which of them it is.
    Computed,
}

/// The extents and optional inputs of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PassShape {
    /// Rows of tokens, as the graph has them: [batch,length], or [rows,1] over a cache.
    pub rows: [usize; 2],
    /// Rows whose logits are wanted, by index; `None` for all of them.
    pub out: Option<usize>,
    /// Several samples share a row of the batch.
    pub segments: bool,
    /// Image blocks see both ways.
    pub blocks: bool,
    /// Where features of media come from.
    pub media: MediaShape,
    /// Keys and values of earlier steps.
    pub cache: Option<CacheShape>,
    /// The decoder looks up learnt positions.
    pub positions: bool,
    /// Rows may have adapters: each says whose slot it has.
    pub adapters: bool,
}

/// One input of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// Tokens, i32 of [`PassShape::rows`].
    Ids,
    /// Positions of learnt embeddings, likewise.
    Positions,
    /// Cosines of a rotation, f32[..rows,pairs].
    Cos(usize),
    /// Sines of a rotation.
    Sin(usize),
    /// The sample that a row belongs to, as [`Input::Ids`].
    Segments,
    /// The image block that a row belongs to, -1 for none, as [`Input::Ids`].
    Blocks,
    /// Rows whose embedding is a feature, bool[..rows,1].
    IsFeature,
    /// The features at their rows, f32[..rows,hidden].
    Features,
    /// A set of extra features at their rows, likewise.
    Deepstack(usize),
    /// The slot of the adapter that a row has, -1 for none, i32[..rows,1].
    Slot,
    /// Which feature a row is, i32[all rows].
    FeatureRows,
    /// The rows whose logits are wanted, i32[out], counted through the whole pass.
    Out,
    /// The page that a row's keys and values go to, i32[rows,1], for a kind of layer.
    PageOf(usize),
    /// The row of that page, i32[rows]; negative where nothing is kept.
    RowOfPage,
    /// Positions in the cache of the first rows of a group's sequences, i32[sequences].
    Offset(usize),
    /// Rows of a group's sequences that hold something after the step, i32[sequences].
    Length(usize),
    /// The tables of a group's sequences for a kind of layer, i32[sequences,table].
    Pages(usize, usize),
    /// The slots that the states of a group's sequences are in, i32[sequences]; negative where there is none yet.
    StateFrom(usize),
    /// The slots that the states are written to, i32[sequences]; negative where they are not kept.
    StateTo(usize),
    /// Rows of a group's sequences in the step, i32[sequences].
    StateRows(usize),
    /// Image blocks of a group's rows, i32[sequences,rows].
    QueryBlocks(usize),
    /// Image blocks of the rows that a group's sequences hold, i32[sequences,table * page].
    KeyBlocks(usize),
}

impl Input {
    /// Its name in the graph.
    pub fn name(self) -> String {
        match self {
            Input::Ids => "ids".into(),
            Input::Positions => "positions".into(),
            Input::Cos(i) => format!("rope.{i}.cos"),
            Input::Sin(i) => format!("rope.{i}.sin"),
            Input::Segments => "segments".into(),
            Input::Blocks => "blocks".into(),
            Input::IsFeature => "is_feature".into(),
            Input::Features => "features".into(),
            Input::Deepstack(k) => format!("deepstack.{k}"),
            Input::Slot => "slot".into(),
            Input::FeatureRows => "feature_rows".into(),
            Input::Out => "out".into(),
            Input::PageOf(kind) => format!("page_of.{kind}"),
            Input::RowOfPage => "row_of_page".into(),
            Input::Offset(g) => format!("offset.{g}"),
            Input::Length(g) => format!("length.{g}"),
            Input::Pages(g, kind) => format!("pages.{g}.{kind}"),
            Input::StateFrom(g) => format!("state_from.{g}"),
            Input::StateTo(g) => format!("state_to.{g}"),
            Input::StateRows(g) => format!("state_rows.{g}"),
            Input::QueryBlocks(g) => format!("query_blocks.{g}"),
            Input::KeyBlocks(g) => format!("key_blocks.{g}"),
        }
    }
}

impl PassShape {
    /// A step over a cache.
    pub fn step(cache: CacheShape, out: Option<usize>) -> Self {
        let rows = cache.groups.iter().map(|g| g.sequences * g.rows).sum();
        Self { rows: [rows, 1], out, cache: Some(cache), ..Self::default() }
    }

    /// A step of `rows` rows of one sequence over a cache of f32 that is its own and has room for `capacity`
    /// rows.
    pub fn single(decoder: &Decoder, rows: usize, capacity: usize) -> Self {
        let table = capacity.div_ceil(PAGE);
        let pools = vec![table; decoder.windows().len()];
        let groups = vec![Group { sequences: 1, rows }];
        let states = usize::from(decoder.has_states());
        Self::step(CacheShape { dtype: DType::F32, page: PAGE, table, pools, states, groups }, None)
    }

    /// How many rows of tokens there are in all.
    pub fn count(&self) -> usize {
        self.rows[0] * self.rows[1]
    }

    /// What a pass of this shape reads besides parameters and pools, with its types.
    pub fn inputs(&self, decoder: &Decoder) -> Vec<(Input, TensorType)> {
        let [b, t] = self.rows;
        let ints = |dims: &[usize]| TensorType::new(DType::I32, dims);
        let floats = |width: usize| TensorType::new(DType::F32, [b, t, width]);
        let mut all = vec![(Input::Ids, ints(&[b, t]))];
        let mut add = |there: bool, input: Input, ty: TensorType| {
            if there {
                all.push((input, ty));
            }
        };
        add(self.positions, Input::Positions, ints(&[b, t]));
        for (i, rope) in decoder.ropes.iter().enumerate() {
            add(true, Input::Cos(i), floats(rope.pairs()));
            add(true, Input::Sin(i), floats(rope.pairs()));
        }
        add(self.segments, Input::Segments, ints(&[b, t]));
        let media = self.media != MediaShape::None;
        add(media, Input::IsFeature, TensorType::new(DType::Bool, [b, t, 1]));
        add(self.media == MediaShape::Given, Input::Features, floats(decoder.hidden));
        for k in 0..decoder.deepstack {
            add(self.media == MediaShape::Given, Input::Deepstack(k), floats(decoder.hidden));
        }
        add(self.adapters, Input::Slot, ints(&[b, t, 1]));
        add(self.media == MediaShape::Computed, Input::FeatureRows, ints(&[b * t]));
        if let Some(n) = self.out.filter(|n| *n > 0) {
            add(true, Input::Out, ints(&[n]));
        }
        let Some(cache) = &self.cache else {
            add(self.blocks, Input::Blocks, ints(&[b, t]));
            return all;
        };
        add(true, Input::RowOfPage, ints(&[b]));
        for kind in 0..cache.pools.len() {
            add(true, Input::PageOf(kind), ints(&[b, 1]));
        }
        for (g, &Group { sequences, rows }) in cache.groups.iter().enumerate() {
            add(true, Input::Offset(g), ints(&[sequences]));
            add(true, Input::Length(g), ints(&[sequences]));
            for kind in 0..cache.pools.len() {
                add(true, Input::Pages(g, kind), ints(&[sequences, cache.table]));
            }
            for input in [Input::StateFrom(g), Input::StateTo(g), Input::StateRows(g)] {
                add(cache.states > 0, input, ints(&[sequences]));
            }
            add(self.blocks, Input::QueryBlocks(g), ints(&[sequences, rows]));
            add(self.blocks, Input::KeyBlocks(g), ints(&[sequences, cache.table * cache.page]));
        }
        all
    }

    /// Declares the inputs of a pass in a trace.
    pub fn declare(&self, decoder: &Decoder, t: &Trace) -> PassInputs {
        let declare = |(input, ty): (Input, TensorType)| {
            let role = match input {
                Input::Offset(_) | Input::Length(_) => Role::Scalar,
                _ => Role::Data,
            };
            (input, t.input(input.name(), role, ty))
        };
        PassInputs {
            all: self.inputs(decoder).into_iter().map(declare).collect(),
            nothing: t.full(DType::F32, [], 0.0),
        }
    }

    /// The arrays of a run, by the inputs' names.
    ///
    /// # Errors
    /// When the rows do not fill this shape.
    pub fn fill(&self, decoder: &Decoder, rows: &PassRows) -> Result<Vec<(String, HostTensor)>> {
        self.inputs(decoder).into_iter().map(|(i, ty)| Ok((i.name(), rows.value(self, i, ty)?))).collect()
    }
}

/// The declared inputs of a pass.
pub struct PassInputs {
    all: HashMap<Input, Tensor>,
    nothing: Tensor,
}

impl PassInputs {
    /// An input that the shape has.
    pub fn find(&self, input: Input) -> Option<&Tensor> {
        self.all.get(&input)
    }

    /// An input; one that the shape does not have makes the trace fail.
    pub fn get(&self, input: Input) -> &Tensor {
        self.all.get(&input).unwrap_or_else(|| {
            let missing = "is no input of this pass".to_string();
            self.nothing.trace().fail(format!("input '{}'", input.name()), Vec::new(), missing);
            &self.nothing
        })
    }

    /// Cosines and sines of every rotation.
    pub fn angles(&self, decoder: &Decoder) -> Vec<[Tensor; 2]> {
        let pair = |i: usize| [self.get(Input::Cos(i)).clone(), self.get(Input::Sin(i)).clone()];
        (0..decoder.ropes.len()).map(pair).collect()
    }
}

/// One sequence's part of a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SequenceRows {
    /// Rows that it held before.
    pub offset: usize,
    /// Rows of the step that are its own, at most those of its group.
    pub rows: usize,
    /// Its pages by kind of layer; those that are no longer held may be any.
    pub pages: Vec<Vec<i32>>,
    /// The slot that its state is in; `None` before its first row.
    pub state_from: Option<u32>,
    /// The slot that its state is left in.
    pub state_to: Option<u32>,
}

/// What the rows of one pass are. Rows that only fill up a shape may be left out at the end of any list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PassRows {
    /// The token of each row.
    pub ids: Vec<i32>,
    /// The learnt position of each row.
    pub positions: Vec<i32>,
    /// Cosines and sines of each rotation, [rows * pairs].
    pub angles: Vec<[Vec<f32>; 2]>,
    /// The number of each row's sample.
    pub segments: Vec<i32>,
    /// The image block of each row, -1 for none.
    pub blocks: Vec<i32>,
    /// The slot of each row's adapter, -1 for none.
    pub slots: Vec<i32>,
    /// The number of each row's feature, if it is one.
    pub features: Vec<Option<usize>>,
    /// The features at their rows, [rows * hidden], zeros elsewhere.
    pub given: Vec<f32>,
    /// Sets of extra features, likewise.
    pub deepstack: Vec<Vec<f32>>,
    /// Rows whose logits are wanted.
    pub out: Vec<i32>,
    /// The sequences of a step, in the order of its groups.
    pub sequences: Vec<SequenceRows>,
}

impl PassRows {
    /// Adds the angles of a run of rows at positions given by axis, in a sequence of `total` tokens.
    pub fn add_angles(&mut self, decoder: &Decoder, positions: &[&[f32]], total: usize) {
        self.angles.resize(decoder.ropes.len(), Default::default());
        for (rope, all) in decoder.ropes.iter().zip(&mut self.angles) {
            let own = rope.angles_at(positions, total);
            all.iter_mut().zip(own).for_each(|(all, own)| all.extend(own));
        }
    }

    /// Fills up what is held by row, features excepted, with `rows` rows that are nothing.
    pub fn pad(&mut self, decoder: &Decoder, rows: usize) {
        let zeros = |all: &mut Vec<i32>, value: i32| all.extend(std::iter::repeat_n(value, rows));
        zeros(&mut self.ids, 0);
        zeros(&mut self.positions, 0);
        zeros(&mut self.segments, -1);
        zeros(&mut self.blocks, -1);
        zeros(&mut self.slots, -1);
        self.features.extend(std::iter::repeat_n(None, rows));
        self.angles.resize(decoder.ropes.len(), Default::default());
        for (rope, all) in decoder.ropes.iter().zip(&mut self.angles) {
            all.iter_mut().for_each(|all| all.extend(std::iter::repeat_n(0.0, rows * rope.pairs())));
        }
    }

    fn value(&self, shape: &PassShape, input: Input, ty: TensorType) -> Result<HostTensor> {
        let n = ty.numel();
        let wrong = |found: usize| {
            Error::Inputs(format!(
                "the input '{}' of a pass takes {n} values, {found} are given",
                input.name()
            ))
        };
        // What fills up the end of a shape is `rest`; an input that nothing was given for is an error.
        let ints = |values: &[i32], rest: i32| {
            if values.len() > n || (values.is_empty() && n > 0) {
                return Err(wrong(values.len()));
            }
            let mut values = values.to_vec();
            values.resize(n, rest);
            Ok(HostTensor::from_i32(ty.dims.clone(), &values)?)
        };
        let floats = |values: Option<&Vec<f32>>| {
            let given = values.map_or(0, Vec::len);
            let values =
                values.filter(|v| v.len() <= n && (n == 0 || !v.is_empty())).ok_or_else(|| wrong(given))?;
            let mut values = values.clone();
            values.resize(n, 0.0);
            Ok(HostTensor::from_f32(ty.dims.clone(), &values)?)
        };
        let cache = || shape.cache.as_ref().ok_or_else(|| wrong(0));
        // The sequences of a group; those beyond the given ones hold nothing.
        let group = |g: usize| {
            let groups = &cache()?.groups;
            let first: usize = groups.iter().take(g).map(|g| g.sequences).sum();
            let count = groups.get(g).ok_or_else(|| wrong(0))?.sequences;
            let none = SequenceRows::default();
            let of = |i: usize| self.sequences.get(i).cloned().unwrap_or_else(|| none.clone());
            Ok::<_, Error>((first..first + count).map(of).collect::<Vec<_>>())
        };
        match input {
            Input::Ids => ints(&self.ids, 0),
            Input::Positions => ints(&self.positions, 0),
            Input::Cos(i) => floats(self.angles.get(i).map(|a| &a[0])),
            Input::Sin(i) => floats(self.angles.get(i).map(|a| &a[1])),
            Input::Segments => ints(&self.segments, -1),
            Input::Blocks => ints(&self.blocks, -1),
            Input::Slot => ints(&self.slots, -1),
            Input::IsFeature => {
                if self.features.len() > n {
                    return Err(wrong(self.features.len()));
                }
                let mut flags: Vec<u8> = self.features.iter().map(|f| u8::from(f.is_some())).collect();
                flags.resize(n, 0);
                Ok(HostTensor::new(ty, flags)?)
            }
            Input::Features => floats(Some(&self.given)),
            Input::Deepstack(k) => floats(self.deepstack.get(k)),
            Input::FeatureRows => {
                let rows: Vec<i32> = self.features.iter().map(|f| f.map_or(0, |row| row as i32)).collect();
                ints(&rows, 0)
            }
            Input::Out => ints(&self.out, 0),
            Input::PageOf(kind) => ints(&self.places(cache()?, |s, at, page| s.page(kind, at / page))?, 0),
            Input::RowOfPage => ints(&self.places(cache()?, |_, at, page| (at % page) as i32)?, -1),
            Input::Offset(g) => ints(&group(g)?.iter().map(|s| s.offset as i32).collect::<Vec<_>>(), 0),
            Input::Length(g) => {
                ints(&group(g)?.iter().map(|s| (s.offset + s.rows) as i32).collect::<Vec<_>>(), 0)
            }
            Input::Pages(g, kind) => {
                let table = cache()?.table;
                let row = |s: &SequenceRows| (0..table).map(|i| s.page(kind, i)).collect::<Vec<_>>();
                ints(&group(g)?.iter().flat_map(row).collect::<Vec<_>>(), 0)
            }
            Input::StateFrom(g) => {
                ints(&group(g)?.iter().map(|s| slot_number(s.state_from)).collect::<Vec<_>>(), -1)
            }
            Input::StateTo(g) => {
                ints(&group(g)?.iter().map(|s| slot_number(s.state_to)).collect::<Vec<_>>(), -1)
            }
            Input::StateRows(g) => ints(&group(g)?.iter().map(|s| s.rows as i32).collect::<Vec<_>>(), 0),
            Input::QueryBlocks(g) => ints(&self.blocks_of(cache()?, g, ty.dims[1], |_| 0)?, -1),
            // Blocks are never cut, so only keys of this very step can share one with its queries.
            Input::KeyBlocks(g) => ints(&self.blocks_of(cache()?, g, ty.dims[1], |s| s.offset)?, -1),
        }
    }

    /// For every row of a step `of` its sequence and its place there; -1 where a row only fills up.
    fn places(
        &self,
        cache: &CacheShape,
        of: impl Fn(&SequenceRows, usize, usize) -> i32,
    ) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        let mut sequences = self.sequences.iter();
        for &Group { sequences: count, rows } in &cache.groups {
            for _ in 0..count {
                let own = sequences.next().map_or(0, |s| {
                    all.extend((s.offset..s.offset + s.rows).map(|at| of(s, at, cache.page)));
                    s.rows
                });
                let rest = rows.checked_sub(own).ok_or_else(|| {
                    Error::Inputs(format!("a sequence has {own} rows in a step, its group {rows}"))
                })?;
                all.extend(std::iter::repeat_n(-1, rest));
            }
        }
        Ok(all)
    }

    /// The blocks of a group's rows, `width` a sequence, beginning at `start` of it.
    fn blocks_of(
        &self,
        cache: &CacheShape,
        g: usize,
        width: usize,
        start: impl Fn(&SequenceRows) -> usize,
    ) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        let (mut row, mut sequences) = (0, self.sequences.iter());
        for (i, &Group { sequences: count, rows }) in cache.groups.iter().enumerate() {
            for _ in 0..count {
                let sequence = sequences.next();
                if i == g {
                    let mut own = vec![-1; width];
                    if let Some(s) = sequence {
                        let (from, blocks) = (start(s), self.blocks.get(row..row + s.rows));
                        let to = own.get_mut(from..from + s.rows).zip(blocks);
                        let (to, blocks) = to.ok_or_else(|| {
                            Error::Inputs(format!(
                                "blocks of rows {row}..{} of a step are missing",
                                row + s.rows
                            ))
                        })?;
                        to.copy_from_slice(blocks);
                    }
                    all.extend(own);
                }
                row += rows;
            }
        }
        Ok(all)
    }
}

/// The number of a slot, -1 for none.
fn slot_number(slot: Option<u32>) -> i32 {
    slot.and_then(|slot| i32::try_from(slot).ok()).unwrap_or(-1)
}

impl SequenceRows {
    /// Rows of the only sequence of [`PassShape::single`], whose pages lie in order.
    pub fn single(decoder: &Decoder, offset: usize, rows: usize, capacity: usize) -> Self {
        let pages: Vec<i32> = (0..capacity.div_ceil(PAGE) as i32).collect();
        let state = |there: bool| (there && decoder.has_states()).then_some(0);
        let (state_from, state_to) = (state(offset > 0), state(true));
        Self { offset, rows, pages: vec![pages; decoder.windows().len()], state_from, state_to }
    }

    /// The page at an index of the table; 0 where there is none.
    fn page(&self, kind: usize, i: usize) -> i32 {
        self.pages.get(kind).and_then(|pages| pages.get(i)).copied().unwrap_or(0)
    }
}
