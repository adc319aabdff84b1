//! Device memory: allocation with limits checked first, recycling of small blocks, upload and download.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use percept_hal::{Error, MemoryUse, Pending, Result};

use crate::connection::Connection;

/// Blocks up to this size are kept for the next allocation of the same size.
const RECYCLED_BLOCK: u64 = 16 << 20;
/// At most this many bytes are kept.
const RECYCLED_TOTAL: u64 = 64 << 20;
/// Sizes are multiples of this, so that blocks fit again; also the least that a binding of vectors needs.
const GRANULE: u64 = 256;
/// Uploads above this size write into memory mapped at creation instead of going through the queue's staging.
const MAPPED_UPLOAD: usize = 64 << 10;

/// A block of device memory, freed (or recycled) on drop. The contents of a new block are unspecified.
pub struct Memory {
    block: Block,
    connection: Arc<Connection>,
}

#[derive(Clone)]
struct Block {
    buffer: wgpu::Buffer,
    /// Unique among the blocks of this process; bind groups are cached by it.
    id: u64,
}

impl Memory {
    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.block.buffer
    }

    pub(crate) fn id(&self) -> u64 {
        self.block.id
    }

    /// An error unless the block belongs to this connection, which is alive.
    pub(crate) fn check(&self, connection: &Connection) -> Result<()> {
        self.connection.alive()?;
        if self.connection.generation == connection.generation {
            return Ok(());
        }
        Err(Error::Lost {
            device: connection.id.clone(),
            why: "the memory belongs to an earlier opening".into(),
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.connection.pool.give_back(&self.connection, &self.block);
    }
}

/// Counts what is allocated and keeps freed blocks for reuse.
pub(crate) struct Pool {
    usage: wgpu::BufferUsages,
    in_use: AtomicU64,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    blocks: HashMap<u64, Vec<Block>>,
    bytes: u64,
    staging: Vec<wgpu::Buffer>,
}

impl Pool {
    /// `mappable`: the host writes device memory directly.
    pub fn new(mappable: bool) -> Self {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let usage = if mappable { usage | wgpu::BufferUsages::MAP_WRITE } else { usage };
        Self { usage, in_use: AtomicU64::new(0), free: Mutex::default() }
    }

    pub fn memory(&self) -> MemoryUse {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let staging: u64 = free.staging.iter().map(wgpu::Buffer::size).sum();
        MemoryUse { buffers: self.in_use.load(Ordering::Relaxed), scratch: free.bytes + staging }
    }

    fn take(&self, bytes: u64) -> Option<Block> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let block = free.blocks.get_mut(&bytes)?.pop()?;
        free.bytes -= bytes;
        Some(block)
    }

    fn give_back(&self, connection: &Connection, block: &Block) {
        let bytes = block.buffer.size();
        self.in_use.fetch_sub(bytes, Ordering::Relaxed);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.alive().is_ok() && bytes <= RECYCLED_BLOCK && free.bytes + bytes <= RECYCLED_TOTAL {
            free.bytes += bytes;
            free.blocks.entry(bytes).or_default().push(block.clone());
        } else {
            // Bind groups of executables may still name the buffer; the memory goes all the same.
            block.buffer.destroy();
        }
    }

    /// Free everything that is kept for reuse.
    fn clear(&self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.blocks.drain().flat_map(|(_, blocks)| blocks).for_each(|b| b.buffer.destroy());
        free.bytes = 0;
        free.staging.clear();
    }

    /// A mappable buffer of at least this many bytes to read through.
    fn staging(&self, connection: &Connection, bytes: u64) -> Result<wgpu::Buffer> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |b: &wgpu::Buffer| b.size() >= bytes && b.size() <= bytes.saturating_mul(4).max(1 << 16);
        if let Some(at) = free.staging.iter().position(fits) {
            return Ok(free.staging.swap_remove(at));
        }
        drop(free);
        connection.guarded(&format!("allocation of {bytes} bytes to read through"), || {
            connection.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: bytes.next_power_of_two().min(connection.limits.max_buffer_size).max(bytes),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
    }

    fn keep_staging(&self, buffer: wgpu::Buffer) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.size() <= RECYCLED_BLOCK && free.staging.len() < 4 {
            free.staging.push(buffer);
        }
    }
}

/// The size a block for this many bytes has, or an error when no buffer of the device can be that large.
fn block_size(connection: &Connection, bytes: u64, what: &str) -> Result<u64> {
    let limit = connection.limits.max_buffer_size;
    match bytes.max(1).checked_next_multiple_of(GRANULE) {
        Some(size) if size <= limit => Ok(size),
        _ => Err(connection.out_of_memory(
            what,
            bytes,
            format!("a buffer of this adapter holds at most {limit} bytes"),
        )),
    }
}

fn create(connection: &Arc<Connection>, size: u64, what: &str, mapped_at_creation: bool) -> Result<Memory> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let new = || {
        connection.guarded(what, || {
            connection.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size,
                usage: connection.pool.usage,
                mapped_at_creation,
            })
        })
    };
    let buffer = match new() {
        Err(Error::OutOfMemory { .. }) => {
            // What is kept for reuse, and what finished submissions still hold, may be enough.
            connection.pool.clear();
            connection.wait(None)?;
            new().map_err(|e| match e {
                Error::OutOfMemory { device, what, why, .. } => Error::OutOfMemory {
                    device,
                    what,
                    bytes: size,
                    why: format!("{why}; {} bytes are in use", connection.pool.memory().buffers),
                },
                other => other,
            })?
        }
        other => other?,
    };
    connection.pool.in_use.fetch_add(size, Ordering::Relaxed);
    Ok(Memory {
        block: Block { buffer, id: NEXT.fetch_add(1, Ordering::Relaxed) },
        connection: connection.clone(),
    })
}

/// A block of at least this many bytes with unspecified contents.
pub(crate) fn allocate(connection: &Arc<Connection>, bytes: u64, what: &str) -> Result<Memory> {
    let size = block_size(connection, bytes, what)?;
    if let Some(block) = connection.pool.take(size) {
        connection.pool.in_use.fetch_add(size, Ordering::Relaxed);
        return Ok(Memory { block, connection: connection.clone() });
    }
    create(connection, size, what, false)
}

/// A block of zeros.
pub(crate) fn zeros(connection: &Arc<Connection>, bytes: u64, what: &str) -> Result<Memory> {
    let memory = allocate(connection, bytes, what)?;
    let commands = connection.guarded(what, || {
        let mut encoder = connection.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(memory.buffer(), 0, None);
        encoder.finish()
    })?;
    connection.submit(what, commands)?;
    Ok(memory)
}

/// A block with these bytes, padded to whole words.
pub(crate) fn upload(connection: &Arc<Connection>, bytes: &[u8], what: &str) -> Result<Memory> {
    let size = block_size(connection, bytes.len() as u64, what)?;
    if bytes.len() <= MAPPED_UPLOAD {
        let memory = allocate(connection, size, what)?;
        write(connection, &memory, 0, bytes)?;
        return Ok(memory);
    }
    let memory = create(connection, size, what, true)?;
    let filled = connection.guarded(what, || {
        let mut view = memory.buffer().slice(..).get_mapped_range_mut().map_err(|e| e.to_string())?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        drop(view);
        memory.buffer().unmap();
        Ok(())
    })?;
    filled.map_err(|why: String| Error::Failed {
        device: connection.id.clone(),
        op: what.to_string(),
        why,
    })?;
    Ok(memory)
}

/// Overwrite a part of a block with these bytes, padded to whole words.
pub(crate) fn write(connection: &Connection, memory: &Memory, offset: u64, bytes: &[u8]) -> Result<()> {
    memory.check(connection)?;
    let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    connection.guarded("an upload", || {
        if !words.is_empty() {
            connection.queue.write_buffer(memory.buffer(), offset, words);
        }
        if !rest.is_empty() {
            connection.queue.write_buffer(memory.buffer(), offset + words.len() as u64, &last);
        }
    })
}

/// Start copying a part of a block back.
pub(crate) fn read(
    connection: &Arc<Connection>,
    memory: &Memory,
    offset: u64,
    bytes: u64,
) -> Result<Pending> {
    memory.check(connection)?;
    if bytes == 0 {
        return Ok(Pending::ready(Vec::new()));
    }
    let what = format!("reading {bytes} bytes");
    let padded = bytes.next_multiple_of(4);
    let staging = connection.pool.staging(connection, padded)?;
    let commands = connection.guarded(&what, || {
        let mut encoder = connection.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(memory.buffer(), offset, &staging, 0, padded);
        encoder.finish()
    })?;
    let index = connection.submit(&what, commands)?;
    let (sender, mapped) = mpsc::channel();
    connection.guarded(&what, || {
        staging.slice(..padded).map_async(wgpu::MapMode::Read, move |done| {
            // The reader may have been dropped; then the result is not needed.
            let _ = sender.send(done);
        })
    })?;
    let connection = connection.clone();
    Ok(Pending::new(move || {
        let failed = |why: String| Error::Failed { device: connection.id.clone(), op: what.clone(), why };
        connection.wait(Some(index))?;
        connection.check()?;
        mapped
            .recv()
            .map_err(|_| failed("the driver never answered the mapping".into()))?
            .map_err(|e| connection.alive().err().unwrap_or_else(|| failed(e.to_string())))?;
        let view = staging.slice(..padded).get_mapped_range().map_err(|e| failed(e.to_string()))?;
        let out = view[..bytes as usize].to_vec();
        drop(view);
        staging.unmap();
        connection.pool.keep_staging(staging);
        Ok(out)
    }))
}
