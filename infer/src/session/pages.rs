//! Pages of the cache: which are free, who holds them, and which hold a prefix that another sequence may share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Free pages of the pools of one kind of layer.
type Free = Arc<Mutex<Vec<u32>>>;

/// A page that someone holds. Clones share it, and it is free again when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Page(Arc<Held>);

struct Held {
    number: u32,
    free: Free,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

impl Page {
    /// Its index in the pools.
    pub(crate) fn number(&self) -> u32 {
        self.0.number
    }

    /// Whether another sequence holds it too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The pages of the pools of one kind of layer.
pub(crate) struct Pages {
    free: Free,
    count: usize,
}

impl Pages {
    /// `count` free pages.
    pub(crate) fn new(count: usize) -> Self {
        // The lowest numbers are given first, so that what is used lies together.
        Self { free: Arc::new(Mutex::new((0..count as u32).rev().collect())), count }
    }

    /// The number of all pages, free or not.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The number of pages that no sequence holds.
    pub(crate) fn free(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Take a page that no sequence holds; `None` when there is none.
    pub(crate) fn take(&self) -> Option<Page> {
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Page(Arc::new(Held { number, free: self.free.clone() })))
    }
}

/// What the rows of a whole page are, besides those before them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageContent(pub(crate) Vec<u8>);

/// Whole pages that hold the same rows after the same rows are shared. A chain of pages is found from its start on; pages
/// that nobody holds any more are not found.
#[derive(Default)]
pub(crate) struct Prefixes {
    links: HashMap<(u64, PageContent), Link>,
    next: u64,
    swept: usize,
}

struct Link {
    id: u64,
    /// By kind of layer.
    pages: Vec<Weak<Held>>,
}

impl Prefixes {
    /// The start of every chain.
    pub(crate) const START: u64 = 0;

    /// The link of a page with this content after the link `before`, and its pages that are still held.
    pub(crate) fn find(&self, before: u64, content: &PageContent) -> Option<(u64, Vec<Option<Page>>)> {
        let link = self.links.get(&(before, content.clone()))?;
        Some((link.id, link.pages.iter().map(|page| page.upgrade().map(Page)).collect()))
    }

    /// Remember what pages hold; gives their link.
    pub(crate) fn add(&mut self, before: u64, content: PageContent, pages: &[Option<Page>]) -> u64 {
        let weak = |page: &Option<Page>| page.as_ref().map_or_else(Weak::new, |page| Arc::downgrade(&page.0));
        let pages: Vec<Weak<Held>> = pages.iter().map(weak).collect();
        if let Some(link) = self.links.get_mut(&(before, content.clone())) {
            // What is still held stays; what is not is replaced.
            for (old, new) in link.pages.iter_mut().zip(pages) {
                if old.strong_count() == 0 {
                    *old = new;
                }
            }
            return link.id;
        }
        self.sweep();
        self.next += 1;
        self.links.insert((before, content), Link { id: self.next, pages });
        self.next
    }

    /// Forgets links whose pages nobody holds, once there are twice as many as after the last time.
    fn sweep(&mut self) {
        if self.links.len() >= 2 * self.swept.max(64) {
            self.links.retain(|_, link| link.pages.iter().any(|page| page.strong_count() > 0));
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
    fn a_prefix_is_found_as_long_as_its_pages_are_held() {
        let (pages, mut prefixes) = (Pages::new(4), Prefixes::default());
        let content = |byte: u8| PageContent(vec![byte; 3]);
        let held = [pages.take(), pages.take()];
        let first = prefixes.add(Prefixes::START, content(1), &held[..1]);
        let second = prefixes.add(first, content(2), &held[1..]);
        assert_ne!(first, second);
        let (found, shared) = prefixes.find(Prefixes::START, &content(1)).unwrap();
        assert_eq!((found, shared[0].as_ref().unwrap().number()), (first, 0));
        // The same content after something else is something else.
        assert!(prefixes.find(second, &content(1)).is_none() && prefixes.find(first, &content(1)).is_none());
        drop((shared, held));
        assert!(prefixes.find(first, &content(2)).unwrap().1[0].is_none());
        // The link lives on with new pages.
        let new = [pages.take()];
        assert_eq!(prefixes.add(first, content(2), &new), second);
        assert!(prefixes.find(first, &content(2)).unwrap().1[0].is_some());
    }
}
