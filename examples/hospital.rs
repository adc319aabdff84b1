//! The data of the tutorial docs/adapt-to-a-domain.md, made and not collected: nobody's images, nobody's
//! reports.
//!
//! ```text
//! cargo run --release --example hospital -- DIR [SCALE]
//! ```
//!
//! writes three sets of questions with their answers, and beside them the recipes, the runs and the
//! description of the model that the tutorial uses:
//!
//! | set | what it holds | questions | answers |
//! |---|---|---|---|
//! | `general` | coloured shapes on a plain background, 64x64 | shape, colour, side | a word |
//! | `reports` | short reports of examinations, text alone | organ, finding, whether it is urgent | a word |
//! | `ultrasound` | speckle images with a cyst, a solid mass or neither, 64x64 | finding, whether there is a lesion, side | a word |
//!
//! Every set is divided by its `patient`, whose questions stay together. SCALE divides the number of
//! patients, so that a test can have little of everything. The same call writes the same bytes.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::json;

/// Pixels of an image's edge.
const SIDE: usize = 64;

/// What is written as it stands: recipes, runs, and the model to be trained from nothing.
const FILES: [(&str, &str); 13] = [
    ("general.toml", include_str!("hospital/general.toml")),
    ("reports.toml", include_str!("hospital/reports.toml")),
    ("ultrasound.toml", include_str!("hospital/ultrasound.toml")),
    ("train-general.toml", include_str!("hospital/train-general.toml")),
    ("train-reports.toml", include_str!("hospital/train-reports.toml")),
    ("train-ultrasound.toml", include_str!("hospital/train-ultrasound.toml")),
    ("train-both.toml", include_str!("hospital/train-both.toml")),
    ("train-smollm2.toml", include_str!("hospital/train-smollm2.toml")),
    ("model/config.json", include_str!("hospital/model/config.json")),
    ("model/processor_config.json", include_str!("hospital/model/processor_config.json")),
    ("model/tokenizer_config.json", include_str!("hospital/model/tokenizer_config.json")),
    ("model/generation_config.json", include_str!("hospital/model/generation_config.json")),
    ("model/chat_template.jinja", include_str!("hospital/model/chat_template.jinja")),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, scale) = match arguments.as_slice() {
        [folder] => (folder, 1),
        [folder, scale] => (folder, scale.parse::<usize>()?.max(1)),
        _ => return Err("usage: hospital DIR [SCALE]".into()),
    };
    make(Path::new(folder), scale)?;
    println!("{folder}: three sets of data, their recipes, and the runs of docs/adapt-to-a-domain.md");
    Ok(())
}

/// Write everything to `folder`.
pub fn make(folder: &Path, scale: usize) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder.join("model"))?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    images(&folder.join("general"), 300 / scale, 3, shape)?;
    fs::create_dir_all(folder.join("reports"))?;
    let mut rows = String::new();
    for patient in 0..400 / scale {
        let mut random = Random::new(2, patient);
        let (report, questions) = report(patient, &mut random);
        for (at, (question, answer)) in questions.iter().enumerate() {
            row(
                &mut rows,
                &format!("report-{patient:04}-{at}"),
                patient,
                None,
                &format!("{report} {question}"),
                answer,
            )?;
        }
    }
    fs::write(folder.join("reports/rows.jsonl"), rows)?;
    images(&folder.join("ultrasound"), 150 / scale, 4, ultrasound)
}

/// What is drawn, and what is asked about it.
type Drawn = (Vec<u8>, Vec<(&'static str, &'static str)>);

/// Write a folder of `patients` with some images each, and `rows.jsonl` with the questions.
fn images(
    folder: &Path,
    patients: usize,
    each: usize,
    draw: fn(&mut Random) -> Drawn,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder.join("images"))?;
    let set = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut rows = String::new();
    for number in 0..patients * each {
        let mut random = Random::new(set.len(), number);
        let (rgb, questions) = draw(&mut random);
        let image = format!("images/{number:04}.ppm");
        let mut bytes = format!("P6\n{SIDE} {SIDE}\n255\n").into_bytes();
        bytes.extend(rgb);
        fs::write(folder.join(&image), bytes)?;
        for (at, (question, answer)) in questions.iter().enumerate() {
            row(
                &mut rows,
                &format!("{set}-{number:04}-{at}"),
                number / each,
                Some(&image),
                question,
                answer,
            )?;
        }
    }
    Ok(fs::write(folder.join("rows.jsonl"), rows)?)
}

/// One line of a list of questions.
fn row(
    rows: &mut String,
    id: &str,
    patient: usize,
    image: Option<&str>,
    question: &str,
    answer: &str,
) -> Result<(), Box<dyn Error>> {
    let mark = if image.is_some() { "<image>" } else { "" };
    let mut line = json!({
        "id": id,
        "patient": format!("p{patient:04}"),
        "messages": [
            { "role": "user", "content": format!("{mark}{question}") },
            { "role": "assistant", "content": answer },
        ],
    });
    if let Some(image) = image {
        line["image"] = json!(image);
    }
    Ok(writeln!(rows, "{line}")?)
}

/// A coloured shape on the left or on the right.
fn shape(random: &mut Random) -> Drawn {
    const COLOURS: [(&str, [f64; 3]); 5] = [
        ("red", [0.9, 0.15, 0.15]),
        ("green", [0.15, 0.75, 0.2]),
        ("blue", [0.15, 0.3, 0.95]),
        ("yellow", [0.95, 0.85, 0.1]),
        ("white", [1.0, 1.0, 1.0]),
    ];
    let (name, colour) = COLOURS[random.below(COLOURS.len())];
    let kind = ["circle", "square", "cross"][random.below(3)];
    let side = ["left", "right"][random.below(2)];
    let ground = random.between(0.1, 0.45);
    let radius = random.between(7.0, 12.0);
    let (x, y) = (random.between(13.0, 21.0), random.between(16.0, 48.0));
    let x = if side == "left" { x } else { SIDE as f64 - x };
    let rgb = paint(|px, py| {
        let (dx, dy) = ((px - x).abs(), (py - y).abs());
        let inside = match kind {
            "circle" => dx * dx + dy * dy < radius * radius,
            "square" => dx.max(dy) < radius * 0.85,
            _ => dx.min(dy) < radius * 0.3 && dx.max(dy) < radius,
        };
        if inside { colour } else { [ground; 3] }
    });
    let questions =
        vec![("What shape is this?", kind), ("What colour is it?", name), ("On which side is it?", side)];
    (rgb, questions)
}

/// A report of an examination with one finding, and what it says.
fn report(number: usize, random: &mut Random) -> (String, Vec<(&'static str, &'static str)>) {
    const ORGANS: [&str; 6] = ["liver", "kidney", "spleen", "thyroid", "gallbladder", "pancreas"];
    const FINDINGS: [(&str, &str, &str); 5] = [
        ("a thin-walled lesion without echoes, as of a cyst", "cyst", "no"),
        ("a solid lesion with an irregular margin and shadow", "mass", "yes"),
        ("small bright stones with shadow", "stones", "no"),
        ("free fluid around it", "fluid", "yes"),
        ("diffuse enlargement", "enlargement", "no"),
    ];
    let affected = random.below(ORGANS.len());
    let other = (affected + 1 + random.below(ORGANS.len() - 1)) % ORGANS.len();
    let (words, finding, urgent) = FINDINGS[random.below(FINDINGS.len())];
    let age = 20 + random.below(70);
    let who = ["man", "woman"][random.below(2)];
    let (organ, normal) = (ORGANS[affected], ORGANS[other]);
    let parts = [format!("The {normal} is normal."), format!("The {organ} shows {words}.")];
    let order = if random.below(2) == 0 { [0, 1] } else { [1, 0] };
    let text = format!("Report {number}: {who} of {age} years. {} {}", parts[order[0]], parts[order[1]]);
    let questions =
        vec![("Which organ is affected?", organ), ("What was found?", finding), ("Is it urgent?", urgent)];
    (text, questions)
}

/// An image with speckle: layers of tissue that grow darker with depth, and perhaps a cyst, which is black
/// and bright below, or a solid mass, which is grey with a ragged margin and a shadow below.
fn ultrasound(random: &mut Random) -> Drawn {
    let finding = ["cyst", "mass", "normal"][random.below(3)];
    let side = ["left", "right"][random.below(2)];
    let x = random.between(14.0, 22.0);
    let x = if side == "left" { x } else { SIDE as f64 - x };
    let (y, radius) = (random.between(18.0, 34.0), random.between(6.0, 10.0));
    let (turn, rough) = (random.between(0.0, 6.0), random.between(0.25, 0.4));
    let layers: Vec<[f64; 3]> = (0..4)
        .map(|_| [random.between(3.0, 61.0), random.between(0.05, 0.2), random.between(0.03, 0.1)])
        .collect();
    let mut grains = Vec::with_capacity(SIDE * SIDE);
    // The amplitude of the sum of many echoes is Rayleigh's.
    grains.resize_with(SIDE * SIDE, || (-2.0 * random.unit().max(1e-12).ln()).sqrt());
    let tissue = |px: f64, py: f64| {
        let layer = |l: &[f64; 3]| l[1] * (-(py - l[0] - 2.0 * (px * l[2]).sin()).powi(2) / 4.0).exp();
        let base = 0.5 * (1.0 - 0.45 * py / SIDE as f64) + layers.iter().map(layer).sum::<f64>();
        let (dx, dy) = (px - x, py - y);
        let angle = dy.atan2(dx);
        let edge =
            if finding == "cyst" { radius } else { radius * (1.0 + rough * (5.0 * angle + turn).sin()) };
        let below = dx.abs() < radius * 0.8 && dy > radius;
        match (finding, dx.hypot(dy) < edge) {
            ("cyst", true) => 0.03,
            ("cyst", false) if below => base * 1.6,
            ("mass", true) => base * 0.45,
            ("mass", false) if below => base * 0.3,
            _ => base,
        }
    };
    // Three by three grains are averaged, as a transducer's beam does.
    let grain = |px: usize, py: usize| {
        let near = |v: usize| v.saturating_sub(1)..(v + 2).min(SIDE);
        let all: Vec<f64> =
            near(py).flat_map(|y| near(px).map(move |x| (x, y))).map(|(x, y)| grains[y * SIDE + x]).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let rgb = paint(|px, py| [tissue(px, py) * grain(px as usize, py as usize) / 1.6; 3]);
    let mut questions = vec![
        ("What does this ultrasound show?", finding),
        ("Is a lesion present?", if finding == "normal" { "no" } else { "yes" }),
    ];
    if finding != "normal" {
        questions.push(("On which side is the lesion?", side));
    }
    (rgb, questions)
}

/// The bytes of an image whose pixels have the given colours, from 0 to 1.
fn paint(colour: impl Fn(f64, f64) -> [f64; 3]) -> Vec<u8> {
    let pixels = (0..SIDE * SIDE).flat_map(|at| colour((at % SIDE) as f64, (at / SIDE) as f64));
    pixels.map(|value| (255.0 * value.clamp(0.0, 1.0)).round() as u8).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough for drawing.
struct Random(u64);

impl Random {
    fn new(stream: usize, number: usize) -> Self {
        Self((stream as u64) << 32 | number as u64)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
