//! One run over rows of many sequences.

use percept_model::{CacheShape, Group, MediaShape, PAGE, PassRows, PassShape, SequenceRows};

use super::adapters::{Slots, runs};
use super::extents::{bucket, groups, table_bucket};
use super::sequence::Sequence;
use super::{Key, Session};
use crate::error::{Error, Result};
use crate::runner::upload_named;

/// What a step reads of one sequence.
pub struct Part<'a> {
    /// The sequence whose rows are read.
    pub sequence: &'a mut Sequence,
    /// The next rows that are read: those of [`Sequence::next_run`], for an image block is read at once.
    pub rows: usize,
    /// The last of them whose logits are wanted.
    pub logits: usize,
}

impl Session {
    /// Read rows of several sequences in one run; gives the logits [logits, vocab] of each part's rows.
    ///
    /// # Errors
    /// [`Error::CacheFull`] when the cache has no room for the rows: nothing has changed then, and other sequences may be
    /// released. Also when a part names rows that its sequence does not have, or the device fails.
    pub fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<f32>>> {
        let mut logits = Vec::new();
        self.step_into(parts, &mut logits)?;
        Ok(logits)
    }

    /// As [`Session::step`], into the memory of an earlier step's logits: those of many sequences are megabytes, which the
    /// system would clear anew for every step.
    ///
    /// # Errors
    /// As there.
    pub fn step_into(&mut self, parts: &mut [Part<'_>], logits: &mut Vec<Vec<f32>>) -> Result<()> {
        if parts.is_empty() {
            logits.clear();
            return Ok(());
        }
        for part in parts.iter_mut() {
            self.refresh(part.sequence);
            let (held, rows, all) = (part.sequence.held, part.rows, part.sequence.len());
            if rows == 0 || rows > all - held || part.logits > rows {
                let logits = part.logits;
                return Err(Error::Setting(format!(
                    "a step is to read {rows} rows of a sequence and to give the logits of {logits}, when {held} of its \
                     {all} rows are read"
                )));
            }
        }
        let mut sequences: Vec<(&mut Sequence, usize)> =
            parts.iter_mut().map(|part| (&mut *part.sequence, part.rows)).collect();
        self.take_pages(&mut sequences)?;
        self.run_parts(parts, logits)?;
        for part in parts.iter_mut() {
            part.sequence.advance(part.rows);
            self.rows_read += part.rows as u64;
            self.settle(part.sequence);
        }
        Ok(())
    }

    /// Read all rows of a sequence that the cache does not hold; gives the logits [.., vocab] of those from `from` on, which
    /// are read again where they were read before.
    ///
    /// # Errors
    /// When the cache is full and may not become larger, or the device fails.
    pub fn read(&mut self, sequence: &mut Sequence, from: usize) -> Result<Vec<f32>> {
        self.refresh(sequence);
        if from < sequence.held {
            sequence.release();
        }
        let mut logits = Vec::new();
        while sequence.held < sequence.len() {
            let rows = sequence.next_run(self.options.chunk);
            let wanted = (sequence.held + rows).saturating_sub(from.max(sequence.held));
            match self.step(&mut [Part { sequence, rows, logits: wanted }]) {
                Ok(found) => logits.extend(found.into_iter().flatten()),
                Err(Error::CacheFull { .. }) if self.options.cache_rows.is_none() => {
                    self.grow()?;
                    self.refresh(sequence);
                    logits.clear();
                }
                Err(e) => return Err(e),
            }
        }
        Ok(logits)
    }

    /// The shape of a step of one group of text over this session's cache, with the logits of all rows.
    pub(super) fn shape(&self, group: Group) -> PassShape {
        PassShape::step(self.cache_shape(table_bucket(1), vec![group]), None)
    }

    fn cache_shape(&self, table: usize, groups: Vec<Group>) -> CacheShape {
        let (dtype, pools, states) = (self.options.cache, self.cache.extents(), self.states().0);
        CacheShape { dtype, page: PAGE, table, pools, states, groups }
    }

    /// All parts in one run, or in several where they have more adapters than a run has slots.
    fn run_parts(&mut self, parts: &[Part<'_>], logits: &mut Vec<Vec<f32>>) -> Result<()> {
        logits.resize_with(parts.len(), Vec::new);
        for run in runs(parts.iter().map(|part| part.sequence.adapter.as_ref())) {
            let own: Vec<&Part<'_>> = run.iter().map(|&i| &parts[i]).collect();
            let mut found: Vec<Vec<f32>> = run.iter().map(|&i| std::mem::take(&mut logits[i])).collect();
            self.run_step(&own, &mut found)?;
            run.into_iter().zip(found).for_each(|(i, found)| logits[i] = found);
        }
        Ok(())
    }

    fn run_step(&mut self, parts: &[&Part<'_>], logits: &mut [Vec<f32>]) -> Result<()> {
        let slots = Slots::of(parts.iter().filter_map(|part| part.sequence.adapter.as_ref()));
        let rows: Vec<usize> = parts.iter().map(|part| part.rows).collect();
        let (groups, order) = groups(&rows);
        let (inputs, firsts) = self.pass_rows(parts, &groups, &order, &slots);
        let pages = |part: &&Part<'_>| (part.sequence.held + part.rows).div_ceil(PAGE);
        let table = table_bucket(parts.iter().map(pages).max().unwrap_or(1));
        let mut shape = PassShape::step(self.cache_shape(table, groups), None);
        let wanted: usize = parts.iter().map(|part| part.logits).sum();
        if wanted < shape.count() {
            shape.out = Some(if wanted == 0 { 0 } else { bucket(wanted) });
        }
        shape.adapters = !slots.is_empty();
        shape.blocks = inputs.blocks.iter().any(|&block| block >= 0);
        if !inputs.given.is_empty() {
            shape.media = MediaShape::Given;
        }
        let (decoder, weights) = (self.model.decoder(), self.model.weights());
        let given = shape.fill(decoder, &inputs)?;
        let key = Key::Step(shape.clone(), slots.key());
        self.runner.prepare(&key, weights, || Ok(decoder.step(&slots.beside(weights), &shape)?))?;
        let pools = &mut self.cache.pools;
        let has_pools = !pools.is_empty();
        let outputs = self.runner.run(&key, |device, name, ty| match pools.remove(name) {
            Some(pool) => Ok(pool),
            // A new cache holds nothing: its pools start as zeros, and nothing else does.
            None if !has_pools && name.starts_with("cache.") => Ok(device.zeros(ty)?),
            None => match slots.tensor(name) {
                Some(tensor) => Ok(tensor),
                None => upload_named(device, &given, name),
            },
        });
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(e) => {
                // The run took the pools with it.
                self.lose_cache();
                return Err(e);
            }
        };
        let mut found = None;
        for (name, buffer) in outputs {
            if name == "logits" {
                found = Some(buffer);
            } else {
                self.cache.pools.insert(name, buffer);
            }
        }
        let vocab = self.model.decoder().vocab;
        for (rows, part) in logits.iter_mut().zip(parts) {
            let wanted = part.logits * vocab;
            // A prompt whose rows were all wanted left far more than the next token needs.
            if rows.capacity() > 4 * wanted {
                *rows = Vec::new();
            }
            rows.resize(wanted, 0.0);
        }
        if let Some(found) = found {
            // With all rows wanted they are in the order of the groups, otherwise in that of the parts.
            let mut next = 0;
            let place = |((part, first), rows): ((&&Part<'_>, usize), _)| {
                let start = if shape.out.is_none() { first + part.rows - part.logits } else { next };
                next += part.logits;
                (start * vocab * size_of::<f32>(), rows)
            };
            let rows = logits.iter_mut().map(|rows| bytemuck::cast_slice_mut(rows));
            let mut places: Vec<_> = parts.iter().zip(firsts).zip(rows).map(place).collect();
            self.device().read_parts(&found, &mut places)?;
        }
        Ok(())
    }

    /// What the rows of a step are, and where each part begins.
    fn pass_rows(
        &self,
        parts: &[&Part<'_>],
        groups: &[Group],
        order: &[Option<usize>],
        slots: &Slots,
    ) -> (PassRows, Vec<usize>) {
        let decoder = self.model.decoder();
        let mut all = PassRows::default();
        let mut firsts = vec![0; parts.len()];
        let widths = groups.iter().flat_map(|g| std::iter::repeat_n(g.rows, g.sequences));
        for (slot, width) in order.iter().zip(widths) {
            let Some(part) = slot.map(|i| parts[i]) else {
                all.pad(decoder, width);
                all.sequences.push(SequenceRows::default());
                continue;
            };
            firsts[slot.unwrap_or(0)] = all.ids.len();
            self.add_rows(&mut all, part);
            let adapter = slots.find(part.sequence.adapter.as_ref());
            all.slots.extend(std::iter::repeat_n(adapter, part.rows));
            all.pad(decoder, width - part.rows);
        }
        let mut out = Vec::new();
        for (part, first) in parts.iter().zip(&firsts) {
            out.extend((first + part.rows - part.logits..first + part.rows).map(|row| row as i32));
        }
        all.out = out;
        if all.features.iter().any(Option::is_some) {
            self.give_features(&mut all, parts, &firsts);
        }
        (all, firsts)
    }

    /// The rows of one part.
    fn add_rows(&self, all: &mut PassRows, part: &Part<'_>) {
        let decoder = self.model.decoder();
        let (sequence, layout) = (&*part.sequence, &part.sequence.layout);
        let (start, end) = (sequence.held, sequence.held + part.rows);
        all.ids.extend(&layout.ids[start..end]);
        all.positions.extend(layout.positions[0][start..end].iter().map(|&at| at as i32));
        all.features.extend(&layout.features[start..end]);
        match &layout.blocks {
            Some(blocks) => all.blocks.extend(&blocks[start..end]),
            None => all.blocks.extend(std::iter::repeat_n(-1, part.rows)),
        }
        all.segments.extend(std::iter::repeat_n(0, part.rows));
        let mut from = start;
        while from < end {
            let total = sequence.totals[from];
            let to = match self.grows {
                true => (from..end).find(|&at| sequence.totals[at] != total).unwrap_or(end),
                false => end,
            };
            let positions: Vec<&[f32]> = layout.positions.iter().map(|axis| &axis[from..to]).collect();
            all.add_angles(decoder, &positions, total);
            from = to;
        }
        let numbers = |pages: &Vec<Option<super::pages::Page>>| {
            pages.iter().map(|page| page.as_ref().map_or(0, |page| page.number() as i32)).collect()
        };
        let pages = sequence.pages.iter().map(numbers).collect();
        let [state_from, state_to] = sequence.state_slots();
        all.sequences.push(SequenceRows { offset: start, rows: part.rows, pages, state_from, state_to });
    }

    /// Features of media at their rows.
    fn give_features(&self, all: &mut PassRows, parts: &[&Part<'_>], firsts: &[usize]) {
        let decoder = self.model.decoder();
        let (hidden, count) = (decoder.hidden, all.ids.len());
        all.given = vec![0.0; count * hidden];
        all.deepstack = vec![vec![0.0; count * hidden]; decoder.deepstack];
        for (part, first) in parts.iter().zip(firsts) {
            let media = &part.sequence.media;
            for row in *first..first + part.rows {
                let Some(feature) = all.features[row] else { continue };
                let to = row * hidden..(row + 1) * hidden;
                let sets = std::iter::once(&mut all.given).chain(&mut all.deepstack);
                sets.zip(media.row(feature)).for_each(|(set, from)| set[to.clone()].copy_from_slice(from));
            }
        }
    }
}
