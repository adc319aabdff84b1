//! How tokens are chosen: what a request says of it, over what the checkpoint recommends.

use std::hash::{BuildHasher as _, RandomState};

use percept_infer::{GenerateOptions, Recommended, Sampling};
use serde_json::Value;

use crate::failure::Failure;
use crate::fields::Fields;
use crate::models::Language;
use crate::options::Limits;

/// Stop texts of a request, and the bytes of each, at most.
const STOPS: usize = 16;
const STOP_BYTES: usize = 1024;

/// How the answers to a request are made.
pub(crate) struct Choice {
    /// The options of each answer; the answers differ in the stream of their draws alone.
    pub options: GenerateOptions,
    /// How many answers.
    pub n: usize,
}

impl Choice {
    /// The options of the answer of this number.
    pub fn of(&self, number: usize) -> GenerateOptions {
        let mut options = self.options.clone();
        options.sampling.stream = number as u64;
        options
    }
}

/// Takes the fields of sampling that all endpoints of OpenAI's share; `lengths` are the names of the largest number of
/// new tokens, the first of which is the newest.
pub(crate) fn choice(
    fields: &mut Fields,
    language: &Language,
    limits: &Limits,
    lengths: &[&str],
) -> Result<Choice, Failure> {
    let recommended = &language.recommended;
    let sampling = sampling(fields, recommended)?;
    let mut max_tokens = None;
    for name in lengths {
        let given = fields.count(name, 1, u32::MAX.into())?.map(|n| n as usize);
        if let (Some(one), Some(other)) = (max_tokens, given)
            && one != other
        {
            let why = format!("`{}` and `{name}` differ; give one of them", lengths[0]);
            return Err(Failure::field(*name, why));
        }
        if let (Some(asked), Some(most)) = (given, limits.tokens)
            && asked > most
        {
            let name = fields.name(name);
            let why = format!(
                "`{name}`: {asked} new tokens are asked for, and the server generates {most} at most"
            );
            return Err(Failure::field(name, why));
        }
        max_tokens = max_tokens.or(given);
    }
    let mut stop = stops(fields)?;
    stop.extend(recommended.stop.iter().cloned());
    let options = GenerateOptions {
        max_tokens: max_tokens.or(recommended.max_new_tokens).or(limits.tokens),
        max_length: recommended.max_length,
        sampling,
        stop,
        logit_bias: logit_bias(fields)?,
        ignore_ends: fields.flag("ignore_eos")?.unwrap_or(false),
        ..GenerateOptions::default()
    };
    let n = fields.count("n", 1, limits.choices as u64)?.unwrap_or(1) as usize;
    Ok(Choice { options, n })
}

/// As [`choice`], in a protocol that gives one answer.
pub(crate) fn only_choice(
    fields: &mut Fields,
    language: &Language,
    limits: &Limits,
    length: &str,
) -> Result<Choice, Failure> {
    let choice = choice(fields, language, limits, &[length])?;
    if choice.n != 1 {
        let name = fields.name("n");
        return Err(Failure::unsupported(&name, format!("`{name}`: this protocol gives one answer")));
    }
    Ok(choice)
}

/// The sampling of a request over the checkpoint's recommendations; tokens are drawn only where one of the two says so.
fn sampling(fields: &mut Fields, recommended: &Recommended) -> Result<Sampling, Failure> {
    let number = |fields: &mut Fields, name: &str, least: f64, most: f64| -> Result<Option<f32>, Failure> {
        Ok(fields.number(name, least, most)?.map(|x| x as f32))
    };
    let temperature = number(fields, "temperature", 0.0, 2.0)?;
    let draws = temperature.map_or(recommended.draws, |t| t > 0.0);
    let base = if draws { recommended.drawn() } else { recommended.sampling() };
    let top_p = fields.read("top_p", "a number above 0 and at most 1", |value| {
        value.as_f64().filter(|p| *p > 0.0 && *p <= 1.0)
    })?;
    // -1 is what some clients write for off.
    let top_k = fields.read("top_k", "a whole number, 0 or -1 for off", |value| match value.as_i64()? {
        -1 => Some(0),
        k => usize::try_from(k).ok(),
    })?;
    let repetition = fields.read("repetition_penalty", "a number above 0", |value| {
        value.as_f64().filter(|p| *p > 0.0 && *p <= 1e3)
    })?;
    let seed = fields.read("seed", "a whole number", |value| {
        value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned))
    })?;
    Ok(Sampling {
        temperature: temperature.unwrap_or(if draws { base.temperature } else { 0.0 }),
        top_k: top_k.unwrap_or(base.top_k),
        top_p: top_p.map_or(base.top_p, |p| p as f32),
        min_p: number(fields, "min_p", 0.0, 1.0)?.unwrap_or(base.min_p),
        repetition_penalty: repetition.map_or(base.repetition_penalty, |p| p as f32),
        frequency_penalty: number(fields, "frequency_penalty", -2.0, 2.0)?.unwrap_or(base.frequency_penalty),
        presence_penalty: number(fields, "presence_penalty", -2.0, 2.0)?.unwrap_or(base.presence_penalty),
        // Who wants the same draws again says so.
        seed: seed.unwrap_or_else(random_seed),
        ..base
    })
}

fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// `stop`: a text or a list of them.
fn stops(fields: &mut Fields) -> Result<Vec<String>, Failure> {
    let what = format!(
        "a text or a list of at most {STOPS} texts, none of them empty or longer than {STOP_BYTES} bytes"
    );
    let stop = fields.read("stop", &what, |value| {
        let all: Vec<String> = match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(list) if list.len() <= STOPS => {
                list.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        all.iter().all(|text| (1..=STOP_BYTES).contains(&text.len())).then_some(all)
    })?;
    Ok(stop.unwrap_or_default())
}

/// `logit_bias`: numbers from -100 to 100 by the ids of tokens.
fn logit_bias(fields: &mut Fields) -> Result<Vec<(i32, f32)>, Failure> {
    let what = "an object of numbers from -100 to 100 by token ids";
    let bias = fields.read("logit_bias", what, |value| {
        let one = |(id, bias): (&String, &Value)| {
            let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
            Some((id.parse::<i32>().ok().filter(|id| *id >= 0)?, bias as f32))
        };
        value.as_object()?.iter().map(one).collect::<Option<Vec<_>>>()
    })?;
    Ok(bias.unwrap_or_default())
}
