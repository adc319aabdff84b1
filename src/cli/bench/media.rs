//! `percept bench transcribe` and `percept bench embed`: the speed of transcription and of image embedding.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use percept::hal::CompileOptions;
use percept::infer::{Embedder, TextEmbedder, TranscribeOptions, Transcriber};
use percept::modalities::Values;
use percept::modalities::audio::{Limits, Waveform, decode};
use percept::modalities::image::Image;
use percept::model::{Contrastive, Model, TextEncoder};
use serde_json::json;

use super::explain::Roof;
use super::runs::{Runs, Timed};
use crate::cli::Failure;
use crate::cli::model::loading::{Loading, report_fallbacks};

#[derive(Args)]
pub struct Transcribe {
    #[command(flatten)]
    loading: Loading,
    /// An audio file; it is repeated up to --seconds
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Seconds of audio in a run
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    #[command(flatten)]
    measure: Runs,
}

#[derive(Args)]
pub struct Embed {
    #[command(flatten)]
    loading: Loading,
    /// Images or texts in a run
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Words of a text, for an encoder of texts
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    words: u16,
    #[command(flatten)]
    measure: Runs,
}

/// What the texts of `bench embed` are made of; benches/peers/media_bench.py has the same.
const WORDS: [&str; 16] = [
    "harbour", "wall", "morning", "boat", "net", "people", "water", "fish", "bread", "coffee", "child",
    "wind", "north", "day", "winter", "story",
];

impl Transcribe {
    pub fn run(self) -> Result<(), Failure> {
        let Model::Speech(model) = self.loading.open()? else {
            return Err(Failure::Usage("this bench takes a Whisper checkpoint".into()));
        };
        let (device, host) = self.loading.device()?;
        let id = device.info().id.clone();
        let compile = CompileOptions { strict: self.loading.strict, host, ..CompileOptions::default() };
        // One try, so that every run does the same work.
        let options = TranscribeOptions { temperatures: vec![0.0], ..TranscribeOptions::default() };
        let mut transcriber = Transcriber::new(model, device.clone(), compile, options)?;

        let rate = transcriber.rate();
        let audio =
            decode(&self.file, rate, &Limits::default()).map_err(percept::infer::Error::from)?.samples;
        let samples = (self.seconds * f64::from(rate)) as usize;
        if audio.is_empty() || samples == 0 || samples > Limits::default().samples {
            return Err(Failure::Usage(format!("{} seconds of this audio cannot be made", self.seconds)));
        }
        let audio: Vec<f32> = audio.iter().copied().cycle().take(samples).collect();
        let features = transcriber.speech_model().model().features().clone();
        let window = Waveform { samples: audio[..samples.min(features.samples())].to_vec(), rate };
        let extract = |t: &Transcriber| t.speech_model().model().features().features(&window);

        let start = Instant::now();
        let values = extract(&transcriber).map_err(percept::infer::Error::from)?.values;
        let features_ms = start.elapsed().as_secs_f64() * 1e3;
        let Values::F32(values) = values else { return Err(Failure::Usage("features are no floats".into())) };
        let encoder = self.measure.time(|| {
            timed(|| {
                // Reading waits until it is done.
                device
                    .read(&transcriber.speech_model_mut().encode(&values)?)
                    .map_err(percept::infer::Error::from)?;
                Ok(())
            })
        })?;
        let mut words = 0;
        let timing = self.measure.time(|| {
            timed(|| {
                let transcript = transcriber.transcribe([Ok(audio.clone())], |_| (), |_| ())?;
                words = transcript.text.split_whitespace().count();
                Ok(())
            })
        })?;
        let breakdown = self.measure.explain(&timing, || {
            transcriber.speech_model_mut().record_timeline();
            let ms = timed(|| Ok(transcriber.transcribe([Ok(audio.clone())], |_| (), |_| ()).map(drop)?))?;
            Ok((ms, transcriber.speech_model_mut().take_timeline(), Roof::measure(&*device)?))
        })?;
        let more = json!({
            "features_ms": features_ms, "encoder_min_ms": encoder.min, "encoder_median_ms": encoder.median,
            "words": words,
        });
        let settings = json!({"file": self.file, "seconds": self.seconds});
        let work = (self.seconds, "seconds of audio/s");
        let timed = Timed { bench: "transcribe", device: &id, settings, timing, work, more, breakdown };
        self.measure.print(timed, &self.loading);
        report_fallbacks(transcriber.reports());
        Ok(())
    }
}

impl Embed {
    pub fn run(self) -> Result<(), Failure> {
        match self.loading.open()? {
            Model::Contrastive(model) => self.images(model),
            Model::TextEncoder(model) => self.texts(model),
            _ => Err(Failure::Usage(
                "this bench takes a checkpoint of CLIP, of SigLIP, or of an encoder of texts".into(),
            )),
        }
    }

    fn images(self, model: Box<Contrastive>) -> Result<(), Failure> {
        let (device, host) = self.loading.device()?;
        let id = device.info().id.clone();
        let options = CompileOptions { strict: self.loading.strict, host, ..CompileOptions::default() };
        let edge = model.vision.image;
        let rgb = (0..3 * edge * edge).map(|i| (i * 7919 % 251) as u8).collect();
        let images = vec![Image { width: edge, height: edge, rgb }; usize::from(self.batch)];
        let prepared = model.prepare(&images)?;
        let mut embedder = Embedder::new(model, device.clone(), options);
        let timing = self.measure.time(|| timed(|| Ok(embedder.prepared(&prepared).map(drop)?)))?;
        let breakdown = self.measure.explain(&timing, || {
            embedder.record_timeline();
            let ms = timed(|| Ok(embedder.prepared(&prepared).map(drop)?))?;
            Ok((ms, embedder.take_timeline(), Roof::measure(&*device)?))
        })?;
        let (settings, work) = (json!({"batch": self.batch}), (f64::from(self.batch), "images/s"));
        let timed = Timed { bench: "embed", device: &id, settings, timing, work, more: json!({}), breakdown };
        self.measure.print(timed, &self.loading);
        report_fallbacks(embedder.reports());
        Ok(())
    }

    /// From the texts to vectors: the tokenizer is part of the run, as it is of a peer's.
    fn texts(self, model: Box<TextEncoder>) -> Result<(), Failure> {
        let (device, host) = self.loading.device()?;
        let id = device.info().id.clone();
        let options = CompileOptions { strict: self.loading.strict, host, ..CompileOptions::default() };
        let (pooling, words) = (model.pooling, usize::from(self.words));
        let text = |i: usize| {
            let word = |w: usize| WORDS[(7 * i + 3 * w + i * w) % WORDS.len()];
            (0..words).map(word).collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..usize::from(self.batch)).map(text).collect();
        let mut embedder = TextEmbedder::of_encoder(model, device.clone(), options);
        let timing = self.measure.time(|| timed(|| Ok(embedder.texts(&texts, pooling).map(drop)?)))?;
        let breakdown = self.measure.explain(&timing, || {
            embedder.record_timeline();
            let ms = timed(|| Ok(embedder.texts(&texts, pooling).map(drop)?))?;
            Ok((ms, embedder.take_timeline(), Roof::measure(&*device)?))
        })?;
        let settings = json!({"batch": self.batch, "words": self.words});
        let work = (f64::from(self.batch), "texts/s");
        let timed = Timed { bench: "embed", device: &id, settings, timing, work, more: json!({}), breakdown };
        self.measure.print(timed, &self.loading);
        report_fallbacks(embedder.reports());
        Ok(())
    }
}

/// Milliseconds that something took.
fn timed(run: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
