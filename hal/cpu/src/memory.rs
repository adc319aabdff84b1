//! Blocks of host memory.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Blocks start at a cache line, which is also the widest vector.
const ALIGN: usize = 64;

/// An owned block of initialized bytes.
pub struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is owned bytes; who touches them when is settled by the device's one stream.
unsafe impl Send for Memory {}
// SAFETY: as above; shared access goes through raw addresses only.
unsafe impl Sync for Memory {}

impl Memory {
    /// `None` when the system has no such block.
    pub(crate) fn new(bytes: usize) -> Option<Memory> {
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Memory { start, layout })
    }

    /// Address of the byte at `offset`; `None` unless `bytes` follow it.
    pub(crate) fn at(&self, offset: usize, bytes: usize) -> Option<*mut u8> {
        let end = offset.checked_add(bytes)?;
        // SAFETY: the offset is within the block.
        (end <= self.layout.size()).then(|| unsafe { self.start.as_ptr().add(offset) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
