//! Memory of one thread that outlives a kernel, so that no kernel allocates.

use std::cell::RefCell;

use crate::lanes::WIDTH;

/// Sixteen floats on a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _floats: [f32; WIDTH],
}

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with `len` floats of this thread's scratch, aligned to a cache line; their values are whatever the
/// last user left. Not to be nested.
pub(crate) fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|lines| {
        let needed = len.div_ceil(WIDTH);
        if lines.len() < needed {
            lines.resize(needed, Line { _floats: [0.0; WIDTH] });
        }
        let flat: &mut [f32] = {
            let start = lines.as_mut_ptr().cast::<f32>();
            // SAFETY: `Line` is sixteen floats without padding, and the vector is borrowed for as long as the slice.
            unsafe { std::slice::from_raw_parts_mut(start, lines.len() * WIDTH) }
        };
        body(&mut flat[..len])
    })
}
