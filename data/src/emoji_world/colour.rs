//! The colour that most of an emoji has.

use super::sheet::Emoji;

/// The name of the colour on at least half of an emoji's area, if there is one.
pub(super) fn main_colour(emoji: &Emoji) -> Option<&'static str> {
    let mut counts = Vec::<(&str, usize)>::new();
    let mut total = 0;
    for pixel in emoji.rgba.chunks_exact(4).filter(|pixel| pixel[3] > 127) {
        let name = name([pixel[0], pixel[1], pixel[2]]);
        total += 1;
        match counts.iter_mut().find(|(of, _)| *of == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.into_iter().find(|(_, count)| 2 * count >= total).map(|(name, _)| name)
}

/// A colour by hue, saturation and value.
fn name(rgb: [u8; 3]) -> &'static str {
    let [r, g, b] = rgb.map(|value| f64::from(value) / 255.0);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = high - low;
    if high < 0.22 {
        return "black";
    }
    if range < 0.13 * high {
        return if high > 0.85 { "white" } else { "grey" };
    }
    let hue = if high == r {
        ((g - b) / range).rem_euclid(6.0)
    } else if high == g {
        (b - r) / range + 2.0
    } else {
        (r - g) / range + 4.0
    };
    match hue * 60.0 {
        h if !(14.0..345.0).contains(&h) => "red",
        h if h < 40.0 && high < 0.72 => "brown",
        h if h < 40.0 => "orange",
        h if h < 68.0 && high < 0.6 => "brown",
        h if h < 68.0 => "yellow",
        h if h < 165.0 => "green",
        h if h < 255.0 => "blue",
        h if h < 295.0 => "purple",
        _ => "pink",
    }
}

#[cfg(test)]
mod tests {
    use super::super::sheet;
    use super::*;

    #[test]
    fn colours_have_their_usual_names() {
        let cases = [
            ([255, 0, 0], "red"),
            ([255, 140, 0], "orange"),
            ([255, 230, 0], "yellow"),
            ([0, 128, 0], "green"),
            ([30, 60, 200], "blue"),
            ([120, 40, 200], "purple"),
            ([255, 105, 180], "pink"),
            ([120, 70, 30], "brown"),
            ([10, 10, 10], "black"),
            ([128, 128, 128], "grey"),
            ([250, 250, 250], "white"),
        ];
        for (rgb, expected) in cases {
            assert_eq!(name(rgb), expected, "{rgb:?}");
        }
    }

    #[test]
    fn emoji_have_the_colour_that_anyone_would_say() {
        let all = sheet::load().unwrap();
        let of = |name: &str| main_colour(all.iter().find(|emoji| emoji.name == name).unwrap());
        assert_eq!(of("evergreen tree"), Some("green"));
        assert_eq!(of("lemon"), Some("yellow"));
        assert_eq!(of("purple heart"), Some("purple"));
        assert_eq!(of("rainbow"), None);
    }
}
