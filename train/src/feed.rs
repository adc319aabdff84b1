//! The stream of packed steps.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use percept_data::format::webdataset::Shard;
use percept_data::{Kind, Sample};
use percept_model::CausalModel;
use percept_modalities::{Content, Media, Message, Part, audio, image, video};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, SourceConfig};
use crate::encode::Encoded;
use crate::error::{Error, Result, file};

/// Rows of samples.
pub type Rows = Vec<Vec<Arc<Encoded>>>;

/// A corpus of shards whose samples can be read in any order.
pub struct Corpus {
    /// What it is called.
    pub name: String,
    shards: Vec<Shard>,
    quota: Option<usize>,
    weight: f64,
}

impl Corpus {
    /// Open the shards of a source.
    ///
    /// # Errors
    /// When there are none, or one cannot be read.
    pub fn open(source: &SourceConfig) -> Result<Self> {
        let path = &source.path;
        let mut files = if path.is_dir() { tars(path)? } else { vec![path.clone()] };
        files.sort();
        let shards = files.iter().map(|f| Ok(Shard::open(f)?)).collect::<Result<Vec<_>>>()?;
        let name = match source.name.is_empty() {
            true => path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            false => source.name.clone(),
        };
        let corpus = Self { name, shards, quota: source.quota, weight: source.weight };
        match corpus.len() {
            0 => Err(Error::Setting(format!("{}: there are no samples in it", path.display()))),
            _ => Ok(corpus),
        }
    }

    /// Samples in it.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// The sample at a place.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, mut at: usize) -> Result<Sample> {
        for shard in &self.shards {
            if at < shard.len() {
                return Ok(shard.read(at)?);
            }
            at -= shard.len();
        }
        Err(Error::Setting(format!("{} has no sample {at}", self.name)))
    }
}

fn tars(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(file(folder))? {
        let path = entry.map_err(file(folder))?.path();
        if path.extension().is_some_and(|e| e == "tar") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Where a feed stands: what is drawn next depends on this and the run's settings alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// For each corpus, how many samples were drawn from it.
    pub drawn: Vec<u64>,
    /// Samples that were drawn and did not fit: corpus and how many were drawn before.
    pub carried: Vec<(usize, u64)>,
}

/// Steps of packed rows, drawn from corpora in shuffled order.
pub struct Feed {
    corpora: Vec<Corpus>,
    model: Arc<dyn CausalModel>,
    settings: DataConfig,
    seed: u64,
    position: Position,
    /// The order of the epoch that each corpus is in.
    orders: Vec<(u64, Vec<u32>)>,
    /// Samples that could not be used, and why the last of them could not.
    refused: (u64, String),
}

/// One step's rows, and where the feed stands behind it.
pub struct Drawn {
    /// The rows of all processes.
    pub rows: Rows,
    /// Where the feed stands.
    pub position: Position,
    /// Samples that were refused so far, and why the last of them was.
    pub refused: (u64, String),
}

impl Feed {
    /// A feed over the run's corpora, from `position` on.
    ///
    /// # Errors
    /// When a corpus cannot be opened, or the position is of other corpora.
    pub fn new(model: Arc<dyn CausalModel>, settings: &DataConfig, seed: u64, position: Position) -> Result<Self> {
        let corpora = settings.train.iter().map(Corpus::open).collect::<Result<Vec<_>>>()?;
        if corpora.is_empty() {
            return Err(Error::Setting("data.train names no corpus".into()));
        }
        let mut position = position;
        if position.drawn.is_empty() {
            position.drawn = vec![0; corpora.len()];
        }
        if position.drawn.len() != corpora.len() || position.carried.iter().any(|c| c.0 >= corpora.len()) {
            return Err(Error::Setting(format!(
                "the checkpoint was trained on {} corpora, this run names {}",
                position.drawn.len(),
                corpora.len()
            )));
        }
        let orders = vec![(u64::MAX, Vec::new()); corpora.len()];
        let settings = settings.clone();
        Ok(Self { corpora, model, settings, seed, position, orders, refused: (0, String::new()) })
    }

    /// The next step.
    ///
    /// # Errors
    /// When quotas do not fit the rows, or no sample can be used.
    pub fn next_step(&mut self) -> Result<Drawn> {
        let mut packing = Packing::new(self.settings.rows, self.settings.length);
        for (c, at) in std::mem::take(&mut self.position.carried) {
            if let Some(sample) = self.sample(c, at) {
                packing.push(sample);
            }
        }
        let quotas: Vec<(usize, usize)> =
            self.corpora.iter().enumerate().filter_map(|(c, k)| Some((c, k.quota?))).collect();
        for (c, quota) in quotas {
            let mut samples: Vec<Arc<Encoded>> = Vec::new();
            while samples.len() < quota {
                samples.extend(self.draw(c, quota - samples.len())?.into_iter().map(|s| s.1));
            }
            // Long ones first: rows fill better, and the order inside a step changes nothing else.
            samples.sort_by_key(|s| std::cmp::Reverse(s.tokens()));
            for sample in samples {
                if !packing.push(sample) {
                    return Err(Error::Setting(format!(
                        "the quotas of a step do not fit {} rows of {} tokens; give data.rows or data.length more",
                        self.settings.rows, self.settings.length
                    )));
                }
            }
        }
        self.fill(&mut packing)?;
        let position = self.position.clone();
        Ok(Drawn { rows: packing.rows, position, refused: self.refused.clone() })
    }

    /// Samples of corpora without a quota until one of them does not fit.
    fn fill(&mut self, packing: &mut Packing) -> Result<()> {
        let open: Vec<usize> =
            (0..self.corpora.len()).filter(|&c| self.corpora[c].quota.is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        loop {
            // The one that is furthest behind its share.
            let behind = |&c: &usize| self.position.drawn[c] as f64 / self.corpora[c].weight.max(1e-9);
            let Some(c) = open.iter().copied().min_by(|a, b| behind(a).total_cmp(&behind(b))) else {
                return Ok(());
            };
            for (at, sample) in self.draw(c, 1)? {
                if !packing.push(sample) {
                    self.position.carried.push((c, at));
                    return Ok(());
                }
            }
        }
    }

    /// Draw `n` samples; those that cannot be used are left out.
    fn draw(&mut self, c: usize, n: usize) -> Result<Vec<(u64, Arc<Encoded>)>> {
        let from = self.position.drawn[c];
        self.position.drawn[c] += n as u64;
        let places: Vec<(u64, usize)> = (from..from + n as u64).map(|at| (at, self.place(c, at))).collect();
        let corpus = &self.corpora[c];
        let model = &*self.model;
        let length = self.settings.length;
        let encoded: Vec<(u64, Result<Encoded>)> = places
            .into_par_iter()
            .map(|(at, place)| (at, corpus.read(place).and_then(|s| usable(encode(model, &s)?, length))))
            .collect();
        let mut samples = Vec::new();
        for (at, result) in encoded {
            match result {
                Ok(sample) => samples.push((at, Arc::new(sample))),
                Err(e) => self.refused = (self.refused.0 + 1, e.to_string()),
            }
        }
        let tried: u64 = self.position.drawn.iter().sum();
        if self.refused.0 == tried && tried >= 64.min(corpus.len() as u64) {
            return Err(Error::Setting(format!(
                "none of the first {tried} samples can be used, the last because {}",
                self.refused.1
            )));
        }
        Ok(samples)
    }

    fn sample(&mut self, c: usize, at: u64) -> Option<Arc<Encoded>> {
        let place = self.place(c, at);
        let read = self.corpora[c].read(place).and_then(|s| encode(&*self.model, &s));
        read.ok().map(Arc::new)
    }

    /// The place in its corpus of the sample that is drawn as number `at`: each epoch has an order of its own.
    fn place(&mut self, c: usize, at: u64) -> usize {
        let n = self.corpora[c].len() as u64;
        let (epoch, within) = (at / n, (at % n) as usize);
        if self.orders[c].0 != epoch {
            self.orders[c] = (epoch, shuffled(n as usize, self.seed, (c as u64) << 40 | epoch));
        }
        self.orders[c].1[within] as usize
    }
}

/// Held-out samples of a corpus, packed: `limit` of them at most, spread over the whole corpus.
///
/// # Errors
/// When the corpus cannot be read, or none of its samples can be used.
pub fn held_out(
    model: &dyn CausalModel,
    corpus: &Corpus,
    settings: &DataConfig,
    limit: usize,
) -> Result<(Vec<Rows>, Vec<Sample>)> {
    let n = corpus.len().min(limit.max(1));
    let mut queue = VecDeque::new();
    let mut samples = Vec::new();
    let mut why = String::new();
    for i in 0..n {
        let read = corpus.read(i * corpus.len() / n);
        let encoded = read.and_then(|s| Ok((usable(encode(model, &s)?, settings.length)?, s)));
        match encoded {
            Ok((encoded, sample)) => {
                queue.push_back(Arc::new(encoded));
                samples.push(sample);
            }
            Err(e) => why = e.to_string(),
        }
    }
    if samples.is_empty() {
        let why = format!("{}: no sample can be measured on, the last because {why}", corpus.name);
        return Err(Error::Setting(why));
    }
    let mut steps = Vec::new();
    while !queue.is_empty() {
        let mut packing = Packing::new(settings.rows, settings.length);
        while let Some(sample) = queue.pop_front() {
            if !packing.push_last(sample.clone()) {
                queue.push_front(sample);
                break;
            }
        }
        steps.push(packing.rows);
    }
    Ok((steps, samples))
}

/// Rows being filled.
struct Packing {
    rows: Rows,
    room: Vec<usize>,
}

impl Packing {
    fn new(rows: usize, length: usize) -> Self {
        Self { rows: vec![Vec::new(); rows], room: vec![length; rows] }
    }

    /// Put a sample into the first row that has room.
    fn push(&mut self, sample: Arc<Encoded>) -> bool {
        let Some(r) = self.room.iter().position(|&room| room >= sample.tokens()) else { return false };
        self.room[r] -= sample.tokens();
        self.rows[r].push(sample);
        true
    }

    /// Put a sample behind all others, so that their order stays.
    fn push_last(&mut self, sample: Arc<Encoded>) -> bool {
        let last = self.rows.iter().rposition(|r| !r.is_empty()).unwrap_or(0);
        let Some(r) = (last..self.rows.len()).find(|&r| self.room[r] >= sample.tokens()) else { return false };
        self.room[r] -= sample.tokens();
        self.rows[r].push(sample);
        true
    }
}

fn usable(sample: Encoded, length: usize) -> Result<Encoded> {
    if sample.answers() == 0 {
        return Err(Error::Setting(format!(
            "'{}' has no answer tokens: no turn of the assistant says anything",
            sample.key
        )));
    }
    if sample.tokens() > length {
        let why = format!("'{}' has {} tokens, a row has {length}", sample.key, sample.tokens());
        return Err(Error::Setting(why));
    }
    Ok(sample)
}

/// A sample as the model learns it. A text without media or turns is a document; one with media is their caption.
///
/// # Errors
/// When a medium cannot be decoded, or the model's processor refuses the sample.
pub fn encode(model: &dyn CausalModel, sample: &Sample) -> Result<Encoded> {
    match (&sample.text, sample.messages.is_empty(), sample.media.is_empty()) {
        (Some(text), true, true) => Encoded::document(model, &sample.key, text),
        (Some(text), true, false) => {
            let messages = caption(sample, text);
            Encoded::conversation(model, &sample.key, &messages, &decode(model, sample)?)
        }
        _ => Encoded::conversation(model, &sample.key, &sample.messages, &decode(model, sample)?),
    }
}

/// The turns of a sample up to its last answer, and that answer; `None` when there is none.
pub fn question(sample: &Sample) -> Option<(Vec<Message>, String)> {
    let messages = match (&sample.text, sample.messages.is_empty()) {
        (Some(text), true) if !sample.media.is_empty() => caption(sample, text),
        _ => sample.messages.clone(),
    };
    let last = messages.iter().rposition(|m| m.role == "assistant")?;
    let answer = match &messages[last].content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let text = |p: &Part| if let Part::Text { text } = p { text.clone() } else { String::new() };
            parts.iter().map(text).collect()
        }
    };
    Some((messages[..last].to_vec(), answer))
}

fn caption(sample: &Sample, text: &str) -> Vec<Message> {
    let part = |kind: Kind| match kind {
        Kind::Image => Part::Image { path: None },
        Kind::Video => Part::Video { path: None },
        Kind::Audio => Part::Audio { path: None },
    };
    let shown = sample.media.iter().map(|m| part(m.kind)).collect();
    vec![
        Message { role: "user".into(), content: Content::Parts(shown) },
        Message { role: "assistant".into(), content: Content::Text(text.into()) },
    ]
}

/// A sample's media, decoded as the model's processor wants them.
///
/// # Errors
/// When one cannot be decoded, or the model takes none of its kind.
pub fn decode(model: &dyn CausalModel, sample: &Sample) -> Result<Media> {
    let mut media = Media::default();
    let takes_none = |kind: &str| Error::Setting(format!("'{}': this model takes no {kind}", sample.key));
    for blob in &sample.media {
        match blob.kind {
            Kind::Image => media.images.push(image::decode(&blob.bytes, &image::Limits::default())?),
            Kind::Video => {
                let sampling = model.processor().video_sampling().ok_or_else(|| takes_none("video"))?;
                let limits = video::Limits::default();
                media.videos.push(video::sample_bytes(&sample.key, blob.bytes.clone(), &sampling, &limits)?);
            }
            Kind::Audio => {
                let rate = model.processor().audio_rate().ok_or_else(|| takes_none("sound"))?;
                let limits = audio::Limits::default();
                media.audios.push(audio::decode_bytes(&sample.key, &blob.bytes, rate, &limits)?);
            }
        }
    }
    Ok(media)
}

/// 0 .. n in an order drawn from a stream of the seed (Fisher and Yates).
fn shuffled(n: usize, seed: u64, stream: u64) -> Vec<u32> {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let j = (random.next_u64() as u128 * (i as u128 + 1) >> 64) as usize;
        order.swap(i, j);
    }
    order
}
