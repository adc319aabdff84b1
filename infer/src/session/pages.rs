//! Pages of the cache: which are free, who holds them, and which hold a prefix that another sequence may share.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A page that someone holds. Clones share it. When the last one is dropped, it is free again; what it holds can be found
/// until it is taken for something else.
#[derive(Clone)]
pub(crate) struct Page(Arc<Held>);

struct Held {
    number: u32,
    /// What it holds is known, so that others may find it.
    linked: AtomicBool,
    store: Arc<Mutex<Store>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut store = lock(&self.store);
        if *self.linked.get_mut() {
            store.keep(self.number);
        } else {
            store.free.push(self.number);
        }
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Page {
    /// Its index in the pools.
    pub(crate) fn number(&self) -> u32 {
        self.0.number
    }

    /// Whether it must not be written to: another sequence holds it too, or may find it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1 || self.0.linked.load(Ordering::Relaxed)
    }
}

/// Which pages nobody holds.
struct Store {
    /// Pages without known content.
    free: Vec<u32>,
    /// Pages whose content may be found, by when they were last held.
    kept: BTreeMap<u64, u32>,
    pages: Vec<Slot>,
    clock: u64,
}

/// What is known of a page.
#[derive(Default)]
struct Slot {
    /// How often it was taken: tells what it holds from what it held.
    taken: u64,
    /// Its key in `kept`.
    kept: Option<u64>,
    holder: Weak<Held>,
}

impl Store {
    fn keep(&mut self, number: u32) {
        self.clock += 1;
        self.kept.insert(self.clock, number);
        self.pages[number as usize].kept = Some(self.clock);
    }
}

/// What a page held when it was linked.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    number: u32,
    taken: u64,
}

/// The pages of the pools of one kind of layer.
pub(crate) struct Pages {
    store: Arc<Mutex<Store>>,
    count: usize,
}

impl Pages {
    /// `count` free pages.
    pub(crate) fn new(count: usize) -> Self {
        let store = Store {
            // The lowest numbers are given first, so that what is used lies together.
            free: (0..count as u32).rev().collect(),
            kept: BTreeMap::new(),
            pages: (0..count).map(|_| Slot::default()).collect(),
            clock: 0,
        };
        Self { store: Arc::new(Mutex::new(store)), count }
    }

    /// The number of all pages, free or not.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The number of pages that no sequence holds.
    pub(crate) fn free(&self) -> usize {
        let store = lock(&self.store);
        store.free.len() + store.kept.len()
    }

    /// Take a page that no sequence holds, of those with known content the one that was not held for longest; `None` when
    /// there is none.
    pub(crate) fn take(&self) -> Option<Page> {
        let mut store = lock(&self.store);
        let number = match store.free.pop() {
            Some(number) => number,
            None => store.kept.pop_first()?.1,
        };
        let slot = &mut store.pages[number as usize];
        (slot.taken, slot.kept) = (slot.taken + 1, None);
        Some(self.hold(&mut store, number, false))
    }

    fn hold(&self, store: &mut Store, number: u32, linked: bool) -> Page {
        let held = Held { number, linked: AtomicBool::new(linked), store: self.store.clone() };
        let held = Arc::new(held);
        store.pages[number as usize].holder = Arc::downgrade(&held);
        Page(held)
    }

    /// From now on the content of a page is known, and it is not written to any more.
    fn link(&self, page: &Page) -> Place {
        page.0.linked.store(true, Ordering::Relaxed);
        let number = page.number();
        Place { number, taken: lock(&self.store).pages[number as usize].taken }
    }

    /// Whether a page holds what it held when it was linked.
    fn holds(&self, place: Place) -> bool {
        let store = lock(&self.store);
        let slot = &store.pages[place.number as usize];
        slot.taken == place.taken && (slot.kept.is_some() || slot.holder.strong_count() > 0)
    }

    /// The page, when it holds what it held then.
    fn find(&self, place: Place) -> Option<Page> {
        let mut store = lock(&self.store);
        let slot = &mut store.pages[place.number as usize];
        if slot.taken != place.taken {
            return None;
        }
        if let Some(held) = slot.holder.upgrade() {
            return Some(Page(held));
        }
        let kept = slot.kept.take()?;
        store.kept.remove(&kept);
        Some(self.hold(&mut store, place.number, true))
    }
}

/// What the rows of a whole page are, besides those before them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageContent(pub(crate) Vec<u8>);

/// Whole pages that hold the same rows after the same rows are shared. A chain of pages is found from its start on, as long
/// as its pages were not taken for something else.
#[derive(Default)]
pub(crate) struct Prefixes {
    links: HashMap<(u64, PageContent), Link>,
    next: u64,
    swept: usize,
}

struct Link {
    id: u64,
    /// By kind of layer.
    pages: Vec<Option<Place>>,
    /// The state at the end of the page, in a model that has states.
    state: Option<Place>,
}

/// Where what links name lies.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    /// The pages by kind of layer.
    pub(crate) kinds: &'a [Pages],
    /// The slots of states.
    pub(crate) states: Option<&'a Pages>,
}

/// A page that was found.
pub(crate) struct Found {
    pub(crate) link: u64,
    /// By kind of layer, as far as they are there.
    pub(crate) pages: Vec<Option<Page>>,
    /// The state at its end, if it is there.
    pub(crate) state: Option<Page>,
}

impl Prefixes {
    /// The start of every chain.
    pub(crate) const START: u64 = 0;

    /// The link of a page with this content after the link `before`, and what is there of it.
    pub(crate) fn find(&self, before: u64, content: &PageContent, places: Places<'_>) -> Option<Found> {
        let link = self.links.get(&(before, content.clone()))?;
        let find = |(kind, place): (&Pages, &Option<Place>)| place.and_then(|place| kind.find(place));
        Some(Found {
            link: link.id,
            pages: places.kinds.iter().zip(&link.pages).map(find).collect(),
            state: places.states.zip(link.state).and_then(|(slots, place)| slots.find(place)),
        })
    }

    /// Remember what pages hold, and the slot of the state at their end; gives their link.
    pub(crate) fn add(
        &mut self,
        before: u64,
        content: PageContent,
        (pages, state): (&[Option<Page>], Option<&Page>),
        places: Places<'_>,
    ) -> u64 {
        let key = (before, content);
        // What is still there stays; what is not is replaced.
        let renew = |old: &mut Option<Place>, new: Option<&Page>, kind: &Pages| {
            if !old.is_some_and(|old| kind.holds(old)) {
                *old = new.map(|page| kind.link(page));
            }
        };
        if let Some(link) = self.links.get_mut(&key) {
            let kinds = link.pages.iter_mut().zip(pages).zip(places.kinds);
            kinds.for_each(|((old, new), kind)| renew(old, new.as_ref(), kind));
            places.states.into_iter().for_each(|slots| renew(&mut link.state, state, slots));
            return link.id;
        }
        self.sweep(places.kinds);
        self.next += 1;
        let link = |(kind, page): (&Pages, &Option<Page>)| page.as_ref().map(|page| kind.link(page));
        let pages = places.kinds.iter().zip(pages).map(link).collect();
        let state = places.states.zip(state).map(|(slots, slot)| slots.link(slot));
        self.links.insert(key, Link { id: self.next, pages, state });
        self.next
    }

    /// Forgets links whose pages hold something else, once there are twice as many as after the last time.
    fn sweep(&mut self, kinds: &[Pages]) {
        if self.links.len() >= 2 * self.swept.max(64) {
            let holds =
                |(kind, place): (&Pages, &Option<Place>)| place.is_some_and(|place| kind.holds(place));
            self.links.retain(|_, link| kinds.iter().zip(&link.pages).any(holds));
            self.swept = self.links.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_free_when_its_last_holder_drops_it() {
        let pages = Pages::new(2);
        let first = pages.take().unwrap();
        let shared = first.clone();
        let second = pages.take().unwrap();
        assert!(first.is_shared() && !second.is_shared() && pages.take().is_none());
        assert_eq!((first.number(), second.number(), pages.free(), pages.count()), (0, 1, 0, 2));
        drop(first);
        assert!(pages.free() == 0 && !shared.is_shared());
        drop(shared);
        assert_eq!(pages.take().map(|page| page.number()), Some(0));
    }

    #[test]
    fn a_prefix_is_found_until_its_pages_are_taken() {
        let (kinds, mut prefixes) = ([Pages::new(3)], Prefixes::default());
        let pages = &kinds[0];
        let content = |byte: u8| PageContent(vec![byte; 3]);
        let held = [pages.take(), pages.take()];
        let places = Places { kinds: &kinds, states: None };
        let first = prefixes.add(Prefixes::START, content(1), (&held[..1], None), places);
        let second = prefixes.add(first, content(2), (&held[1..], None), places);
        assert_ne!(first, second);
        let find = |prefixes: &Prefixes, before, byte| {
            let mut found = prefixes.find(before, &content(byte), Places { kinds: &kinds, states: None })?;
            Some((found.link, found.pages.remove(0)))
        };
        let (found, shared) = find(&prefixes, Prefixes::START, 1).unwrap();
        assert_eq!((found, shared.as_ref().unwrap().number()), (first, 0));
        // The same content after something else is something else.
        assert!(find(&prefixes, second, 1).is_none() && find(&prefixes, first, 1).is_none());
        // Nobody holds them, and they are found all the same.
        let [one, two] = held;
        drop((shared, one));
        drop(two);
        assert_eq!(pages.free(), 3);
        let again = find(&prefixes, first, 2).unwrap().1.unwrap();
        assert_eq!((again.number(), pages.free()), (1, 2));
        assert_eq!(find(&prefixes, first, 2).unwrap().1.unwrap().number(), 1);
        // The page without content is taken before the one with some.
        let taken = [pages.take().unwrap(), pages.take().unwrap()];
        assert_eq!((taken[0].number(), taken[1].number(), pages.free()), (2, 0, 0));
        assert!(find(&prefixes, Prefixes::START, 1).unwrap().1.is_none());
        assert!(find(&prefixes, first, 2).unwrap().1.is_some());
        // The link lives on with new pages.
        let new = [Some(taken[0].clone())];
        assert_eq!(prefixes.add(Prefixes::START, content(1), (&new, None), places), first);
        assert_eq!(find(&prefixes, Prefixes::START, 1).unwrap().1.unwrap().number(), 2);
    }

    #[test]
    fn of_pages_that_may_be_found_the_one_that_was_left_first_is_taken_first() {
        let (kinds, mut prefixes) = ([Pages::new(3)], Prefixes::default());
        let places = Places { kinds: &kinds, states: None };
        let mut held: Vec<_> = (0..3).map(|_| kinds[0].take()).collect();
        for (i, page) in held.iter().enumerate() {
            let content = PageContent(vec![i as u8]);
            prefixes.add(Prefixes::START, content, (std::slice::from_ref(page), None), places);
        }
        for i in [1, 2, 0] {
            held[i] = None;
        }
        // To be found makes a page young.
        drop(prefixes.find(Prefixes::START, &PageContent(vec![1]), places));
        let order: Vec<_> = (0..3).map(|_| kinds[0].take().map(|page| (page.number(), page))).collect();
        assert_eq!(order.iter().flatten().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 0, 1]);
    }
}
