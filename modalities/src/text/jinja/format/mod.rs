//! Python's ways to write values into text: `%`, `str.format` and the format specification that both share.

mod braces;
mod number;
mod percent;
mod spec;

pub(super) use braces::braces;
pub(super) use number::{fixed, round_to};
pub(super) use percent::percent;
