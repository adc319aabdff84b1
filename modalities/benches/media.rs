//! Times the reading of audio: `cargo bench -p percept-modalities -- audio FILE [RUNS]` or `log-mel [RUNS]`.
//! Prints one JSON document in the shape of `percept bench --json`.

use std::path::Path;
use std::time::Instant;

use percept_modalities::audio::{Limits, LogMel, Waveform, decode};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut arguments = arguments.iter().map(String::as_str);
    let bench = arguments.next().unwrap_or("log-mel");
    let file = if bench == "log-mel" { "" } else { arguments.next().expect("a file to decode") };
    let runs: usize = arguments.next().map_or(7, |runs| runs.parse().expect("a number of runs"));
    let (mut once, unit): (Box<dyn FnMut() -> f64>, _) = match bench {
        "audio" => (Box::new(|| audio(Path::new(file))), "seconds/s"),
        "log-mel" => (log_mel(), "seconds/s"),
        other => panic!("{other} is neither audio nor log-mel"),
    };
    let mut times = Vec::new();
    let mut amount = 0.0;
    once();
    for _ in 0..runs {
        let start = Instant::now();
        amount = once();
        times.push(1000.0 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let line = serde_json::json!({
        "bench": bench, "device": "cpu", "settings": {"file": file}, "median_ms": median, "min_ms": times[0],
        "runs": runs, "rate": 1000.0 * amount / median, "rate_unit": unit,
    });
    println!("{line}");
}

/// Decodes an audio clip to 16 kHz; its seconds.
fn audio(file: &Path) -> f64 {
    decode(file, 16_000, &Limits::default()).expect("an audio clip").samples.len() as f64 / 16_000.0
}

/// Whisper's features of 30 seconds.
fn log_mel() -> Box<dyn FnMut() -> f64> {
    let extractor = LogMel::from_json("defaults", &serde_json::json!({})).expect("settings");
    let samples = (0..extractor.samples()).map(|n| ((n * n) as f32 * 1e-6).sin()).collect();
    let clip = Waveform { samples, rate: extractor.rate() };
    Box::new(move || {
        std::hint::black_box(extractor.features(&clip).expect("features"));
        f64::from(extractor.seconds())
    })
}
