//! The buffer that plug-ins write their messages into.

use std::ffi::{CStr, c_char};

use crate::abi;

/// Bytes that a message may have.
const CAPACITY: usize = 1024;
/// Bytes after it that nobody may write to.
const GUARD: usize = 64;
/// What they hold.
const PATTERN: u8 = 0xa7;

/// A buffer for one message, with a guard behind it.
pub struct MessageBuffer(Vec<u8>);

impl MessageBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        let mut bytes = vec![0; CAPACITY];
        bytes.resize(CAPACITY + GUARD, PATTERN);
        Self(bytes)
    }

    /// The struct that a plug-in is given. It is valid until the buffer is used again.
    pub fn lend(&mut self) -> abi::Message {
        self.0[0] = 0;
        abi::Message {
            struct_size: abi::Message::SIZE,
            text: self.0.as_mut_ptr().cast::<c_char>(),
            capacity: CAPACITY as u64,
        }
    }

    /// What was written, as one line, or `otherwise`.
    pub fn text(&self, otherwise: &str) -> String {
        let text = text_in(&self.0[..CAPACITY]);
        let mut text = if text.is_empty() { otherwise.to_string() } else { text };
        if self.0[CAPACITY..].iter().any(|&b| b != PATTERN) {
            text.push_str(
                "; it also wrote past the end of its message, so memory of this process is damaged",
            );
        }
        text
    }
}

/// Text that ends with a zero byte or with the bytes; what is no text is replaced, so that it stays one line.
pub fn text_in(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    let line = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    line.collect()
}

/// The text of an array of a struct.
pub fn text_of(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&c| c as u8).collect();
    text_in(&bytes)
}

/// Text behind a pointer, as one line.
///
/// # Safety
/// The pointer is null, or text that ends with a zero byte is there.
pub unsafe fn text_at(at: *const c_char) -> Option<String> {
    // SAFETY: as the caller says.
    (!at.is_null()).then(|| text_in(unsafe { CStr::from_ptr(at) }.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_its_guard_is_looked_at() {
        let mut buffer = MessageBuffer::new();
        let lent = buffer.lend();
        for (i, b) in b"the chip\nis \xff hot\0".iter().enumerate() {
            // SAFETY: the buffer is longer than the text.
            unsafe { lent.text.add(i).write(*b as c_char) };
        }
        assert_eq!(buffer.text("nothing"), "the chip is \u{fffd} hot");
        let lent = buffer.lend();
        assert_eq!(buffer.text("nothing"), "nothing");
        // SAFETY: the guard belongs to the buffer.
        unsafe { lent.text.add(CAPACITY).write(0) };
        assert!(buffer.text("nothing").contains("past the end"));
    }
}
