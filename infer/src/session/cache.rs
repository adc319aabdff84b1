//! The paged cache of a session: its pools on the device, their pages, and the prefixes that may be shared.

use std::collections::HashMap;

use percept_graph::{DType, Graph, Role, ScatterKind, TensorType, Trace};
use percept_hal::Buffer;
use percept_model::{BlockSpec, Decoder, PAGE};

use super::pages::{Found, Page, Pages, Places, Prefixes};
use super::states::State;
use super::{Key, Sequence, Session, states};
use crate::error::{Error, Result};

/// Pages of a session's first cache.
pub(super) const FIRST_PAGES: usize = 4;

/// Pools of keys and values, with pages that sequences hold.
pub(crate) struct Cache {
    /// Which cache this is: sequences hold pages of one.
    pub(super) number: u64,
    /// The pages by kind of layer.
    pub(super) kinds: Vec<Pages>,
    /// The slots of states, where some layers have states.
    pub(super) states: Option<Pages>,
    /// The pools by the names of the graphs' inputs; made when they are first used.
    pub(super) pools: HashMap<String, Buffer>,
    pub(super) prefixes: Prefixes,
}

impl Cache {
    /// A cache in which layers that keep all rows have `pages` pages. Layers with a window keep fewer rows of each of
    /// `sequences` sequences, of which a step reads `chunk` rows at most.
    pub(super) fn new(
        number: u64,
        pages: usize,
        sequences: usize,
        windows: &[Option<usize>],
        has_states: bool,
        chunk: usize,
    ) -> Self {
        let kept = |window: &Option<usize>| match window {
            // The window, the run that is being read, and the pages that both begin within.
            Some(window) => {
                let each = window.saturating_add(chunk).div_ceil(PAGE) + 2;
                pages.min(each.saturating_mul(sequences))
            }
            None => pages,
        };
        let kinds = windows.iter().map(|window| Pages::new(kept(window).max(1))).collect();
        let states = has_states.then(|| Pages::new(states::slots(pages, sequences)));
        Self { number, kinds, states, pools: HashMap::new(), prefixes: Prefixes::default() }
    }

    /// Pages by kind of layer.
    pub(super) fn extents(&self) -> Vec<usize> {
        self.kinds.iter().map(Pages::count).collect()
    }
}

impl Session {
    /// Rows of keys and values that the cache has room for, and how many of them sequences hold, in whole pages: of the kind
    /// of layer that keeps most.
    pub fn cache_rows(&self) -> (usize, usize) {
        let rows = |pages: &Pages| (pages.count() * PAGE, (pages.count() - pages.free()) * PAGE);
        self.cache.kinds.iter().map(rows).max().unwrap_or_default()
    }

    /// Pages of the cache, and those that sequences hold: of the kind of layer that keeps most.
    pub(crate) fn pages(&self) -> (usize, usize) {
        let (rows, held) = self.cache_rows();
        (rows / PAGE, held / PAGE)
    }

    /// Slots of states, and those that sequences hold; none in a model without states.
    pub fn states(&self) -> (usize, usize) {
        self.cache.states.as_ref().map_or((0, 0), |slots| (slots.count(), slots.count() - slots.free()))
    }

    /// Rows that one sequence may have at most in a cache of a fixed size.
    pub(crate) fn most_rows(&self) -> Option<usize> {
        self.options.cache_rows?;
        let kept = self.cache.kinds.iter().zip(&self.windows).filter(|(_, window)| window.is_none());
        Some(kept.map(|(pages, _)| pages.count() * PAGE).min().unwrap_or(usize::MAX))
    }

    /// Whether there are free pages for a sequence of `rows` rows, and `spare` more.
    pub(crate) fn has_room(&self, rows: usize, spare: usize) -> bool {
        let has_room = |(pages, window): (&Pages, &Option<usize>)| {
            let kept = match window {
                Some(window) => rows.min(window.saturating_add(self.options.chunk)),
                None => rows,
            };
            pages.free() >= (kept.div_ceil(PAGE) + spare).min(pages.count())
        };
        // A state to go on from, and one to leave.
        let has_slots = self.cache.states.as_ref().is_none_or(|slots| slots.free() >= 2);
        has_slots && self.cache.kinds.iter().zip(&self.windows).all(has_room)
    }

    /// Pages that sequences hold, by kind of layer: see [`Decoder::windows`].
    pub fn held_pages(&self) -> Vec<usize> {
        self.cache.kinds.iter().map(|pages| pages.count() - pages.free()).collect()
    }

    /// Bytes of the cache's pools on the device.
    pub fn cache_bytes(&self) -> usize {
        self.cache.pools.values().map(|pool| pool.ty().bytes()).sum()
    }

    /// Make sure that the cache has room for `rows` more rows, if it may become larger. One that is too small is made anew,
    /// and sequences that held rows of it are read again when they are needed: nothing is copied.
    ///
    /// # Errors
    /// When the cache cannot become as large.
    pub fn reserve(&mut self, rows: usize) -> Result<()> {
        self.reserve_for(rows, 1)
    }

    /// As [`Session::reserve`], for `sequences` sequences of `rows` rows each.
    ///
    /// # Errors
    /// As [`Session::reserve`].
    pub fn reserve_for(&mut self, rows: usize, sequences: usize) -> Result<()> {
        let wanted = rows.div_ceil(PAGE).saturating_mul(sequences);
        let enough = |(pages, window): (&Pages, &Option<usize>)| match window {
            // What a window needs is settled when the cache is made.
            Some(_) => {
                let chunk = self.options.chunk;
                pages.count() >= Cache::new(0, wanted, sequences, &[*window], false, chunk).extents()[0]
            }
            None => pages.free() >= wanted,
        };
        let has_slots = |slots: &Pages| slots.count() >= states::slots(wanted, sequences);
        let has_slots = self.cache.states.as_ref().is_none_or(has_slots);
        let has_pages = self.cache.kinds.iter().zip(&self.windows).all(enough);
        if self.options.cache_rows.is_some() || (has_slots && has_pages) {
            return Ok(());
        }
        let held = self.cache.kinds.iter().map(|pages| pages.count() - pages.free()).max().unwrap_or(0);
        // Programs are compiled for the extents of the pools, so a cache that was made for someone before is doubled at
        // least: it becomes larger a few times only.
        let now = self.cache.extents().into_iter().max().unwrap_or(0);
        let least = if now > FIRST_PAGES { 2 * now } else { 0 };
        self.make_cache((held + wanted).max(least), sequences.max(self.sequences))
    }

    /// Whether the cache may become larger.
    pub(crate) fn may_grow(&self) -> bool {
        self.options.cache_rows.is_none()
    }

    /// Twice the room, where the cache may become larger.
    pub(crate) fn grow(&mut self) -> Result<()> {
        let pages = self.cache.extents().into_iter().max().unwrap_or(1);
        self.make_cache(2 * pages, 2 * self.sequences)
    }

    pub(super) fn make_cache(&mut self, pages: usize, sequences: usize) -> Result<()> {
        if i32::try_from(pages).is_err() {
            return Err(Error::Setting(format!("a cache of {pages} pages is larger than any")));
        }
        self.sequences = sequences;
        self.cache = self.new_cache(pages, sequences);
        // Programs over the old pools are of no use any more.
        self.runner.keep(|key| matches!(key, Key::Encoder(_)));
        Ok(())
    }

    /// Everything in the pools is lost: sequences are read again when they are needed.
    pub(super) fn lose_cache(&mut self) {
        let pages = self.cache.extents().into_iter().max().unwrap_or(1);
        self.cache = self.new_cache(pages, self.sequences);
    }

    fn new_cache(&self, pages: usize, sequences: usize) -> Cache {
        let has_states = self.cache.states.is_some();
        Cache::new(self.cache.number + 1, pages, sequences, &self.windows, has_states, self.options.chunk)
    }

    /// Give up what a sequence held of a cache that is no more.
    pub(crate) fn refresh(&self, sequence: &mut Sequence) {
        if sequence.cache != self.cache.number {
            sequence.release();
            sequence.cache = self.cache.number;
        }
    }

    /// Pages for the next `rows` rows of sequences; what is shared and will be written to is copied.
    ///
    /// # Errors
    /// [`Error::CacheFull`] when there are not enough; nothing has changed then.
    pub(super) fn take_pages(&mut self, sequences: &mut [(&mut Sequence, usize)]) -> Result<()> {
        let touched = |s: &Sequence, rows: usize| s.held / PAGE..(s.held + rows).div_ceil(PAGE);
        // The page that a sequence goes on within, where another one holds it too.
        let is_shared = |s: &Sequence, kind: usize, i: usize| {
            let page = s.pages[kind].get(i).and_then(Option::as_ref);
            page.is_some_and(|page| page.is_shared() && !s.held.is_multiple_of(PAGE))
        };
        let is_missing =
            |s: &Sequence, kind: usize, i: usize| s.pages[kind].get(i).is_none_or(Option::is_none);
        for (kind, pages) in self.cache.kinds.iter().enumerate() {
            let of = |(s, rows): &(&mut Sequence, usize)| {
                touched(s, *rows).filter(|&i| is_missing(s, kind, i) || is_shared(s, kind, i)).count()
            };
            let (wanted, free) = (sequences.iter().map(of).sum::<usize>(), pages.free());
            if wanted > free {
                let (room, wanted, free) = (pages.count() * PAGE, wanted * PAGE, free * PAGE);
                return Err(Error::CacheFull { room, wanted, free });
            }
        }
        if let Some(slots) = &self.cache.states {
            states::take(slots, sequences)?;
        }
        let mut copies = Vec::new();
        for (sequence, rows) in sequences {
            for kind in 0..self.cache.kinds.len() {
                for i in touched(sequence, *rows) {
                    let shared = is_shared(sequence, kind, i);
                    if !shared && !is_missing(sequence, kind, i) {
                        continue;
                    }
                    // There are as many free pages as were counted above.
                    let Some(new) = self.cache.kinds[kind].take() else { continue };
                    let own = &mut sequence.pages[kind];
                    if own.len() <= i {
                        own.resize(i + 1, None);
                    }
                    let old = own[i].replace(new.clone());
                    if let (true, Some(old)) = (shared, old) {
                        copies.push((kind, old, new));
                    }
                }
            }
        }
        for (kind, from, to) in copies {
            self.copy_page(kind, &from, &to)?;
        }
        Ok(())
    }

    /// Copy what a page holds in every layer of a kind.
    fn copy_page(&mut self, kind: usize, from: &Page, to: &Page) -> Result<()> {
        let key = Key::Copy(kind, self.cache.kinds[kind].count());
        let names = pool_names(self.model.decoder(), self.windows[kind]);
        let pools = &self.cache.pools;
        let types = names.iter().filter_map(|name| Some((&name[..], pools.get(name)?.ty().clone())));
        let types: Vec<(&str, TensorType)> = types.collect();
        self.runner.prepare(&key, self.model.weights(), || copy_graph(&types))?;
        let pools = &mut self.cache.pools;
        let outputs = self.runner.run(&key, |device, name, ty| match name {
            "from" => Ok(device.upload(ty, &from.number().to_le_bytes())?),
            "to" => Ok(device.upload(ty, &to.number().to_le_bytes())?),
            _ => pools.remove(name).ok_or_else(|| Error::NotGiven(name.to_string())),
        });
        match outputs {
            Ok(outputs) => self.cache.pools.extend(outputs),
            Err(e) => {
                self.lose_cache();
                return Err(e);
            }
        }
        Ok(())
    }

    /// Remember the whole pages of a sequence, and give back those that its windows have left behind. Rows that are guesses
    /// do not count: they may be taken back.
    pub(super) fn settle(&mut self, sequence: &mut Sequence) {
        let rows = sequence.held.min(sequence.certain());
        while self.options.share_prefixes && (sequence.links.len() + 1) * PAGE <= rows {
            let i = sequence.links.len();
            let content = sequence.content(i, self.grows);
            let pages: Vec<Option<Page>> =
                sequence.pages.iter().map(|kind| kind.get(i).cloned().flatten()).collect();
            let after = |state: &&State| state.rows == (i + 1) * PAGE;
            let state = sequence.states.iter().find(after).map(|state| &state.slot);
            let Cache { kinds, states, prefixes, .. } = &mut self.cache;
            let places = Places { kinds, states: states.as_ref() };
            let link = prefixes.add(sequence.link(), content, (&pages, state), places);
            sequence.links.push(link);
        }
        for (window, pages) in self.windows.iter().zip(&mut sequence.pages) {
            if let Some(window) = window {
                let left = first_seen(rows, *window) / PAGE;
                pages.iter_mut().take(left).for_each(|page| *page = None);
            }
        }
    }

    /// Say how many of the guesses at the end of a sequence were right; the others are taken back.
    pub(crate) fn keep_drafts(&mut self, sequence: &mut Sequence, n: usize) {
        sequence.keep_drafts(n);
        if sequence.cache == self.cache.number {
            self.settle(sequence);
            sequence.forget_states();
        }
    }

    /// Take back all but the first `rows` rows of a sequence, so that it can go on from there. What the cache holds of the
    /// others is given up.
    ///
    /// # Errors
    /// When the row behind them is one of a medium, which is not cut.
    pub fn truncate(&mut self, sequence: &mut Sequence, rows: usize) -> Result<()> {
        if rows >= sequence.len() {
            return Ok(());
        }
        if sequence.is_feature(rows) || sequence.layout.blocks.as_ref().is_some_and(|b| b[rows] >= 0) {
            return Err(Error::Setting(format!(
                "a sequence cannot be cut before row {rows}, which is one of a medium; cut before or behind the medium"
            )));
        }
        sequence.cut(rows);
        // What a window sees again may be gone: it is read again then.
        let held = sequence.held;
        let is_there = |(window, pages): (&Option<usize>, &Vec<Option<Page>>)| {
            let from = window.map_or(0, |window| first_seen(held, window) / PAGE);
            (from..held.div_ceil(PAGE)).all(|i| pages.get(i).is_some_and(Option::is_some))
        };
        if !self.windows.iter().zip(&sequence.pages).all(is_there) {
            sequence.release();
        }
        if self.cache.states.is_some() && sequence.held < rows {
            // A state is known at the end of some page before.
            self.share_prefix(sequence);
        }
        Ok(())
    }

    /// Let a sequence hold the pages that the cache has of the rows that it has not read yet, all but the last one, which
    /// gives logits. Nothing happens where it has read a part of a page, or where prefixes are not shared.
    pub(crate) fn share_prefix(&mut self, sequence: &mut Sequence) {
        self.refresh(sequence);
        let base = sequence.links.len();
        if !self.options.share_prefixes || sequence.held != base * PAGE {
            return;
        }
        let mut chain: Vec<Found> = Vec::new();
        let mut link = sequence.link();
        while (base + chain.len() + 1) * PAGE < sequence.len() {
            let content = sequence.content(base + chain.len(), self.grows);
            let Cache { kinds, states, prefixes, .. } = &self.cache;
            let found = prefixes.find(link, &content, Places { kinds, states: states.as_ref() });
            let Some(found) = found else { break };
            let kept = self.windows.iter().zip(&found.pages).all(|(w, page)| w.is_some() || page.is_some());
            if !kept {
                break;
            }
            link = found.link;
            chain.push(found);
        }
        // What a window sees behind the shared rows must be there, and an image block is never cut.
        let fits = |n: usize| {
            let rows = (base + n) * PAGE;
            let sees = |(kind, window): (usize, &Option<usize>)| {
                let from = window.map_or(0, |window| first_seen(rows, window) / PAGE);
                let is_there = |i: usize| match i.checked_sub(base) {
                    Some(i) => chain[i].pages[kind].is_some(),
                    None => sequence.pages[kind].get(i).is_some_and(Option::is_some),
                };
                (from..base + n).all(is_there)
            };
            let block = |at: usize| sequence.layout.blocks.as_ref().map_or(-1, |blocks| blocks[at]);
            let cut = block(rows) >= 0 && block(rows) == block(rows - 1);
            let has_state = self.cache.states.is_none() || chain[n - 1].state.is_some();
            !cut && has_state && self.windows.iter().enumerate().all(sees)
        };
        let n = (1..=chain.len()).rev().find(|&n| fits(n)).unwrap_or(0);
        let rows = (base + n) * PAGE;
        for Found { link, pages, state } in chain.drain(..n) {
            sequence.links.push(link);
            sequence.pages.iter_mut().zip(pages).for_each(|(own, page)| own.push(page));
            if let (Some(slot), true) = (state, sequence.links.len() == base + n) {
                sequence.states = vec![State { rows, slot }];
            }
        }
        sequence.held = rows;
    }
}

/// The first row that the row after `rows` rows sees through a window.
fn first_seen(rows: usize, window: usize) -> usize {
    (rows + 1).saturating_sub(window)
}

/// The pools of the layers with a window. Layers that share the keys of another have none.
fn pool_names(decoder: &Decoder, window: Option<usize>) -> Vec<String> {
    let own = |b: &BlockSpec| b.recurrent.is_none() && b.attention.keys_of.is_none();
    let layers = decoder.stack.blocks.iter().enumerate();
    let layers = layers.filter(|(_, b)| own(b) && b.attention.window == window);
    layers.flat_map(|(i, _)| ["k", "v"].map(|which| format!("cache.{i}.{which}"))).collect()
}

/// Copies the page `from` of every pool to `to`, both i32[1].
fn copy_graph(pools: &[(&str, TensorType)]) -> Result<Graph> {
    let t = Trace::new("copy_page");
    let [from, to] = ["from", "to"].map(|name| t.data(name, DType::I32, [1]));
    for (name, ty) in pools {
        let pool = t.input(*name, Role::State, ty.clone());
        let copied = pool.scatter(ScatterKind::Set, &to, &pool.gather(&from, 0), 0);
        t.output_in_place(*name, &copied, &pool);
    }
    Ok(t.finish()?)
}
