//! Transcripts as text, SubRip and WebVTT.

use super::Segment;

/// How a transcript is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captions {
    /// A line a segment.
    Text,
    /// SubRip.
    Srt,
    /// WebVTT.
    Vtt,
}

impl Captions {
    /// The text before the first segment.
    pub fn head(self) -> &'static str {
        if self == Captions::Vtt { "WEBVTT\n\n" } else { "" }
    }

    /// Segment number `index`, counted from 0.
    pub fn segment(self, index: usize, segment: &Segment) -> String {
        let Segment { start, end, text, .. } = segment;
        match self {
            Captions::Text => format!("{text}\n"),
            Captions::Srt => {
                format!("{}\n{} --> {}\n{text}\n\n", index + 1, clock(*start, ','), clock(*end, ','))
            }
            // An arrow would be read as the next cue's times.
            Captions::Vtt => {
                let text = text.replace("-->", "->");
                format!("{} --> {}\n{text}\n\n", clock(*start, '.'), clock(*end, '.'))
            }
        }
    }
}

/// Seconds as hours, minutes, seconds and thousandths.
fn clock(seconds: f64, mark: char) -> String {
    let ms = (seconds.max(0.0) * 1000.0).round() as u64;
    format!("{:02}:{:02}:{:02}{mark}{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_written_in_each_format() {
        let segment =
            Segment { start: 3723.0449, end: 3724.9996, text: "It was. --> So".into(), words: vec![] };
        assert_eq!(Captions::Text.segment(4, &segment), "It was. --> So\n");
        assert_eq!(
            Captions::Srt.segment(4, &segment),
            "5\n01:02:03,045 --> 01:02:05,000\nIt was. --> So\n\n"
        );
        assert_eq!(Captions::Vtt.segment(4, &segment), "01:02:03.045 --> 01:02:05.000\nIt was. -> So\n\n");
        assert_eq!((Captions::Vtt.head(), Captions::Srt.head()), ("WEBVTT\n\n", ""));
    }
}
