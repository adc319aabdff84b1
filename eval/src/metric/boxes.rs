//! Boxes: how much of one is the other.

use fancy_regex::Regex;
use std::sync::LazyLock;

/// Left, top, right, bottom.
pub type Corners = [f64; 4];

static LIST: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = r"(-?\d+(?:\.\d+)?)";
    Regex::new(&format!(r"\[\s*{number},\s*{number},\s*{number},\s*{number}\s*\]")).ok()
});

/// The first four numbers in brackets of an answer.
pub fn parse(answer: &str) -> Option<Corners> {
    let found = LIST.as_ref()?.captures(answer).ok()??;
    let number = |at: usize| found.get(at)?.as_str().parse().ok();
    Some([number(1)?, number(2)?, number(3)?, number(4)?])
}

/// Intersection over union; 0 where nothing is covered.
pub fn iou(a: Corners, b: Corners) -> f64 {
    let overlap = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |corners: Corners| (corners[2] - corners[0]) * (corners[3] - corners[1]);
    let shared = overlap(0) * overlap(1);
    let union = area(a) + area(b) - shared;
    if union == 0.0 { 0.0 } else { shared / union }
}

/// Whether the centre of `found` lies in `right`.
pub fn is_centred(right: Corners, found: Corners) -> bool {
    let within = |low: usize| {
        let middle = f64::midpoint(found[low], found[low + 2]);
        right[low] <= middle && middle <= right[low + 2]
    };
    within(0) && within(1)
}
