//! `X-Robots-Tag`: whether a page's owner keeps machines that learn away from it.

/// The user agent by which a site may address this program alone, as in `X-Robots-Tag: percept: noai`.
const AGENT: &str = "percept";

/// What says no to a program that collects training data.
const NO: [&str; 5] = ["noai", "noimageai", "noindex", "noimageindex", "none"];

/// Directives that have a value after a colon, and so do not begin a part for one agent.
const WITH_VALUE: [&str; 4] = ["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"];

/// The first directive of the headers' values that forbids this program to keep the page.
///
/// A value is a list of directives, which hold for everyone until a part like `agent: directive` begins; the
/// parts of other agents do not bind this one.
/// <https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag>
pub(super) fn forbidden<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<&'static str> {
    for value in values {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        let mut for_us = true;
        for part in value.split(',') {
            let mut directive = part.trim();
            if let Some((agent, rest)) = directive.split_once(':')
                && !WITH_VALUE.contains(&agent.trim())
            {
                for_us = matches!(agent.trim(), AGENT | "*");
                directive = rest.trim();
            }
            if !for_us || directive.contains(':') {
                continue;
            }
            let no = NO.iter().find(|no| directive.split_whitespace().any(|word| word == **no));
            if let Some(no) = no {
                return Some(no);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_for_everyone_or_for_us_forbid() {
        let of = |values: &[&str]| forbidden(values.iter().map(|v| v.as_bytes()));
        assert_eq!(of(&["noai"]), Some("noai"));
        assert_eq!(of(&["nofollow, NoImageAI"]), Some("noimageai"));
        assert_eq!(of(&["all", "noindex"]), Some("noindex"));
        assert_eq!(of(&["none"]), Some("none"));
        assert_eq!(of(&["percept: noai"]), Some("noai"));
        assert_eq!(of(&["Percept: nofollow, noindex"]), Some("noindex"));
        assert_eq!(of(&["*: noindex"]), Some("noindex"));
        assert_eq!(of(&["googlebot: nofollow, percept: noai"]), Some("noai"));
        assert_eq!(of(&["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"]), Some("noai"));
        for may in ["", "all", "googlebot: noindex", "googlebot: noindex, none", "nofollow, nosnippet"] {
            assert_eq!(of(&[may]), None, "{may}");
        }
        assert_eq!(of(&["max-image-preview: none"]), None);
        assert_eq!(of(&["noaiplease"]), None);
        assert_eq!(of(&["googlebot: noindex", "noai"]), Some("noai"));
    }
}
