//! An opened device of a plug-in: its queue, its memory, and the guards behind its memory.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percept_graph::DType;
use percept_hal::{DeviceInfo, Error, Result};

use crate::abi::{self, Handle, Message, Span, Status};
use crate::capture::Captures;
use crate::describe::c_text;
use crate::id::PluginId;
use crate::library::Plugin;
use crate::message::{MessageBuffer, text_of};
use crate::oplib::Scratch;

/// Bytes behind each block of memory, and behind each workspace, that nobody may write to.
pub const GUARD: usize = 64;
/// What they hold.
const PATTERN: [u8; GUARD] = [0xa7; GUARD];
/// The largest block that a plug-in may claim to have.
const LARGEST: u64 = 1 << 48;

/// A device with its queue. It is closed when the last memory, plan and executable is gone.
pub struct Opened {
    /// The plug-in that it is of.
    pub plugin: Plugin,
    /// What it is.
    pub info: DeviceInfo,
    /// What a call started is finished when the call returns.
    pub synchronous: bool,
    /// Every launch is waited for, and its guards are looked at.
    pub guarded: bool,
    /// The device's handle.
    pub device: Handle,
    /// Its one queue.
    pub queue: Handle,
    /// Bytes of memory that is not freed.
    pub live: AtomicU64,
    calls: Mutex<Calls>,
}

// SAFETY: the header says that calls may come from different threads, and `calls` keeps them from overlapping.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

/// What calls need; whoever holds it may call.
pub struct Calls {
    message: MessageBuffer,
    /// An error of a call that could not report it.
    deferred: Option<Error>,
    /// Guards to look at when the queue was waited for, by the serial number of their memory.
    guards: BTreeMap<u64, *const u8>,
    /// Recorded programs.
    pub captures: Captures,
    /// Lists that launches are made of.
    pub scratch: Scratch,
}

// SAFETY: the pointers are to guards of memory that is alive, and are used by whoever holds the lock.
unsafe impl Send for Calls {}

impl Calls {
    /// The error that a call could not report, once.
    pub fn surface(&mut self) -> Result<()> {
        self.deferred.take().map_or(Ok(()), Err)
    }

    /// Report an error at the next call that can.
    pub fn defer(&mut self, error: Error) {
        self.deferred.get_or_insert(error);
    }

    /// The message buffer for a call whose status the caller looks at.
    pub fn lend(&mut self) -> Message {
        self.message.lend()
    }
}

/// A number that no plan and no memory of this process has or had.
pub fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Opened {
    /// Open a device of a plug-in.
    pub fn new(plugin: Plugin, id: &PluginId) -> Result<Arc<Self>> {
        let refused = |why: String| Error::Open { id: id.text.clone(), why };
        let options = id.for_plugin(&plugin).map_err(refused)?;
        let texts: Vec<_> = options.iter().map(|(k, v)| (c_text(k), c_text(v))).collect();
        let pairs: Vec<abi::OptionPair> =
            texts.iter().map(|(k, v)| abi::OptionPair { key: k.as_ptr(), value: v.as_ptr() }).collect();
        let mut buffer = MessageBuffer::new();
        let (mut device, mut queue) = (null_mut(), null_mut());
        let mut message = buffer.lend();
        // SAFETY: the arguments are what the header says, and live until the call returns.
        let status = unsafe {
            (plugin.devices.device_open)(pairs.as_ptr(), pairs.len() as u64, &mut device, &mut message)
        };
        made(status, device, &buffer, "device_open").map_err(refused)?;
        let close = |why: String| {
            // SAFETY: the device was opened, and nothing of it is left.
            unsafe { (plugin.devices.device_close)(device) };
            refused(why)
        };
        let mut raw = abi::Info { struct_size: abi::Info::SIZE, ..abi::Info::zeroed() };
        let mut message = buffer.lend();
        // SAFETY: as above.
        let status = unsafe { (plugin.devices.device_info)(device, &mut raw, &mut message) };
        succeeded(status, &buffer, "device_info").map_err(close)?;
        let info = device_info(&id.text, &plugin, &raw).map_err(close)?;
        let mut message = buffer.lend();
        // SAFETY: as above.
        let status = unsafe { (plugin.devices.queue_new)(device, &mut queue, &mut message) };
        made(status, queue, &buffer, "queue_new").map_err(close)?;
        let calls = Calls {
            message: buffer,
            deferred: None,
            guards: BTreeMap::new(),
            captures: Captures::default(),
            scratch: Scratch::default(),
        };
        let synchronous = raw.flags & abi::DEVICE_SYNCHRONOUS != 0;
        let guarded = id.guard;
        let live = AtomicU64::new(0);
        let calls = Mutex::new(calls);
        Ok(Arc::new(Self { plugin, info, synchronous, guarded, device, queue, live, calls }))
    }

    /// The right to call; calls of one device never overlap.
    pub fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Call a function that says how it went.
    pub fn call(
        &self,
        calls: &mut Calls,
        function: &str,
        during: &str,
        f: impl FnOnce(*mut Message) -> Status,
    ) -> Result<()> {
        let mut message = calls.message.lend();
        let status = f(&mut message);
        if status == abi::OK {
            return Ok(());
        }
        Err(self.status(calls, status, function, during))
    }

    /// The error of a call that gave this status and no other call after it.
    pub fn status(&self, calls: &Calls, status: Status, function: &str, during: &str) -> Error {
        self.error(status, during, &format!("{function}: {}", Self::reason(calls, status)))
    }

    /// Call a function that makes something.
    pub fn make(
        &self,
        calls: &mut Calls,
        function: &str,
        during: &str,
        f: impl FnOnce(*mut Handle, *mut Message) -> Status,
    ) -> Result<Handle> {
        let mut handle = null_mut();
        self.call(calls, function, during, |message| f(&mut handle, message))?;
        if handle.is_null() {
            return Err(self.failed(during, format!("{function} says that it succeeded and gives null")));
        }
        Ok(handle)
    }

    /// What the plug-in wrote after the last call, or the name of the status.
    pub fn reason(calls: &Calls, status: Status) -> String {
        calls.message.text(status_name(status))
    }

    /// Lend the message buffer to a call whose status the caller looks at.
    pub fn with_message<R>(calls: &mut Calls, f: impl FnOnce(*mut Message) -> R) -> R {
        let mut message = calls.message.lend();
        f(&mut message)
    }

    /// An error of this device that names the plug-in.
    pub fn failed(&self, during: &str, why: impl std::fmt::Display) -> Error {
        let plugin = &self.plugin;
        Error::Failed {
            device: self.info.id.clone(),
            op: during.to_string(),
            why: format!("plug-in '{}' {}: {why}", plugin.name, plugin.version),
        }
    }

    fn error(&self, status: Status, during: &str, why: &str) -> Error {
        match status {
            abi::LOST => Error::Lost {
                device: self.info.id.clone(),
                why: format!("plug-in '{}' {}: {why}", self.plugin.name, self.plugin.version),
            },
            _ => self.failed(during, why),
        }
    }

    /// Wait for the queue, and look at the guards.
    pub fn wait(&self, calls: &mut Calls) -> Result<()> {
        // SAFETY: the queue is the device's.
        self.call(calls, "queue_wait", "", |m| unsafe { (self.plugin.devices.queue_wait)(self.queue, m) })?;
        self.look(calls)
    }

    /// Errors that could not be reported earlier, and guards that were written to. The queue was waited for.
    fn look(&self, calls: &mut Calls) -> Result<()> {
        calls.surface()?;
        // SAFETY: guards of memory that is alive, and nothing writes to them now.
        let broken = calls.guards.iter().find(|(_, at)| unsafe { !whole(**at) }).map(|(serial, _)| *serial);
        let Some(serial) = broken else { return Ok(()) };
        calls.guards.remove(&serial);
        let why = match self.guarded {
            true => "it wrote past the end of a block of memory; memory of this process may be damaged",
            false => {
                "an operation since the last wait wrote past the end of its memory; add ?guard=on to the device's id to \
                 learn which"
            }
        };
        Err(self.failed("", why))
    }

    /// Wait for the queue before something of the device is freed; an error is reported by a later call.
    pub fn settle(&self, calls: &mut Calls) {
        if !self.synchronous
            && let Err(error) = self.wait(calls)
        {
            calls.defer(error);
        }
    }

    /// Copy bytes to a span.
    pub fn write(&self, calls: &mut Calls, to: &Span, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let to = Span { bytes: bytes.len() as u64, ..*to };
        let from = bytes.as_ptr().cast::<c_void>();
        // SAFETY: the span is within memory of the device, and there are as many bytes.
        self.call(calls, "queue_write", "", |m| unsafe {
            (self.plugin.devices.queue_write)(self.queue, &to, from, m)
        })
    }

    /// Copy a span to bytes, after everything in the queue.
    pub fn read(&self, calls: &mut Calls, from: &Span, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return self.wait(calls);
        }
        let from = Span { bytes: out.len() as u64, ..*from };
        let to = out.as_mut_ptr().cast::<c_void>();
        // SAFETY: as in `write`.
        self.call(calls, "queue_read", "", |m| unsafe {
            (self.plugin.devices.queue_read)(self.queue, &from, to, m)
        })?;
        self.look(calls)
    }

    /// Copy from one span to another that it does not overlap.
    pub fn copy(&self, calls: &mut Calls, from: &Span, to: &Span) -> Result<()> {
        if from.bytes == 0 {
            return Ok(());
        }
        let Some(copy) = self.plugin.devices.queue_copy else {
            let mut bytes = vec![0; from.bytes as usize];
            self.read(calls, from, &mut bytes)?;
            return self.write(calls, to, &bytes);
        };
        // SAFETY: both spans are within memory of the device.
        self.call(calls, "queue_copy", "", |m| unsafe { copy(self.queue, from, to, m) })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let calls = self.calls.get_mut().unwrap_or_else(PoisonError::into_inner);
        calls.captures.clear(self.plugin.oplib.as_ref(), self.device);
        // SAFETY: every memory, plan and executable holds the device, so none is left.
        unsafe {
            (self.plugin.devices.queue_free)(self.device, self.queue);
            (self.plugin.devices.device_close)(self.device);
        }
    }
}

/// A block of a device's memory, with a guard behind it where the host can look at one.
pub struct Memory {
    opened: Arc<Opened>,
    handle: Handle,
    bytes: usize,
    serial: u64,
    address: *mut u8,
}

// SAFETY: as for the device; the address is that of the guard's memory, which is used under the device's lock.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Take memory.
    pub fn new(opened: &Arc<Opened>, bytes: usize, what: &str) -> Result<Self> {
        let mut calls = opened.lock();
        calls.surface()?;
        let devices = &opened.plugin.devices;
        let asked = bytes.saturating_add(GUARD) as u64;
        let mut handle = null_mut();
        // SAFETY: the device is open.
        let status = Opened::with_message(&mut calls, |m| unsafe {
            (devices.memory_new)(opened.device, asked, &mut handle, m)
        });
        if status == abi::OUT_OF_MEMORY {
            return Err(Error::OutOfMemory {
                device: opened.info.id.clone(),
                what: what.to_string(),
                bytes: bytes as u64,
                why: format!("plug-in '{}': {}", opened.plugin.name, Opened::reason(&calls, status)),
            });
        }
        if status != abi::OK {
            let why = format!("memory_new: {}", Opened::reason(&calls, status));
            return Err(opened.error(status, what, &why));
        }
        if handle.is_null() {
            return Err(opened.failed(what, "memory_new says that it succeeded and gives null"));
        }
        // SAFETY: the memory is the device's.
        let address = devices.memory_address.map_or(null_mut(), |f| unsafe { f(opened.device, handle) });
        let serial = serial();
        let address = address.cast::<u8>();
        let memory = Self { opened: opened.clone(), handle, bytes, serial, address };
        opened.live.fetch_add(bytes as u64, Ordering::Relaxed);
        if address.addr() % 64 != 0 {
            drop(calls);
            return Err(
                opened.failed(what, format!("memory_address gives {address:p}, not a multiple of 64"))
            );
        }
        if !address.is_null() {
            // SAFETY: the block has the bytes and a guard behind them, and nothing else uses it yet.
            unsafe { address.add(bytes).copy_from_nonoverlapping(PATTERN.as_ptr(), GUARD) };
            calls.guards.insert(serial, address.wrapping_add(bytes));
        } else if opened.guarded {
            let written = opened.write(&mut calls, &memory.guard(), &PATTERN);
            drop(calls);
            written?;
        }
        Ok(memory)
    }

    /// Bytes that may be used.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A number that no other memory of this process has or had.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    fn guard(&self) -> Span {
        Span { memory: self.handle, offset: self.bytes as u64, bytes: GUARD as u64 }
    }

    /// A part of the block, for C.
    ///
    /// # Errors
    /// When it ends behind the block.
    pub fn span(&self, offset: usize, bytes: usize) -> Result<Span> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            let why = format!("{bytes} bytes from {offset} on do not lie within a block of {}", self.bytes);
            return Err(self.opened.failed("", why));
        }
        Ok(Span { memory: self.handle, offset: offset as u64, bytes: bytes as u64 })
    }

    /// Whether a guard can be written and looked at between launches.
    pub fn is_watched(&self) -> bool {
        self.opened.guarded || self.opened.synchronous && !self.address.is_null()
    }

    /// Put a guard at an offset within the block.
    pub fn put_guard(&self, calls: &mut Calls, offset: usize) -> Result<()> {
        let span = self.span(offset, GUARD)?;
        if self.address.is_null() || !self.opened.synchronous {
            return self.opened.write(calls, &span, &PATTERN);
        }
        // SAFETY: the span was checked, and the device does nothing meanwhile.
        unsafe { self.address.add(offset).copy_from_nonoverlapping(PATTERN.as_ptr(), GUARD) };
        Ok(())
    }

    /// Put the guard behind the block again.
    pub fn put_guard_behind(&self, calls: &mut Calls) -> Result<()> {
        if self.address.is_null() {
            return self.opened.write(calls, &self.guard(), &PATTERN);
        }
        // SAFETY: the block has a guard behind its bytes, and the device does nothing meanwhile.
        unsafe { self.address.add(self.bytes).copy_from_nonoverlapping(PATTERN.as_ptr(), GUARD) };
        Ok(())
    }

    /// Whether the guard at an offset, or else the one behind the block, is as it was. The queue was waited for.
    pub fn guard_holds(&self, calls: &mut Calls, offset: Option<usize>) -> Result<bool> {
        let offset = offset.unwrap_or(self.bytes);
        if !self.address.is_null() {
            // SAFETY: the guard is within the block, and the device does nothing meanwhile.
            return Ok(unsafe { whole(self.address.add(offset)) });
        }
        let mut bytes = [0; GUARD];
        self.opened.read(calls, &Span { offset: offset as u64, ..self.guard() }, &mut bytes)?;
        Ok(bytes == PATTERN)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let opened = &*self.opened;
        let mut calls = opened.lock();
        opened.settle(&mut calls);
        opened.live.fetch_sub(self.bytes as u64, Ordering::Relaxed);
        calls.guards.remove(&self.serial);
        calls.captures.forget(self.serial, opened.plugin.oplib.as_ref(), opened.device);
        // SAFETY: the handle is the device's, nothing runs on it, and it is freed here alone.
        unsafe { (opened.plugin.devices.memory_free)(opened.device, self.handle) };
    }
}

/// Whether a guard is as it was.
///
/// # Safety
/// A guard's bytes can be read there.
unsafe fn whole(at: *const u8) -> bool {
    // SAFETY: as the caller says.
    unsafe { at.cast::<[u8; GUARD]>().read() == PATTERN }
}

fn status_name(status: Status) -> &'static str {
    match status {
        abi::FAILED => "it failed, without saying why",
        abi::UNSUPPORTED => "it says that it does not support this, without saying why",
        abi::OUT_OF_MEMORY => "it is out of memory",
        abi::INVALID => "it says that the request is wrong, without saying why",
        abi::LOST => "the device is gone",
        _ => "it gave a status that the interface does not have",
    }
}

fn succeeded(status: Status, buffer: &MessageBuffer, function: &str) -> Result<(), String> {
    if status == abi::OK { Ok(()) } else { Err(format!("{function}: {}", buffer.text(status_name(status)))) }
}

fn made(status: Status, handle: Handle, buffer: &MessageBuffer, function: &str) -> Result<(), String> {
    succeeded(status, buffer, function)?;
    if handle.is_null() {
        return Err(format!("{function} says that it succeeded and gives null"));
    }
    Ok(())
}

/// What a plug-in says of its device, held to what can be.
fn device_info(id: &str, plugin: &Plugin, raw: &abi::Info) -> Result<DeviceInfo, String> {
    let dtypes: Vec<DType> =
        DType::ALL.into_iter().filter(|&d| raw.dtypes >> abi::dtype_number(d) & 1 == 1).collect();
    if dtypes.is_empty() {
        return Err("device_info gives no dtype that is known here".into());
    }
    if !(1024..=LARGEST).contains(&raw.max_buffer_bytes) {
        return Err(format!(
            "device_info says that its largest buffer has {} bytes; it must be 1024 to {LARGEST}",
            raw.max_buffer_bytes
        ));
    }
    let computes_in = match raw.flags & (abi::DEVICE_COMPUTES_F16 | abi::DEVICE_COMPUTES_BF16) {
        0 => DType::F32,
        abi::DEVICE_COMPUTES_F16 => DType::F16,
        abi::DEVICE_COMPUTES_BF16 => DType::BF16,
        _ => {
            return Err(
                "device_info says that it computes f32 in f16 and in bf16; set one of both flags".into()
            );
        }
    };
    let name = text_of(&raw.name);
    let or = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_string() } else { text };
    Ok(DeviceInfo {
        id: id.to_string(),
        name: or(name, &plugin.name),
        vendor: or(text_of(&raw.vendor), "unknown"),
        driver: or(text_of(&raw.driver), &plugin.version),
        software: raw.flags & abi::DEVICE_SOFTWARE != 0,
        dtypes,
        features: text_of(&raw.features).split_whitespace().map(str::to_string).collect(),
        max_buffer_bytes: raw.max_buffer_bytes - GUARD as u64,
        memory_bytes: (raw.memory_bytes > 0).then_some(raw.memory_bytes),
        computes_in,
    })
}
