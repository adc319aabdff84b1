//! What a rendering may take: steps and bytes. Every rendering has a thread of its own, so its meter is the
//! thread's.

use std::cell::Cell;

use super::fault::{Class, Fault, Result, fault};

/// Levels of lists and dictionaries within one another.
pub(super) const DEEPEST: usize = 200;
/// Bytes of text that cost one step.
const BYTES_PER_STEP: usize = 64;

struct Meter {
    steps: Cell<u64>,
    live: Cell<usize>,
    most: Cell<usize>,
}

thread_local! {
    static METER: Meter = const { Meter { steps: Cell::new(0), live: Cell::new(0), most: Cell::new(0) } };
}

/// Begins a rendering that may take so many steps, and hold so many bytes at a time.
pub(super) fn start(steps: u64, bytes: usize) {
    METER.with(|meter| {
        meter.steps.set(steps);
        meter.live.set(0);
        meter.most.set(bytes);
    });
}

/// Takes steps: one for an operation, and one for each item that it looks at.
pub(super) fn spend(steps: usize) -> Result<()> {
    METER.with(|meter| match meter.steps.get().checked_sub(steps as u64) {
        Some(left) => {
            meter.steps.set(left);
            Ok(())
        }
        None => {
            meter.steps.set(0);
            Err(fault(Class::Limit, "the template takes too many steps"))
        }
    })
}

/// Takes the steps of reading or writing so many bytes.
pub(super) fn spend_bytes(bytes: usize) -> Result<()> {
    spend(bytes / BYTES_PER_STEP + 1)
}

fn too_much(bytes: usize) -> Box<Fault> {
    fault(Class::Limit, format!("the template takes too much memory: {bytes} bytes more"))
}

/// Whether so many more bytes may be taken; asked before they are.
pub(super) fn room(bytes: usize) -> Result<()> {
    METER.with(|meter| {
        let fits = meter.live.get().checked_add(bytes).is_some_and(|all| all <= meter.most.get());
        if fits { Ok(()) } else { Err(too_much(bytes)) }
    })
}

/// As [`room`], for `count` things of `bytes` each.
pub(super) fn room_for(count: usize, bytes: usize) -> Result<()> {
    room(count.checked_mul(bytes).ok_or_else(|| too_much(usize::MAX))?)
}

/// Bytes that a value holds; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge(usize);

impl Charge {
    /// Counts the bytes of a new value, and the steps of writing them.
    pub(super) fn new(bytes: usize) -> Result<Charge> {
        room(bytes)?;
        spend_bytes(bytes)?;
        METER.with(|meter| meter.live.set(meter.live.get() + bytes));
        Ok(Charge(bytes))
    }

    /// Counts more bytes of the same value.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let mut more = Charge::new(bytes)?;
        self.0 += std::mem::take(&mut more.0);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        METER.with(|meter| meter.live.set(meter.live.get().saturating_sub(self.0)));
    }
}

/// Text that is being written, within the budget at every step.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    charge: Charge,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer { text: String::new(), charge: Charge(0) }
    }

    pub(super) fn push(&mut self, text: &str) -> Result<()> {
        self.charge.grow(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char) -> Result<()> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    /// A character so many times.
    pub(super) fn fill(&mut self, c: char, times: usize) -> Result<()> {
        room_for(times, c.len_utf8())?;
        self.charge.grow(times * c.len_utf8())?;
        self.text.extend(std::iter::repeat_n(c, times));
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
