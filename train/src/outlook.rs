//! What a run is about to do: how long it is in steps and epochs, and what it needs.

use std::sync::Arc;

use percept_model::CausalModel;

use crate::config::{Config, DataConfig};
use crate::error::{Error, Result};
use crate::feed::{Feed, StepRows};
use crate::watch::Corpus;

/// Draws that are looked at to find how many a step takes. A run that is shorter is counted exactly.
const LOOKED_AT: u64 = 512;

/// The steps of a run: as its file says, or as its epochs come to.
///
/// Where a step takes as many samples as fit, its number is found from the first draws of the run itself, so
/// that it is the same for every process and whenever the run goes on.
///
/// # Errors
/// When the data cannot be read, or the schedule is longer than the run.
pub fn steps(model: &Arc<dyn CausalModel>, config: &Config) -> Result<u64> {
    let steps = counted(model, config)?;
    config.check_steps(steps).map_err(Error::Setting)?;
    Ok(steps)
}

fn counted(model: &Arc<dyn CausalModel>, config: &Config) -> Result<u64> {
    let Some(epochs) = config.epochs else { return Ok(config.steps) };
    let mut feed = Feed::new(model.clone(), &config.data, config.seed, None)?;
    let draws = (epochs * round(&config.data, feed.sizes())).ceil().max(1.0);
    if draws > 1e15 {
        return Err(Error::Setting(format!("epochs is {epochs}, which comes to {draws:e} samples")));
    }
    let draws = draws as u64;
    if let Some(samples) = config.data.samples {
        return Ok(draws.div_ceil(samples.max(1) as u64));
    }
    let (mut steps, mut drawn) = (0, 0);
    while drawn < draws.min(LOOKED_AT) {
        drawn = feed.next_step()?.position.drawn;
        steps += 1;
    }
    Ok(if drawn >= draws { steps } else { (draws as f64 * steps as f64 / drawn as f64).ceil() as u64 })
}

/// Draws until every corpus has been gone through once.
fn round(data: &DataConfig, sizes: &[u64]) -> f64 {
    let weights: u64 = data.train.iter().map(|s| u64::from(s.weight)).sum();
    let alone = data.train.iter().zip(sizes).filter(|(s, _)| s.weight > 0);
    alone.map(|(s, &n)| n as f64 / f64::from(s.weight)).fold(0.0, f64::max) * weights as f64
}

/// How often each corpus is gone through in `draws`.
pub fn corpora(data: &DataConfig, sizes: &[u64], draws: f64) -> Vec<Corpus> {
    let weights: f64 = data.train.iter().map(|s| f64::from(s.weight)).sum();
    let corpus = |(source, &samples): (&crate::config::SourceConfig, &u64)| Corpus {
        name: source.title(),
        samples,
        epochs: draws * f64::from(source.weight) / weights.max(1.0) / samples.max(1) as f64,
    };
    data.train.iter().zip(sizes).map(corpus).collect()
}

/// Samples and tokens of a step.
pub fn extent(step: &StepRows) -> (usize, usize) {
    let samples = step.rows.iter().flatten();
    (samples.clone().count(), samples.map(|s| s.tokens()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(weights: &[u32]) -> DataConfig {
        let source = |w: &u32| format!("{{ path = 'corpus{w}', weight = {w} }}");
        let sources: Vec<String> = weights.iter().map(source).collect();
        toml::from_str(&format!("length = 8\nrows = 1\ntrain = [{}]", sources.join(", "))).unwrap()
    }

    #[test]
    fn an_epoch_is_over_when_every_corpus_was_gone_through() {
        assert_eq!(round(&data(&[1]), &[300]), 300.0);
        // Of four draws three are of the first: its 300 take 400 draws, the 50 of the second 200.
        assert_eq!(round(&data(&[3, 1]), &[300, 50]), 400.0);
        assert_eq!(round(&data(&[3, 1]), &[300, 200]), 800.0);
        let found = corpora(&data(&[3, 1]), &[300, 50], 800.0);
        assert_eq!(found.iter().map(|c| c.epochs).collect::<Vec<_>>(), [2.0, 4.0]);
        assert_eq!((&found[1].name[..], found[1].samples), ("corpus1", 50));
    }
}
