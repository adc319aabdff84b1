//! An inspection as a page.

use std::collections::BTreeMap;

use percept_modalities::{Content, Part};

use super::Inspection;
use crate::report::{Card, Page, audio_card, bars, encoded_image_card, video_card};
use crate::sample::{Kind, Sample};

/// Media of a sample that its card shows.
const MOST_MEDIA: usize = 4;
/// Letters of a sample that its card shows.
const MOST_LETTERS: usize = 400;

impl Inspection {
    /// One self-contained HTML file.
    ///
    /// # Errors
    /// In words, when a chart cannot be drawn.
    pub fn html(&self) -> Result<String, String> {
        let name = self
            .manifest
            .as_ref()
            .map_or_else(|| self.folder.display().to_string(), |manifest| manifest.name.clone());
        let megabytes = self.media_bytes as f64 / 1e6;
        let mut page = Page::new(&name, &format!("{} samples, {megabytes:.1} MB of media", self.samples));
        for (title, counts) in [
            ("Splits", &self.splits),
            ("Media", &self.media),
            ("What samples have", &self.parts),
            ("Damaged", &self.damaged),
        ] {
            if !counts.is_empty() {
                page.chart(&bars(title, &named(counts))?);
            }
        }
        page.heading("Duplicates");
        page.text(&format!("{} media in the shards are there before, byte for byte.", self.repeated_media));
        if let Some(manifest) = &self.manifest {
            page.heading("Stages");
            let time = |at: usize| self.timings.as_ref().and_then(|timings| timings.stages.get(at));
            let rows: Vec<Vec<String>> = manifest
                .stages
                .iter()
                .enumerate()
                .map(|(at, stage)| {
                    let seconds = time(at).map_or_else(String::new, |time| format!("{:.2}", time.seconds));
                    let rate =
                        time(at).map_or_else(String::new, |time| format!("{:.0}", time.samples_per_second));
                    vec![stage.stage.clone(), stage.taken.to_string(), stage.given.to_string(), seconds, rate]
                })
                .collect();
            page.table(&["stage", "in", "out", "seconds", "samples/s"], &[1, 2, 3, 4], &rows);
            for stage in manifest.stages.iter().filter(|stage| !stage.rejects.is_empty()) {
                page.chart(&bars(&format!("Left out by {}", stage.stage), &named(&stage.rejects))?);
            }
        }
        page.heading("Sizes and lengths");
        for (what, histogram) in &self.histograms {
            let mean = format!(
                "{what}: {:.1} on average, from {} to {}",
                histogram.mean, histogram.min, histogram.max
            );
            let bucket = |(power, count): &(f64, u64)| (format!("{power} and more"), *count as f64);
            page.chart(&bars(&mean, &histogram.buckets.iter().map(bucket).collect::<Vec<_>>())?);
        }
        page.heading("Samples");
        let cards: Vec<Card> = self.shown.values().map(|(split, sample)| card(split, sample)).collect();
        page.cards(&cards);
        Ok(page.html())
    }
}

fn named(counts: &BTreeMap<String, u64>) -> Vec<(String, f64)> {
    counts.iter().map(|(name, count)| (name.clone(), *count as f64)).collect()
}

fn card(split: &str, sample: &Sample) -> Card {
    let said = |content: &Content| match content {
        Content::Nothing => String::new(),
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let part = |part: &Part| match part {
                Part::Text { text } => text.clone(),
                Part::Image { .. } => "[image]".into(),
                Part::Video { .. } => "[video]".into(),
                Part::Audio { .. } => "[audio]".into(),
                Part::Other(_) => part.text().unwrap_or("[other]").into(),
            };
            parts.iter().map(part).collect::<Vec<_>>().join(" ")
        }
    };
    let turns = sample.messages.iter().map(|m| format!("{}: {}", m.role, said(&m.content)));
    let text = sample.text.iter().cloned().chain(turns).collect::<Vec<_>>().join("\n");
    let short: String = match text.char_indices().nth(MOST_LETTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    };
    let title = format!("{split} / {}", sample.key);
    let figures = sample.media.iter().take(MOST_MEDIA).rev().map(|medium| match medium.kind {
        Kind::Image => encoded_image_card(&title, "", &medium.bytes),
        Kind::Video => video_card(&title, "", &medium.bytes).unwrap_or_else(|why| Card::new(&title, &why)),
        Kind::Audio => audio_card(&title, "", &medium.bytes).unwrap_or_else(|why| Card::new(&title, &why)),
    });
    figures.fold(Card::new(&title, &short), Card::with)
}
