//! WGSL functions shared by the kernels. A function is included where its name occurs, with the functions it
//! calls.
//!
//! The transcendental functions are our own because drivers' differ by hundreds of ULP: exp, log, sin and the
//! rest are within a few ULP of the real value in f32 on any adapter.

use std::collections::HashSet;
use std::sync::LazyLock;

const FILES: [&str; 3] =
    [include_str!("float.wgsl"), include_str!("integer.wgsl"), include_str!("transcendental.wgsl")];

/// Every function with its name; in the files each follows a line `//@ name`.
static LIBRARY: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let parts = FILES.iter().flat_map(|file| file.split("//@ ").skip(1));
    parts.filter_map(|part| part.split_once('\n')).collect()
});

/// The functions that `text` calls, directly or through one another.
pub(crate) fn functions_of(text: &str) -> String {
    let mut included: Vec<&str> = Vec::new();
    let mut out = String::new();
    let mut pending = vec![text];
    while let Some(caller) = pending.pop() {
        let called = called(caller);
        for &(name, body) in LIBRARY.iter() {
            if called.contains(name) && !included.contains(&name) {
                included.push(name);
                out.push_str(body);
                pending.push(body);
            }
        }
    }
    out
}

/// The words that stand before a parenthesis.
fn called(text: &str) -> HashSet<&str> {
    let before = |(at, _): (usize, &str)| {
        let head = &text[..at];
        &head[head.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len()..]
    };
    text.match_indices('(').map(before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callees_come_with_their_callers() {
        let text = functions_of("let y = cos_f32(x);");
        for name in ["cos_f32", "sine_of", "reduce_angle", "mul_high", "is_finite"] {
            assert_eq!(text.matches(&format!("fn {name}(")).count(), 1, "{name}");
        }
        assert!(!text.contains("fn sin_f32"));
        assert_eq!(functions_of("my_exp_f32(x) + exp_f32"), "");
    }

    #[test]
    fn every_function_is_valid_alone() {
        for (name, body) in LIBRARY.iter() {
            crate::validate(&format!("{}{body}", functions_of(body).replace(body, "")))
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
