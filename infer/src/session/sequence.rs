//! A sequence of rows: what is known of it, and which of it the cache holds.

use std::sync::Arc;

use percept_model::{Layout, PAGE};

use super::adapters::Held;
use super::extents::next_run;
use super::media::MediaFeatures;
use super::pages::{Page, PageContent, Prefixes};
use super::states::State;

/// A sequence: its tokens and the features of its media, all of which it keeps, and the pages of the cache in which a
/// session holds the keys and values of those that were read. What is not held can be read again, to the same result.
pub struct Sequence {
    /// All rows; its `next` is where the next row stands.
    pub(crate) layout: Layout,
    /// For each row the length of the sequence as it was when the row came, which some rotations depend on.
    pub(crate) totals: Vec<usize>,
    pub(crate) media: Arc<MediaFeatures>,
    /// What its rows are read with beside the model.
    pub(crate) adapter: Option<Arc<Held>>,
    /// Rows that the cache holds.
    pub(crate) held: usize,
    /// Its pages by kind of layer, those that a window has left behind excepted.
    pub(crate) pages: Vec<Vec<Option<Page>>>,
    /// Its states, of a model that has some: the last one is that after the rows that are held, and one before it that from
    /// which guesses are taken back.
    pub(crate) states: Vec<State>,
    /// The slot that the next step leaves its state in, where that is another one.
    pub(crate) next_state: Option<Page>,
    /// The model has layers with states.
    has_states: bool,
    /// The cache that the pages are of.
    pub(crate) cache: u64,
    /// The links of its whole pages.
    pub(crate) links: Vec<u64>,
    /// Rows at the end that are guesses.
    drafts: usize,
}

impl Sequence {
    /// A sequence of which nothing was read.
    pub(crate) fn new(
        layout: Layout,
        media: Arc<MediaFeatures>,
        kinds: usize,
        has_states: bool,
        adapter: Option<Arc<Held>>,
    ) -> Self {
        Self {
            totals: vec![layout.ids.len(); layout.ids.len()],
            pages: vec![Vec::new(); kinds],
            layout,
            media,
            adapter,
            held: 0,
            states: Vec::new(),
            next_state: None,
            has_states,
            cache: 0,
            links: Vec::new(),
            drafts: 0,
        }
    }

    /// All rows: tokens and features of media.
    pub fn len(&self) -> usize {
        self.layout.ids.len()
    }

    /// Whether it has no rows yet.
    pub fn is_empty(&self) -> bool {
        self.layout.ids.is_empty()
    }

    /// Rows whose keys and values are in the cache.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Rows that the next step may read, `limit` at most unless an image block is wider: a block is read at once. Of a
    /// model with states they end where a page does, if one ends among them, since a prefix is shared up to a state.
    pub fn next_run(&self, limit: usize) -> usize {
        let block = |at: usize| self.layout.blocks.as_ref().map_or(-1, |b| b[self.held + at]);
        let rows = next_run(self.len() - self.held, limit, block);
        let behind = (self.held + rows) % PAGE;
        if self.has_states && self.layout.blocks.is_none() && rows > behind { rows - behind } else { rows }
    }

    /// Add tokens, to be read by the next steps.
    pub fn push(&mut self, ids: &[i32]) {
        let total = self.len() + ids.len();
        self.layout.ids.extend(ids);
        self.totals.resize(total, total);
        self.layout.features.resize(total, None);
        if let Some(blocks) = &mut self.layout.blocks {
            blocks.resize(total, -1);
        }
        for (axis, next) in self.layout.positions.iter_mut().zip(&mut self.layout.next) {
            let start = *next;
            axis.extend((0..ids.len()).map(|i| start + i as f32));
            *next = start + ids.len() as f32;
        }
    }

    /// A second sequence that goes on from the same rows. They share what the cache holds; what one of them changes is
    /// copied first.
    pub fn fork(&self) -> Self {
        Self {
            layout: self.layout.clone(),
            totals: self.totals.clone(),
            media: self.media.clone(),
            adapter: self.adapter.clone(),
            held: self.held,
            pages: self.pages.clone(),
            states: self.states.clone(),
            next_state: None,
            has_states: self.has_states,
            cache: self.cache,
            links: self.links.clone(),
            drafts: self.drafts,
        }
    }

    /// Give the pages back. All rows are kept, to be read again when they are needed.
    pub fn release(&mut self) {
        self.hold_only(0);
        (self.states, self.next_state) = (Vec::new(), None);
    }

    /// Give back the pages of all but the first `rows` rows.
    pub(super) fn hold_only(&mut self, rows: usize) {
        self.held = rows;
        self.links.truncate(rows / PAGE);
        self.drop_pages(rows.div_ceil(PAGE));
    }

    /// Give back all but the first `n` pages, the last first: what comes first is found again for longer.
    fn drop_pages(&mut self, n: usize) {
        for pages in &mut self.pages {
            while pages.len() > n {
                pages.pop();
            }
        }
    }

    /// The link of its last whole page. What is read with different adapters begins differently, so that none of its pages
    /// are shared.
    pub(crate) fn link(&self) -> u64 {
        self.links.last().copied().unwrap_or_else(|| self.start())
    }

    fn start(&self) -> u64 {
        self.adapter.as_ref().map_or(Prefixes::START, |adapter| adapter.start())
    }

    /// The tokens of all rows.
    pub(crate) fn ids(&self) -> &[i32] {
        &self.layout.ids
    }

    /// Whether features stand in this row.
    pub(crate) fn is_feature(&self, row: usize) -> bool {
        self.layout.features[row].is_some()
    }

    /// Whether another sequence, which has read no more than this one, goes on as this one does up to the end of the page that
    /// this one is reading: it will find that page then.
    pub(crate) fn reads_for(&self, other: &Self) -> bool {
        let (from, to) = (other.held, (self.held / PAGE + 1) * PAGE);
        let begins_alike = self.start() == other.start()
            && from == other.links.len() * PAGE
            && self.links.get(..other.links.len()) == Some(&other.links[..]);
        // The last row is read by itself for its logits.
        if !begins_alike || self.held < from || to > self.len() || to >= other.len() {
            return false;
        }
        let medium = |sequence: &Self, row: usize| {
            let feature = sequence.layout.features[row];
            feature.and_then(|row| sequence.media.name(row).map(|(run, row)| (*run, row)))
        };
        self.ids()[from..to] == other.ids()[from..to]
            && (from..to).all(|row| medium(self, row) == medium(other, row))
    }

    /// Rows that are no guesses.
    pub(crate) fn certain(&self) -> usize {
        self.len() - self.drafts
    }

    /// Rows at the end that are guesses.
    pub(crate) fn drafts(&self) -> usize {
        self.drafts
    }

    /// Add guesses at the next tokens: rows as if they came one by one.
    pub(crate) fn push_drafts(&mut self, ids: &[i32]) {
        ids.iter().for_each(|id| self.push(&[*id]));
        self.drafts += ids.len();
    }

    /// The first `n` guesses are tokens of the sequence, and the others are taken back.
    pub(crate) fn keep_drafts(&mut self, n: usize) {
        let rows = self.certain() + n.min(self.drafts);
        self.drafts = 0;
        self.cut(rows);
    }

    /// Take back all but the first `rows` rows. The row behind them must be one of text.
    pub(crate) fn cut(&mut self, rows: usize) {
        if rows >= self.len() {
            return;
        }
        let layout = &mut self.layout;
        // The next row stands where the first of those that go stood.
        for (axis, next) in layout.positions.iter_mut().zip(&mut layout.next) {
            *next = axis[rows];
            axis.truncate(rows);
        }
        layout.ids.truncate(rows);
        layout.features.truncate(rows);
        if let Some(blocks) = &mut layout.blocks {
            blocks.truncate(rows);
        }
        self.totals.truncate(rows);
        self.drafts = self.drafts.min(rows);
        if self.held > rows {
            self.hold_only(rows);
            self.rewind();
        }
    }

    /// What page `i` holds, which all rows of it must be known for.
    pub(crate) fn content(&self, i: usize, with_totals: bool) -> PageContent {
        let rows = i * PAGE..(i + 1) * PAGE;
        let mut bytes = Vec::with_capacity(PAGE * 16);
        let mut add = |value: i32| bytes.extend(value.to_le_bytes());
        self.layout.ids[rows.clone()].iter().for_each(|&id| add(id));
        for axis in &self.layout.positions {
            axis[rows.clone()].iter().for_each(|&at| add(at.to_bits() as i32));
        }
        if let Some(blocks) = &self.layout.blocks {
            blocks[rows.clone()].iter().for_each(|&block| add(block));
        }
        if with_totals {
            self.totals[rows.clone()].iter().for_each(|&total| add(total as i32));
        }
        // Rows of features by the run that they are of and their place in it.
        let mut before = None;
        for (at, feature) in self.layout.features[rows].iter().enumerate() {
            let Some((run, row)) = feature.and_then(|row| self.media.name(row)) else { continue };
            [at, row].iter().for_each(|n| bytes.extend((*n as u64).to_le_bytes()));
            bytes.push(u8::from(before != Some(run)));
            if before != Some(run) {
                bytes.extend(run);
            }
            before = Some(run);
        }
        PageContent(bytes)
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.release();
    }
}
