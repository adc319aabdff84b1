//! Blocks of host memory, on huge pages where the system has them: a model's weights are read whole for every token,
//! and looking up small pages takes a tenth of that time.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{MmapMut, MmapOptions};

/// Blocks start at a cache line, which is also the widest vector.
const ALIGN: usize = 64;
/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// Bytes of a mapping that blocks share, and from which on a block has a mapping of its own.
const SHARED: usize = 32 << 20;
const LARGE: usize = 4 << 20;

/// Where blocks come from.
#[derive(Default)]
pub(crate) struct Blocks(Mutex<Option<Cut>>);

/// A shared mapping of which the first bytes are taken.
struct Cut {
    map: Arc<Map>,
    taken: usize,
}

/// Zeroed memory of the system, from a huge page's start on.
struct Map {
    start: NonNull<u8>,
    bytes: usize,
    _owner: MmapMut,
}

/// An owned block of initialized bytes.
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    _map: Arc<Map>,
}

// SAFETY: the map is owned bytes that are reached through the blocks cut from it only.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}
// SAFETY: the block is owned bytes; who touches them when is settled by the device's one stream.
unsafe impl Send for Memory {}
// SAFETY: as above; shared access goes through raw addresses only.
unsafe impl Sync for Memory {}

impl Blocks {
    /// `None` when the system has no such block.
    pub(crate) fn take(&self, bytes: usize) -> Option<Memory> {
        let bytes = bytes.max(1).checked_next_multiple_of(ALIGN)?;
        if bytes >= LARGE {
            return Memory::within(&Arc::new(Map::new(bytes)?), 0, bytes);
        }
        let mut cut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, taken) = match cut.take() {
            Some(Cut { map, taken }) if taken + bytes <= map.bytes => (map, taken),
            _ => (Arc::new(Map::new(SHARED)?), 0),
        };
        let block = Memory::within(&map, taken, bytes);
        *cut = Some(Cut { map, taken: taken + bytes });
        block
    }
}

impl Map {
    fn new(bytes: usize) -> Option<Map> {
        let mut owner = MmapOptions::new().len(bytes.checked_add(HUGE)?).map_anon().ok()?;
        // Where the system has no huge pages, small ones do.
        #[cfg(target_os = "linux")]
        let _ = owner.advise(memmap2::Advice::HugePage);
        let skipped = owner.as_ptr().align_offset(HUGE);
        let start = NonNull::new(owner.get_mut(skipped..)?.as_mut_ptr())?;
        Some(Map { start, bytes, _owner: owner })
    }
}

impl Memory {
    fn within(map: &Arc<Map>, offset: usize, bytes: usize) -> Option<Memory> {
        let end = offset.checked_add(bytes)?;
        // SAFETY: the block is within the mapping.
        let start = (end <= map.bytes).then(|| unsafe { map.start.add(offset) })?;
        Some(Memory { start, bytes, _map: map.clone() })
    }

    /// Address of the byte at `offset`; `None` unless `bytes` follow it.
    pub(crate) fn at(&self, offset: usize, bytes: usize) -> Option<*mut u8> {
        let end = offset.checked_add(bytes)?;
        // SAFETY: the offset is within the block.
        (end <= self.bytes).then(|| unsafe { self.start.as_ptr().add(offset) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_apart() {
        let blocks = Blocks::default();
        let sizes = [1, 64, 65, 0, LARGE - 1, LARGE, LARGE + 1, SHARED, 3 << 20, 3 << 20, 100];
        // Twice the shared mapping, so that one is filled and another begun.
        let sizes: Vec<usize> = sizes.iter().copied().chain([LARGE - 64; 16]).collect();
        let held: Vec<Memory> = sizes.iter().map(|&n| blocks.take(n).unwrap()).collect();
        let mut ends: Vec<(usize, usize)> = Vec::new();
        for (memory, &n) in held.iter().zip(&sizes) {
            let start = memory.at(0, n).unwrap();
            assert!(memory.at(1, memory.bytes).is_none() && start.addr().is_multiple_of(ALIGN));
            if n > 0 {
                // SAFETY: the block's first and last byte, which are this test's own.
                unsafe {
                    let last = memory.at(n - 1, 1).unwrap();
                    assert_eq!((*start, *last), (0, 0));
                    (*start, *last) = (1, 1);
                }
            }
            ends.push((start.addr(), start.addr() + memory.bytes));
        }
        ends.sort_unstable();
        assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }

    #[test]
    fn a_block_outlives_where_it_came_from_and_too_large_a_one_is_refused() {
        let blocks = Blocks::default();
        let memory = blocks.take(1000).unwrap();
        assert!(blocks.take(usize::MAX).is_none() && blocks.take(usize::MAX / 2).is_none());
        drop(blocks);
        // SAFETY: within the block, which is this test's own.
        unsafe { *memory.at(999, 1).unwrap() = 7 };
    }
}
