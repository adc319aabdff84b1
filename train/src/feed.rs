//! The stream of packed steps.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use percept_data::augment::augment;
use percept_data::loader::{
    Dataset, DatasetConfig, Draw, Drawn, Loader, LoaderConfig, PackedBatches, Packing,
};
use percept_data::loader::{Position, Prefetch, Stream};
use percept_data::splits::is_held_out;
use percept_data::{Kind, Sample};
use percept_modalities::Media;
use percept_model::CausalModel;

use crate::config::{DataConfig, SourceConfig};
use crate::encode::Encoded;
use crate::error::{Error, Result};

/// Samples of a corpus that are looked at for images.
const LOOKED_AT: usize = 64;

/// Packed samples, row after row.
pub type Rows = Vec<Vec<Arc<Encoded>>>;

/// The tokens of a sample, for packing.
type Length = fn(&Arc<Encoded>) -> usize;

/// Steps of packed rows, drawn from a mixture of corpora and prepared ahead.
pub struct Feed {
    source: Source,
    settings: DataConfig,
    refused: u64,
    /// Samples of each corpus.
    sizes: Vec<u64>,
}

enum Source {
    /// As many samples as fit.
    Filled(PackedBatches<Arc<Encoded>, Length>),
    /// So many samples in every step.
    Counted(Stream<Arc<Encoded>>, usize),
}

/// The samples of one step.
pub struct StepRows {
    /// The rows of all processes.
    pub rows: Rows,
    /// Where a run that has used them goes on.
    pub position: Position,
    /// How many samples were left out so far, and why the last of this step's was.
    pub refused: Option<(u64, String)>,
}

impl Feed {
    /// A feed over the run's corpora, from `position` or the start on.
    ///
    /// # Errors
    /// When a corpus cannot be opened, or the position is of other data.
    pub fn new(
        model: Arc<dyn CausalModel>,
        settings: &DataConfig,
        seed: u64,
        position: Option<Position>,
    ) -> Result<Self> {
        if settings.train.is_empty() {
            return Err(Error::Setting("data.train names no corpus".into()));
        }
        let datasets = settings.train.iter().map(SourceConfig::dataset).collect();
        let config = LoaderConfig { datasets, seed };
        let loader = Arc::new(Loader::open(&config)?);
        let sizes = loader.datasets().iter().map(|d| d.len() as u64).collect();
        let start = position.unwrap_or_else(|| loader.start());
        let (sources, length) = (settings.train.clone(), settings.length);
        let prepare = move |draw: &Draw, sample: Sample| -> Result<Arc<Encoded>> {
            let mut media = sample.decode(model.processor())?;
            if let Some(how) = &sources[draw.dataset].augment {
                for (i, image) in media.images.iter_mut().enumerate() {
                    *image = augment(image, how, &mut draw.chance(i as u32));
                }
            }
            Ok(Arc::new(usable(encode(&*model, &sample, &media)?, length, model.decoder().context)?))
        };
        let stream = loader.stream(start, Prefetch::default(), prepare)?;
        let source = match settings.samples {
            Some(n) => Source::Counted(stream, n),
            None => {
                Source::Filled(PackedBatches::new(stream, settings.rows, settings.length, |s| s.tokens()))
            }
        };
        Ok(Self { source, settings: settings.clone(), refused: 0, sizes })
    }

    /// The samples of each corpus, in the order of the settings.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// The samples of the next step.
    ///
    /// # Errors
    /// When too many samples in a row cannot be used, or those of a step do not fit its rows.
    pub fn next_step(&mut self) -> Result<StepRows> {
        let (mut rows, position): (Vec<Vec<Drawn<Arc<Encoded>>>>, Position) = match &mut self.source {
            Source::Filled(batches) => {
                let packed = batches.next_batch()?;
                (packed.rows, packed.position)
            }
            Source::Counted(stream, n) => {
                let mut drawn = stream.next_batch(*n)?;
                // Long ones first: rows fill better. The order inside a step changes nothing else.
                drawn.sort_by_key(|d| std::cmp::Reverse(d.value.tokens()));
                let mut packing = Packing::new(self.settings.rows, self.settings.length);
                let mut rows: Vec<Vec<_>> = (0..self.settings.rows).map(|_| Vec::new()).collect();
                for sample in drawn {
                    let row = packing.place(sample.value.tokens()).ok_or_else(|| {
                        Error::Setting(format!(
                            "{n} samples do not fit {} rows of {} tokens; give data.rows or data.length more, or \
                             data.samples less",
                            self.settings.rows, self.settings.length
                        ))
                    })?;
                    rows[row].push(sample);
                }
                (rows, Stream::position(stream))
            }
        };
        let mut why = None;
        for refused in rows.iter_mut().flatten().flat_map(|d| d.refused.drain(..)) {
            self.refused += 1;
            why = Some(refused.why);
        }
        let rows = rows.into_iter().map(|r| r.into_iter().map(|d| d.value).collect()).collect();
        Ok(StepRows { rows, position, refused: why.map(|w| (self.refused, w)) })
    }
}

impl SourceConfig {
    /// As the loader takes it.
    pub(crate) fn dataset(&self) -> DatasetConfig {
        DatasetConfig { path: self.path.clone(), split: self.split.clone(), weight: self.weight }
    }

    /// What it is called in reports.
    pub fn title(&self) -> String {
        let last = |path: &Path| path.file_stem().map(|n| n.to_string_lossy().into_owned());
        let path = || match (last(&self.path)?, self.path.parent().and_then(last)) {
            // The name of a split alone says little.
            (split, Some(corpus)) if is_held_out(&split) || split == "train" => {
                Some(format!("{corpus}/{split}"))
            }
            (name, _) => Some(name),
        };
        self.name.clone().or_else(path).unwrap_or_default()
    }
}

/// Held-out samples of a corpus, ready to be measured on.
pub struct HeldOutRows {
    /// The samples, packed into steps.
    pub steps: Vec<Rows>,
    /// The same samples in the order of the corpus, before they were packed.
    pub samples: Vec<Sample>,
    /// What is said of those that cannot be measured on: how many there are, and why the last one cannot.
    pub left_out: Option<String>,
}

/// Held-out samples of a corpus, packed: `limit` of them at most, spread over the whole corpus.
///
/// # Errors
/// When the corpus cannot be read, or none of its samples can be used.
pub fn held_out(
    model: &dyn CausalModel,
    source: &SourceConfig,
    settings: &DataConfig,
    limit: usize,
) -> Result<HeldOutRows> {
    let corpus = Dataset::open(&source.dataset())?;
    let n = corpus.len().min(limit);
    let mut queue = VecDeque::new();
    let mut samples = Vec::new();
    let mut why = String::from("there are none");
    let mut left_out = 0;
    for i in 0..n {
        let read = |at: usize| -> Result<(Encoded, Sample)> {
            let sample = corpus.read(at)?;
            let encoded = encode(model, &sample, &sample.decode(model.processor())?)?;
            Ok((usable(encoded, settings.length, model.decoder().context)?, sample))
        };
        match read(i * corpus.len() / n) {
            Ok((encoded, sample)) => {
                queue.push_back(Arc::new(encoded));
                samples.push(sample);
            }
            Err(e) => {
                left_out += 1;
                why = e.to_string();
            }
        }
    }
    if samples.is_empty() {
        return Err(Error::Setting(format!(
            "{}: no sample can be measured on, the last because {why}",
            corpus.path().display()
        )));
    }
    let mut steps = Vec::new();
    while !queue.is_empty() {
        // Samples stay in order: a row is left for good when the next sample does not fit it.
        let mut rows: Rows = vec![Vec::new(); settings.rows];
        let (mut row, mut free) = (0, settings.length);
        while let Some(sample) = queue.pop_front() {
            if sample.tokens() > free {
                (row, free) = (row + 1, settings.length);
            }
            if row == settings.rows {
                queue.push_front(sample);
                break;
            }
            free -= sample.tokens();
            rows[row].push(sample);
        }
        steps.push(rows);
    }
    let left_out = (left_out > 0).then(|| {
        format!("{}: {left_out} of {n} samples are not measured on, the last because {why}", source.title())
    });
    Ok(HeldOutRows { steps, samples, left_out })
}

/// A sample that has something to learn and fits a row and the model.
fn usable(sample: Encoded, length: usize, context: usize) -> Result<Encoded> {
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
    if sample.tokens() > context {
        let why = format!(
            "'{}' has {} tokens, and the model's context holds {context} (config.json), whatever data.length is; cut it \
             into shorter ones",
            sample.key,
            sample.tokens()
        );
        return Err(Error::Setting(why));
    }
    Ok(sample)
}

/// What is said of settings of `data` that the model or the corpora do not take as they are: rows beyond the model's context,
/// and changes to images of a corpus that seems to have none.
///
/// # Errors
/// When a corpus cannot be read.
pub fn doubts(model: &dyn CausalModel, settings: &DataConfig) -> Result<Vec<String>> {
    let (mut said, context) = (Vec::new(), model.decoder().context);
    if settings.length > context {
        said.push(format!(
            "data.length is {}, and the model's context holds {context} tokens (config.json): a row holds several samples, and \
             a sample beyond the context is left out",
            settings.length
        ));
    }
    for source in settings.train.iter().filter(|s| s.augment.is_some()) {
        let corpus = Dataset::open(&source.dataset())?;
        let looked_at = corpus.len().min(LOOKED_AT);
        let has_image = |i: usize| {
            let sample = corpus.read(i * corpus.len() / looked_at);
            sample.is_ok_and(|s| s.media.iter().any(|m| m.kind == Kind::Image))
        };
        if !(0..looked_at).any(has_image) {
            said.push(format!(
                "data.train: {} has augment, which changes images, and none of {looked_at} of its {} samples has one",
                source.title(),
                corpus.len()
            ));
        }
    }
    Ok(said)
}

/// A sample as the model learns it. A text without media or turns is a document; one with media is their
/// caption.
///
/// # Errors
/// When a medium cannot be decoded, or the model's processor refuses the sample.
pub fn encode(model: &dyn CausalModel, sample: &Sample, media: &Media) -> Result<Encoded> {
    match (&sample.text, sample.messages.is_empty(), sample.media.is_empty()) {
        (Some(text), true, true) => Encoded::document(model, &sample.key, text),
        _ => Encoded::conversation(model, &sample.key, &sample.turns(), media),
    }
}
