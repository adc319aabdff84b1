//! Adapters that sequences of one session have, each its own: rows with different ones are read in one step.
//!
//! A program knows slots, not adapters. What stands in a slot is given to each run, so a program is compiled for what adapters
//! do beside which layers, and serves all adapters that do the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use percept_graph::DType;
use percept_hal::Buffer;
use percept_model::{
    Adapter, AdapterLayers, Extras, LayerAdapter, ParameterSpecs, Weights, parse_slot_parameter,
};

use super::{Key, Session};
use crate::error::{Error, Result};

/// An adapter of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(u64);

impl fmt::Display for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// No two adapters of the process have one number, so that one of another session is not taken for one of this.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Adapters with which one run reads rows at most. Each takes a little of the time of all rows.
const MOST_SLOTS: usize = 8;

/// An adapter on the device. It is freed when the session and all sequences have let go of it.
pub(crate) struct Held {
    id: AdapterId,
    structure: Arc<Structure>,
    tensors: HashMap<String, Arc<Buffer>>,
}

/// What adapters do beside which layers, with a number that stands for it.
struct Structure {
    number: u64,
    layers: AdapterLayers,
}

impl Held {
    /// The start of the chains of pages that were read with it; those of [`super::pages::Prefixes`] count from the other end.
    pub(super) fn start(&self) -> u64 {
        u64::MAX - self.id.0
    }
}

/// The adapters of a session.
#[derive(Default)]
pub(super) struct Adapters {
    held: BTreeMap<AdapterId, Arc<Held>>,
    structures: Vec<Weak<Structure>>,
    /// The number of the last structure.
    last: u64,
}

impl Adapters {
    pub(super) fn find(&self, id: AdapterId) -> Result<Arc<Held>> {
        self.held.get(&id).cloned().ok_or(Error::UnknownAdapter(id))
    }

    /// What an adapter does, under one number with others that do the same.
    fn structure(&mut self, layers: &AdapterLayers) -> Arc<Structure> {
        let known = self.structures.iter().filter_map(Weak::upgrade).find(|known| known.layers == *layers);
        known.unwrap_or_else(|| {
            self.last += 1;
            let new = Arc::new(Structure { number: self.last, layers: layers.clone() });
            self.structures.push(Arc::downgrade(&new));
            new
        })
    }
}

impl Session {
    /// Load an adapter of the session's model. Sequences that are to be read with it name it in
    /// [`Session::prompt_with`] or [`crate::GenerateOptions::adapter`]. What they give is what they give in a session of
    /// the model with this adapter alone.
    ///
    /// # Errors
    /// When it was opened over another model, or the device cannot take it.
    pub fn add_adapter(&mut self, adapter: LayerAdapter) -> Result<AdapterId> {
        let own = self.model.weights().checkpoint().path();
        if adapter.base() != own {
            return Err(Error::Setting(format!(
                "the adapter {} was opened over {}, and the session's model is {}; open it over that",
                adapter.path().display(),
                adapter.base().display(),
                own.display()
            )));
        }
        let mut tensors = HashMap::new();
        for (name, tensor) in adapter.tensors() {
            tensors.insert(name.clone(), self.runner.load(tensor)?);
        }
        let id = AdapterId(NEXT.fetch_add(1, Ordering::Relaxed));
        let structure = self.adapters.structure(adapter.layers());
        self.adapters.held.insert(id, Arc::new(Held { id, structure, tensors }));
        Ok(id)
    }

    /// Let go of an adapter: no sequence begins with it any more. Those that did keep it, and it is freed with the last of
    /// them.
    ///
    /// # Errors
    /// When the session has no such adapter.
    pub fn remove_adapter(&mut self, id: AdapterId) -> Result<()> {
        self.adapters.held.remove(&id).ok_or(Error::UnknownAdapter(id))?;
        let structures = &mut self.adapters.structures;
        structures.retain(|structure| structure.strong_count() > 0);
        let kept: Vec<u64> = structures.iter().filter_map(Weak::upgrade).map(|s| s.number).collect();
        // Programs for what no adapter does any more.
        self.runner.keep(|key| match key {
            Key::Step(_, slots) => slots.iter().all(|number| kept.contains(number)),
            _ => true,
        });
        Ok(())
    }
}

/// The parts of a step by runs, given the adapter of each: a run has as many adapters as there are slots at most. Those without
/// one are of the first.
pub(super) fn runs<'a>(adapters: impl Iterator<Item = Option<&'a Arc<Held>>>) -> Vec<Vec<usize>> {
    let mut seen: Vec<AdapterId> = Vec::new();
    let mut runs = vec![Vec::new()];
    for (i, adapter) in adapters.enumerate() {
        let run = adapter.map_or(0, |adapter| {
            let known = seen.iter().position(|id| *id == adapter.id);
            let number = known.unwrap_or(seen.len());
            if known.is_none() {
                seen.push(adapter.id);
            }
            number / MOST_SLOTS
        });
        runs.resize(runs.len().max(run + 1), Vec::new());
        runs[run].push(i);
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// The adapters of one run. Of each structure there are 1, 2, 4 or 8 slots, so that few programs are compiled; what fills them up
/// acts on no row.
pub(super) struct Slots(Vec<Arc<Held>>);

impl Slots {
    pub(super) fn of<'a>(adapters: impl Iterator<Item = &'a Arc<Held>>) -> Self {
        let mut by_structure: BTreeMap<u64, BTreeMap<AdapterId, &Arc<Held>>> = BTreeMap::new();
        for adapter in adapters {
            by_structure.entry(adapter.structure.number).or_default().insert(adapter.id, adapter);
        }
        let mut slots = Vec::new();
        for all in by_structure.values() {
            let fill = all.len().next_power_of_two() - all.len();
            slots.extend(all.values().map(|adapter| Arc::clone(adapter)));
            slots.extend(all.values().take(1).flat_map(|first| std::iter::repeat_n(Arc::clone(first), fill)));
        }
        Self(slots)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a program depends on.
    pub(super) fn key(&self) -> Vec<u64> {
        self.0.iter().map(|held| held.structure.number).collect()
    }

    /// The slot of an adapter, -1 for none.
    pub(super) fn find(&self, adapter: Option<&Arc<Held>>) -> i32 {
        let slot = adapter.and_then(|adapter| self.0.iter().position(|held| held.id == adapter.id));
        slot.map_or(-1, |slot| slot as i32)
    }

    /// The tensor that a graph's input is, where it is an adapter's.
    pub(super) fn tensor(&self, name: &str) -> Option<Buffer> {
        let (slot, name) = parse_slot_parameter(name)?;
        Some(Buffer::clone(self.0.get(slot)?.tensors.get(name)?))
    }

    /// The parameters of a model with these adapters beside them.
    pub(super) fn beside<'a>(&'a self, weights: &'a Weights) -> WithSlots<'a> {
        WithSlots { weights, slots: self }
    }
}

/// The parameters of a model, and the adapters in the slots of a run.
pub(super) struct WithSlots<'a> {
    weights: &'a Weights,
    slots: &'a Slots,
}

impl ParameterSpecs for WithSlots<'_> {
    fn dtype(&self, name: &str, dims: &[usize]) -> percept_model::Result<DType> {
        self.weights.dtype(name, dims)
    }

    fn adapter(&self, name: &str) -> Option<Adapter> {
        self.weights.adapter(name)
    }

    fn drops(&self, name: &str) -> bool {
        self.weights.drops(name)
    }

    fn extras(&self, name: &str) -> Extras {
        self.weights.extras(name)
    }

    fn is_adapted(&self, name: &str) -> bool {
        self.weights.is_adapted(name)
    }

    fn slots(&self, name: &str) -> Vec<(usize, Adapter, Extras)> {
        let of = |(slot, held): (usize, &Arc<Held>)| {
            let (adapter, extras) = held.structure.layers.find(name)?;
            Some((slot, adapter, extras))
        };
        self.slots.0.iter().enumerate().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(id: u64, structure: &Arc<Structure>) -> Arc<Held> {
        Arc::new(Held { id: AdapterId(id), structure: structure.clone(), tensors: HashMap::new() })
    }

    fn structure(number: u64) -> Arc<Structure> {
        Arc::new(Structure { number, layers: AdapterLayers::default() })
    }

    #[test]
    fn programs_depend_on_what_adapters_do_and_on_few_numbers_of_them() {
        let (one, two) = (structure(1), structure(2));
        let [a, b, c, d] = [held(1, &one), held(2, &one), held(3, &one), held(4, &two)];
        let of = |all: &[&Arc<Held>]| Slots::of(all.iter().copied());
        let slots = of(&[&d, &c, &a, &c, &b]);
        assert_eq!(slots.key(), [1, 1, 1, 1, 2]);
        assert_eq!([&a, &b, &c, &d].map(|held| slots.find(Some(held))), [0, 1, 2, 4]);
        // The same program with other adapters, however often each is there.
        assert_eq!(of(&[&b, &d]).key(), of(&[&d, &c, &c]).key());
        let none = of(&[]);
        assert!(
            none.is_empty() && none.key().is_empty() && none.find(Some(&a)) == -1 && none.find(None) == -1
        );
    }

    #[test]
    fn a_run_has_as_many_adapters_as_there_are_slots_at_most() {
        let one = structure(1);
        let all: Vec<Arc<Held>> = (0..2 * MOST_SLOTS as u64 + 1).map(|id| held(id, &one)).collect();
        let parts = |order: &[Option<usize>]| runs(order.iter().map(|i| i.map(|i| &all[i])));
        assert_eq!(parts(&[None, Some(3), None, Some(3)]), [[0, 1, 2, 3]]);
        let mut order: Vec<Option<usize>> = (0..all.len()).map(Some).collect();
        order.extend([None, Some(0), Some(MOST_SLOTS)]);
        let found = parts(&order);
        let next = all.len();
        let mut first: Vec<usize> = (0..MOST_SLOTS).collect();
        first.extend([next, next + 1]);
        let mut second: Vec<usize> = (MOST_SLOTS..2 * MOST_SLOTS).collect();
        second.push(next + 2);
        assert_eq!(found, [first, second, vec![2 * MOST_SLOTS]]);
        assert!(parts(&[]).is_empty());
    }
}
