//! Rotary positions: which angle turns each pair of features, for one or several position axes, and the ways
//! of stretching a context (Su et al. 2021; Peng et al. 2023 for YaRN; Ding et al. 2024 for LongRoPE; the
//! llama 3.1 rule).
//!
//! Angles are computed on the host and given to graphs as cosines and sines: positions grow to where a GPU's
//! own sine is no longer exact, and a graph then serves every scheme.

use std::f64::consts::PI;

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Result;

/// The rotation of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians per position for each pair of features.
    frequencies: Vec<f64>,
    /// The axis whose position turns each pair.
    axes: Vec<usize>,
    /// Multiplies cosines and sines.
    factor: f64,
    growth: Option<Growth>,
    /// Tokens of a sequence for which the scaling is made; 0 without one.
    reach: usize,
}

/// The rotary parameters of a configuration, of whose values `get` gives those that are not null:
/// `rope_scaling` where it says something, whatever `rope_parameters` says beside it, as in transformers.
pub fn rope_parameters<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Option<&'a Value> {
    let says = |v: &&Value| v.as_object().is_none_or(|o| !o.is_empty());
    ["rope_scaling", "rope_parameters"].into_iter().filter_map(get).find(says)
}

/// Frequencies of a sequence that outgrows what the model was trained on.
#[derive(Debug, Clone, PartialEq)]
struct Growth {
    trained: usize,
    rule: GrowthRule,
}

#[derive(Debug, Clone, PartialEq)]
enum GrowthRule {
    /// They fall as the sequence grows.
    Dynamic { theta: f64, factor: f64 },
    /// They are others (LongRoPE).
    Long(Vec<f64>),
}

impl Rope {
    /// The plain scheme: pair i of `dim` features turns by theta^(-2i/dim) a position.
    pub fn new(dim: usize, theta: f64) -> Self {
        let frequencies = inverse_frequencies(dim, theta);
        Self { axes: vec![0; frequencies.len()], frequencies, factor: 1.0, growth: None, reach: 0 }
    }

    /// The scheme that a decoder's configuration asks for: `rope_scaling` or `rope_parameters`, with
    /// `rope_theta` where these have none.
    ///
    /// # Errors
    /// When the scaling is unknown or one of its values is missing.
    pub fn from_config(c: &Config, head_dim: usize, default_theta: f64) -> Result<Self> {
        let theta = c.maybe_f64("rope_theta")?.unwrap_or(default_theta);
        let none = json!({});
        Self::from_parameters(c, rope_parameters(|key| c.get(key)).unwrap_or(&none), head_dim, theta)
    }

    /// As [`Rope::from_config`], with the object of scaling parameters given.
    ///
    /// # Errors
    /// As there.
    pub fn from_parameters(c: &Config, scaling: &Value, head_dim: usize, theta: f64) -> Result<Self> {
        let s = Config::new("config.json: the rope parameters", scaling, json!({}))?;
        let theta = s.maybe_f64("rope_theta")?.unwrap_or(theta);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(s.error("rope_theta", "must be positive"));
        }
        // Frequencies are divided by these.
        for key in ["factor", "low_freq_factor", "high_freq_factor"] {
            if s.maybe_f64(key)?.is_some_and(|factor| !(factor.is_finite() && factor > 0.0)) {
                return Err(s.error(key, "must be positive"));
            }
        }
        // A context is stretched over a few thousand features at most.
        if head_dim > 1 << 16 {
            return Err(c.error("head_dim", &format!("is {head_dim}, more features than any head has")));
        }
        let mut rope = Self::new(head_dim, theta);
        if let Some(share) = s.maybe_f64("partial_rotary_factor")?.filter(|share| *share != 1.0) {
            return Err(s.error("partial_rotary_factor", &format!("is {share}; whole heads turn here")));
        }
        let kind = match s.any(&["rope_type", "type"]) {
            Some(v) => v.as_str().unwrap_or("?").to_string(),
            None => "default".into(),
        };
        let trained = || -> Result<usize> {
            let key = "original_max_position_embeddings";
            match c.maybe_usize(key)?.or(s.maybe_usize(key)?) {
                Some(0) => Err(s.error(key, "must not be 0")),
                Some(n) => Ok(n),
                None => c.positive("max_position_embeddings"),
            }
        };
        // Positions are 32 bits wide.
        let stretched =
            |tokens: usize, factor: f64| (tokens as f64 * factor).clamp(0.0, f64::from(i32::MAX)) as usize;
        match kind.as_str() {
            // Sections alone make it multimodal.
            "default" | "mrope" => {}
            "linear" => {
                let factor = s.f64("factor")?;
                rope.frequencies.iter_mut().for_each(|f| *f /= factor);
                rope.reach = stretched(c.usize("max_position_embeddings")?, factor);
            }
            "dynamic" => {
                let (trained, factor) = (c.positive("max_position_embeddings")?, s.f64("factor")?);
                rope.growth = Some(Growth { trained, rule: GrowthRule::Dynamic { theta, factor } });
                rope.reach = stretched(trained, factor);
            }
            "yarn" => {
                let factor = rope.yarn(&s, head_dim, theta, trained()?, c)?;
                rope.reach = stretched(trained()?, factor);
            }
            "longrope" => rope.long(&s, trained()?, c)?,
            "llama3" => rope.llama3(&s, trained()?)?,
            other => {
                let known = "default, linear, dynamic, yarn, longrope, llama3";
                return Err(s.error("rope_type", &format!("is '{other}'; known: {known}")));
            }
        }
        let sections = s.list("mrope_section")?;
        if sections.is_empty() {
            return Ok(rope);
        }
        if sections.iter().sum::<usize>() != rope.frequencies.len() {
            let why = format!("is {sections:?}, which does not add up to {} pairs", rope.frequencies.len());
            return Err(s.error("mrope_section", &why));
        }
        Ok(if s.flag("mrope_interleaved")? { rope.interleaved(&sections) } else { rope.chunked(&sections) })
    }

    /// Two axes share `dim` features: the first half of the pairs turns with axis 0, the second with axis 1,
    /// each by theta^(-4i/dim) a position (the vision towers of Qwen2-VL and its successors).
    pub fn axial(dim: usize, theta: f64) -> Self {
        let half = inverse_frequencies(dim / 2, theta);
        let axes = [vec![0; half.len()], vec![1; half.len()]].concat();
        Self { frequencies: [half.clone(), half].concat(), axes, factor: 1.0, growth: None, reach: 0 }
    }

    /// Two axes share `dim` features: of the pairs of [`Rope::new`], the even ones come first and turn with axis 0, then
    /// the odd ones, with axis 1 (Pixtral).
    pub fn alternating(dim: usize, theta: f64) -> Self {
        let all = inverse_frequencies(dim, theta);
        let some = |first: usize| all.iter().copied().skip(first).step_by(2);
        let axes = [vec![0; some(0).count()], vec![1; some(1).count()]].concat();
        Self { frequencies: some(0).chain(some(1)).collect(), axes, factor: 1.0, growth: None, reach: 0 }
    }

    /// The first `pairs` pairs of `dim` features turn, each by theta^(-2i/dim) / factor a position; the others do not
    /// (Gemma 4).
    pub fn proportional(dim: usize, theta: f64, pairs: usize, factor: f64) -> Self {
        let mut rope = Self::new(dim, theta);
        let turned = |(i, f): (usize, &f64)| if i < pairs { f / factor } else { 0.0 };
        rope.frequencies = rope.frequencies.iter().enumerate().map(turned).collect();
        rope
    }

    /// As [`Rope::axial`], for coordinates between -1 and 1 in place of positions, of which 1 is a full turn of
    /// the fastest pair (DINOv3).
    pub fn normalized(dim: usize, theta: f64) -> Self {
        let mut rope = Self::axial(dim, theta);
        rope.frequencies.iter_mut().for_each(|f| *f *= 2.0 * PI);
        rope
    }

    /// How many pairs turn with each axis.
    pub fn sections(&self) -> Vec<usize> {
        let axes = self.axes.iter().max().map_or(0, |last| last + 1);
        (0..axes).map(|axis| self.axes.iter().filter(|a| **a == axis).count()).collect()
    }

    /// Multimodal: the first `sections[0]` pairs turn with axis 0, the next with axis 1, and so on
    /// (Qwen2-VL).
    pub fn chunked(mut self, sections: &[usize]) -> Self {
        self.axes = sections.iter().enumerate().flat_map(|(axis, &n)| vec![axis; n]).collect();
        self
    }

    /// Multimodal: pairs take turns between the axes as long as an axis has pairs left, the rest turn with
    /// axis 0 (Qwen3-VL).
    pub fn interleaved(mut self, sections: &[usize]) -> Self {
        let n = sections.len();
        let axis = |i: usize| if !i.is_multiple_of(n) && i < sections[i % n] * n { i % n } else { 0 };
        self.axes = (0..self.frequencies.len()).map(axis).collect();
        self
    }

    /// Whether another rotation differs by no more than the rounding of its numbers to f32.
    pub fn is_near(&self, other: &Rope) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs());
        let all = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(*a, *b));
        let growth = match (&self.growth, &other.growth) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                let rules = match (&a.rule, &b.rule) {
                    (GrowthRule::Long(a), GrowthRule::Long(b)) => all(a, b),
                    (a, b) => a == b,
                };
                a.trained == b.trained && rules
            }
            _ => false,
        };
        growth
            && all(&self.frequencies, &other.frequencies)
            && near(self.factor, other.factor)
            && (&self.axes, self.reach) == (&other.axes, other.reach)
    }

    /// Pairs of features that turn.
    pub fn pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Position axes that it reads.
    pub fn axis_count(&self) -> usize {
        self.axes.iter().max().map_or(1, |a| a + 1)
    }

    /// Tokens of a sequence for which a scaling is made, which the configuration's own number may leave out.
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// Whether the angles depend on the length of the sequence.
    pub fn grows(&self) -> bool {
        self.growth.is_some()
    }

    /// Cosines and sines [t, pairs] of positions given per axis, in a sequence of `total` tokens.
    pub fn angles(&self, positions: &[&[i32]], total: usize) -> [Vec<f32>; 2] {
        let floats: Vec<Vec<f32>> =
            positions.iter().map(|axis| axis.iter().map(|&p| p as f32).collect()).collect();
        self.angles_at(&floats.iter().map(Vec::as_slice).collect::<Vec<_>>(), total)
    }

    /// As [`Rope::angles`], of positions that are no whole numbers.
    pub fn angles_at(&self, positions: &[&[f32]], total: usize) -> [Vec<f32>; 2] {
        let grown = self.growth.as_ref().and_then(|g| g.at(total, 2 * self.pairs()));
        // Hugging Face multiplies in f32, and at large positions its rounding is part of the model.
        let frequencies: Vec<f32> =
            grown.as_ref().unwrap_or(&self.frequencies).iter().map(|&f| f as f32).collect();
        let rows = positions.first().map_or(0, |p| p.len());
        let angle = |t: usize, i: usize| {
            let axis = positions.get(self.axes[i]).or(positions.first());
            axis.map_or(0.0, |p| p[t]) * frequencies[i]
        };
        let table = |f: fn(f64) -> f64| {
            (0..rows)
                .flat_map(|t| (0..frequencies.len()).map(move |i| (t, i)))
                .map(|(t, i)| (f(angle(t, i) as f64) * self.factor) as f32)
                .collect()
        };
        [table(f64::cos), table(f64::sin)]
    }

    /// NTK by parts: fast pairs keep their pace, slow ones slow down by the factor, with a ramp between.
    /// Gives the factor.
    fn yarn(&mut self, s: &Config, dim: usize, theta: f64, trained: usize, c: &Config) -> Result<f64> {
        let factor = match s.maybe_f64("factor")? {
            Some(f) => f,
            None => c.f64("max_position_embeddings")? / trained as f64,
        };
        let magnitude = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let some = |v: Option<f64>| v.filter(|v| *v != 0.0);
        self.factor = match (
            s.maybe_f64("attention_factor")?,
            some(s.maybe_f64("mscale")?),
            some(s.maybe_f64("mscale_all_dim")?),
        ) {
            (Some(f), _, _) => f,
            (None, Some(m), Some(all)) => magnitude(m) / magnitude(all),
            _ => magnitude(1.0),
        };
        let turning =
            |turns: f64| dim as f64 * (trained as f64 / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let mut low = turning(some(s.maybe_f64("beta_fast")?).unwrap_or(32.0));
        let mut high = turning(some(s.maybe_f64("beta_slow")?).unwrap_or(1.0));
        if s.get("truncate").and_then(Value::as_bool).unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        for (i, f) in self.frequencies.iter_mut().enumerate() {
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            *f = *f / factor * ramp + *f * (1.0 - ramp);
        }
        Ok(factor)
    }

    /// Every pair slows down by a factor of its own, by another one in sequences longer than `trained`.
    fn long(&mut self, s: &Config, trained: usize, c: &Config) -> Result<()> {
        let slowed = |key: &str| -> Result<Vec<f64>> {
            let factors = s.numbers(key)?;
            if factors.len() != self.frequencies.len() {
                let why = format!("has {} factors for {} pairs", factors.len(), self.frequencies.len());
                return Err(s.error(key, &why));
            }
            if factors.iter().any(|by| !(by.is_finite() && *by > 0.0)) {
                return Err(s.error(key, "must hold positive numbers"));
            }
            Ok(self.frequencies.iter().zip(&factors).map(|(f, by)| f / by).collect())
        };
        let (short, long) = (slowed("short_factor")?, slowed("long_factor")?);
        let factor = match s.maybe_f64("factor")? {
            Some(f) => f,
            None => c.f64("max_position_embeddings")? / trained as f64,
        };
        self.factor = match s.maybe_f64("attention_factor")? {
            Some(f) => f,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (trained as f64).ln()).sqrt(),
        };
        self.frequencies = short;
        self.growth = Some(Growth { trained, rule: GrowthRule::Long(long) });
        Ok(())
    }

    /// Long waves slow down by the factor, short ones keep their pace, those between are blended.
    fn llama3(&mut self, s: &Config, trained: usize) -> Result<()> {
        let (factor, low, high) = (s.f64("factor")?, s.f64("low_freq_factor")?, s.f64("high_freq_factor")?);
        let trained = trained as f64;
        for f in &mut self.frequencies {
            let wave = 2.0 * PI / *f;
            *f = if wave < trained / high {
                *f
            } else if wave > trained / low {
                *f / factor
            } else {
                let smooth = (trained / wave - low) / (high - low);
                (1.0 - smooth) * *f / factor + smooth * *f
            };
        }
        Ok(())
    }
}

impl Growth {
    /// The frequencies in a sequence of `total` tokens; `None` while it is not longer than those trained on.
    fn at(&self, total: usize, dim: usize) -> Option<Vec<f64>> {
        if total <= self.trained {
            return None;
        }
        Some(match &self.rule {
            GrowthRule::Dynamic { theta, factor } => {
                let stretch = factor * total as f64 / self.trained as f64 - (factor - 1.0);
                inverse_frequencies(dim, theta * stretch.powf(dim as f64 / (dim as f64 - 2.0)))
            }
            GrowthRule::Long(frequencies) => frequencies.clone(),
        })
    }
}

fn inverse_frequencies(dim: usize, theta: f64) -> Vec<f64> {
    (0..dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim as f64)).collect()
}
