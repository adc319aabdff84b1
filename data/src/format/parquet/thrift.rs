//! Thrift's compact protocol, read without believing a length that it states.

use std::io::{self, Read};

/// Structs within structs that are followed.
const DEEPEST: usize = 32;

/// The types of the protocol that are told apart here.
pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// A reader that counts what it takes and stops at its cap.
pub(super) struct Compact<R> {
    input: R,
    /// Bytes taken so far.
    pub taken: u64,
    cap: u64,
}

impl<R: Read> Compact<R> {
    /// Reads at most `cap` bytes.
    pub fn new(input: R, cap: u64) -> Self {
        Self { input, taken: 0, cap }
    }

    fn take(&mut self, bytes: u64) -> Result<(), String> {
        self.taken =
            self.taken.checked_add(bytes).filter(|taken| *taken <= self.cap).ok_or("it is cut off")?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1)?;
        let mut byte = [0];
        self.input.read_exact(&mut byte).map_err(|e| e.to_string())?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has too many digits".into())
    }

    /// A number, as integers of all sizes are stored.
    pub fn number(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The number and type of a struct's next field; `None` at its end. `last` is the number of the one
    /// before.
    pub fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, String> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.number()?,
            step => last.checked_add(i64::from(step)).ok_or("a field has no number")?,
        };
        Ok(Some((*last, head & 15)))
    }

    /// The type of a list's elements and how many there are, each of which takes a byte or more.
    pub fn list(&mut self) -> Result<(u8, u64), String> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        if count > self.cap - self.taken {
            return Err(format!("a list says that it has {count} elements, which it has no room for"));
        }
        Ok((head & 15, count))
    }

    /// Pass over a field's value.
    pub fn skip(&mut self, kind: u8) -> Result<(), String> {
        // The value of a truth is in the field's own head.
        if matches!(kind, 1 | 2) { Ok(()) } else { self.skip_value(kind, DEEPEST) }
    }

    fn skip_value(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("its structs are nested too deeply")?;
        match kind {
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_value(kind, depth))
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip_value(kinds >> 4, depth)?;
                    self.skip_value(kinds & 15, depth)
                })
            }
            12 => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    if !matches!(kind, 1 | 2) {
                        self.skip_value(kind, depth)?;
                    }
                }
                Ok(())
            }
            _ => Err(format!("a value has the unknown type {kind}")),
        }
    }

    fn pass(&mut self, bytes: u64) -> Result<(), String> {
        self.take(bytes)?;
        match io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink()) {
            Ok(passed) if passed == bytes => Ok(()),
            Ok(_) => Err("it is cut off".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}
