//! Recycled device memory: a freed block serves the next request of about its size.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::MemoryUse;

/// Requests after which a free block that served none of them is given back to the system: programs of shapes that do not
/// come again leave blocks of sizes that nobody requests. A step of a model requests tens, a step of training hundreds.
const STALE: u64 = 4096;
/// Bytes of the smallest block that is given back. Libraries cut smaller ones from mappings that they share, and a mapping
/// stays as long as one of its blocks.
const LARGE: usize = 4 << 20;
/// Requests from one look at free blocks to the next.
const SWEEP: u64 = 256;

/// Free blocks by size, and how much is in use. Fresh memory costs page faults and driver calls; a loop that
/// runs one program takes the same blocks again and again.
pub struct Pool<M> {
    free: Mutex<Free<M>>,
    kept: AtomicU64,
    live: AtomicU64,
    limit: u64,
}

struct Free<M> {
    /// Blocks by size, each with the number of requests before it was freed.
    blocks: BTreeMap<usize, Vec<(u64, M)>>,
    requests: u64,
}

impl<M> Free<M> {
    /// Removes the blocks that are stale; gives their bytes.
    fn sweep(&mut self) -> u64 {
        let mut gone = 0;
        for (size, blocks) in self.blocks.range_mut(LARGE..) {
            let before = blocks.len();
            blocks.retain(|(freed, _)| freed + STALE >= self.requests);
            gone += ((before - blocks.len()) * size) as u64;
        }
        self.blocks.retain(|_, blocks| !blocks.is_empty());
        gone
    }
}

/// A block of memory that returns to its pool when dropped.
pub struct Block<M> {
    memory: Option<M>,
    bytes: usize,
    pool: Arc<Pool<M>>,
}

impl<M> Pool<M> {
    /// A pool that keeps at most `limit` bytes of free blocks.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(Free { blocks: BTreeMap::new(), requests: 0 }),
            kept: AtomicU64::new(0),
            live: AtomicU64::new(0),
            limit,
        })
    }

    /// A block of at least `bytes`, recycled when one of at most a quarter more is free, else from `alloc`.
    /// Its contents are unspecified.
    pub fn take<E>(
        self: &Arc<Self>,
        bytes: usize,
        alloc: impl FnOnce(usize) -> Result<M, E>,
    ) -> Result<Block<M>, E> {
        let recycled = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.requests += 1;
            if free.requests.is_multiple_of(SWEEP) {
                self.kept.fetch_sub(free.sweep(), Ordering::Relaxed);
            }
            let free = &mut free.blocks;
            let fit = free.range(bytes..=bytes.saturating_add(bytes / 4)).next().map(|(size, _)| *size);
            fit.and_then(|size| {
                let blocks = free.get_mut(&size)?;
                let (_, memory) = blocks.pop()?;
                if blocks.is_empty() {
                    free.remove(&size);
                }
                Some((memory, size))
            })
        };
        let (memory, size) = match recycled {
            Some((memory, size)) => {
                self.kept.fetch_sub(size as u64, Ordering::Relaxed);
                (memory, size)
            }
            None => (alloc(bytes)?, bytes),
        };
        self.live.fetch_add(size as u64, Ordering::Relaxed);
        Ok(Block { memory: Some(memory), bytes: size, pool: self.clone() })
    }

    /// Bytes in blocks someone holds, and in free ones.
    pub fn usage(&self) -> MemoryUse {
        MemoryUse { buffers: self.live.load(Ordering::Relaxed), scratch: self.kept.load(Ordering::Relaxed) }
    }

    /// Free every block that is not in use.
    pub fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).blocks.clear();
        self.kept.store(0, Ordering::Relaxed);
    }
}

impl<M> Block<M> {
    /// The memory; `None` never, but while the block is being dropped.
    pub fn memory(&self) -> Option<&M> {
        self.memory.as_ref()
    }

    /// Its size, at least what was requested.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<M> Drop for Block<M> {
    fn drop(&mut self) {
        let size = self.bytes as u64;
        self.pool.live.fetch_sub(size, Ordering::Relaxed);
        let Some(memory) = self.memory.take() else { return };
        if self.pool.kept.load(Ordering::Relaxed) + size <= self.pool.limit {
            self.pool.kept.fetch_add(size, Ordering::Relaxed);
            let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
            let freed = free.requests;
            free.blocks.entry(self.bytes).or_default().push((freed, memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn take(pool: &Arc<Pool<Vec<u8>>>, bytes: usize) -> Block<Vec<u8>> {
        pool.take(bytes, |n| Ok::<_, Infallible>(vec![0; n])).unwrap()
    }

    #[test]
    fn blocks_come_back_and_serve_again() {
        let pool = Pool::new(1000);
        let first = take(&pool, 100);
        let address = first.memory().unwrap().as_ptr();
        drop(first);
        assert_eq!(pool.usage(), MemoryUse { buffers: 0, scratch: 100 });
        let again = take(&pool, 90);
        assert_eq!(again.memory().unwrap().as_ptr(), address);
        assert_eq!(take(&pool, 10).bytes(), 10);
        assert_eq!(pool.usage().buffers, 100);
    }

    #[test]
    fn what_nobody_requests_any_more_is_given_back() {
        let pool = Pool::new(1 << 30);
        drop([take(&pool, 100), take(&pool, 900), take(&pool, LARGE)]);
        for _ in 0..STALE + SWEEP {
            drop(take(&pool, 100));
        }
        assert_eq!(pool.usage(), MemoryUse { buffers: 0, scratch: 1000 });
    }

    #[test]
    fn the_limit_holds() {
        let pool = Pool::new(100);
        drop([take(&pool, 80), take(&pool, 80)]);
        assert_eq!(pool.usage(), MemoryUse { buffers: 0, scratch: 80 });
        pool.clear();
        assert_eq!(pool.usage(), MemoryUse::default());
    }
}
