//! What commands print. The macros below stand in place of the standard ones, which panic when nobody reads
//! any more, as in `percept … --json | head`.

use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};
use std::io::{ErrorKind, Write as _};

/// Print to standard output. When its reader has left, the command ends without a word; when it cannot be
/// written for another reason, it ends with an error.
pub fn print(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        end(&error);
    }
}

/// End the command because standard output cannot be written.
pub fn end(error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    complain(format_args!("error: standard output cannot be written: {error}\n"));
    std::process::exit(1)
}

/// Print to standard error; a failure to print is ignored, since there is nowhere else to report it.
pub fn complain(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// A text from outside, such as a tensor's name, on one line and without characters that a terminal would act
/// on: those are written as Rust writes them in a string.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, acts)
}

/// The same, with its lines kept.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && c != '\n')
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match acts(c) {
            // Writing to a string does not fail.
            true => drop(write!(out, "{}", c.escape_default())),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters, and those that turn the direction of a line or break it.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::print(::std::format_args!($($text)*)) };
}

macro_rules! println {
    () => { $crate::cli::output::print(::std::format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::print(::std::format_args!("{}\n", ::std::format_args!($($text)*))) };
}

macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::complain(::std::format_args!($($text)*)) };
}

macro_rules! eprintln {
    () => { $crate::cli::output::complain(::std::format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::complain(::std::format_args!("{}\n", ::std::format_args!($($text)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(printable("a\u{1b}[31mred\u{7}\u{9b}2J"), "a\\u{1b}[31mred\\u{7}\\u{9b}2J");
        assert_eq!(printable("two\nlines\tand \u{202e}back"), "two\\nlines\\tand \\u{202e}back");
        assert_eq!(printable_lines("two\nlines\r"), "two\nlines\\r");
        assert!(matches!(printable("Ġplain — ünïcode 漢字"), Cow::Borrowed(_)));
    }
}
