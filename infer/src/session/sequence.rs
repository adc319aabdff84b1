//! A sequence of rows: what is known of it, and which of it the cache holds.

use std::sync::Arc;

use percept_model::Layout;

use super::extents::next_run;
use super::pages::{Page, PageContent, Prefixes};

/// What the encoders made of a prompt's media.
#[derive(Default)]
pub(crate) struct MediaFeatures {
    /// f32[n,hidden], all runs one after the other.
    pub(crate) rows: Vec<f32>,
    /// Extra features of the same shape.
    pub(crate) deepstack: Vec<Vec<f32>>,
    /// Tells these media from others: a hash of what the encoders read.
    pub(crate) digest: [u8; 32],
}

/// A sequence: its tokens and the features of its media, all of which it keeps, and the pages of the cache in which a
/// session holds the keys and values of those that were read. What is not held can be read again, to the same result.
pub struct Sequence {
    /// All rows; its `next` is where the next row stands.
    pub(crate) layout: Layout,
    /// For each row the length of the sequence as it was when the row came, which some rotations depend on.
    pub(crate) totals: Vec<usize>,
    pub(crate) media: Arc<MediaFeatures>,
    /// Rows that the cache holds.
    pub(crate) held: usize,
    /// Its pages by kind of layer, those that a window has left behind excepted.
    pub(crate) pages: Vec<Vec<Option<Page>>>,
    /// The cache that the pages are of.
    pub(crate) cache: u64,
    /// The chain of whole pages, and how many there are.
    pub(crate) link: u64,
    pub(crate) linked: usize,
}

impl Sequence {
    /// A sequence of which nothing was read.
    pub(crate) fn new(layout: Layout, media: Arc<MediaFeatures>, kinds: usize) -> Self {
        let totals = vec![layout.ids.len(); layout.ids.len()];
        let pages = vec![Vec::new(); kinds];
        Self { layout, totals, media, held: 0, pages, cache: 0, link: Prefixes::START, linked: 0 }
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

    /// Rows that the next step may read, `limit` at most unless an image block is wider: a block is read at once.
    pub fn next_run(&self, limit: usize) -> usize {
        let block = |at: usize| self.layout.blocks.as_ref().map_or(-1, |b| b[self.held + at]);
        next_run(self.len() - self.held, limit, block)
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
            axis.extend((0..ids.len() as i32).map(|i| start.saturating_add(i)));
            *next = start.saturating_add(ids.len() as i32);
        }
    }

    /// A second sequence that goes on from the same rows. They share what the cache holds; what one of them changes is
    /// copied first.
    pub fn fork(&self) -> Self {
        Self {
            layout: self.layout.clone(),
            totals: self.totals.clone(),
            media: self.media.clone(),
            held: self.held,
            pages: self.pages.clone(),
            cache: self.cache,
            link: self.link,
            linked: self.linked,
        }
    }

    /// Give the pages back. All rows are kept, to be read again when they are needed.
    pub fn release(&mut self) {
        self.pages.iter_mut().for_each(Vec::clear);
        (self.held, self.link, self.linked) = (0, Prefixes::START, 0);
    }

    /// What page `i` holds, which all rows of it must be known for.
    pub(crate) fn content(&self, i: usize, page: usize, with_totals: bool) -> PageContent {
        let rows = i * page..(i + 1) * page;
        let mut bytes = Vec::with_capacity(page * 16);
        let mut add = |value: i32| bytes.extend(value.to_le_bytes());
        self.layout.ids[rows.clone()].iter().for_each(|&id| add(id));
        for axis in &self.layout.positions {
            axis[rows.clone()].iter().for_each(|&at| add(at));
        }
        if let Some(blocks) = &self.layout.blocks {
            blocks[rows.clone()].iter().for_each(|&block| add(block));
        }
        if with_totals {
            self.totals[rows.clone()].iter().for_each(|&total| add(total as i32));
        }
        let features = &self.layout.features[rows];
        if features.iter().any(Option::is_some) {
            features.iter().for_each(|f| add(f.map_or(-1, |row| row as i32)));
            bytes.extend(self.media.digest);
        }
        PageContent(bytes)
    }
}
