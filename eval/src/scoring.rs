//! Scores: what each answer contributes, and what it comes to.
//!
//! An answer contributes a few numbers. They are added up over all answers, those of a category, or drawn ones, and the scores are
//! made of the sums: so every score has categories and an interval, those that are no means too.

mod embedded;
mod parts;
mod sets;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metric::classes::{Confusion, quotient};
use crate::metric::interval::{Bootstrap, Estimate, groups};
use crate::metric::{
    Compat, anls, boxes, caption, choice, exact, number, open_answer, relaxed, substring, vqa, words, yes_no,
};
use crate::task::{Question, Score, Task};
pub use embedded::written;
use parts::{
    captions, chosen, confusion, flag, in_box, known_classes, of_class, of_classes, share, yes_or_no,
};

/// How answers are scored.
#[derive(Debug, Clone)]
pub enum Metric {
    /// Multiple choice; without options the text, in lower case and without a stop.
    Choice(choice::Rules),
    /// MMMU's: multiple choice, or an open question where there are no options.
    Mmmu,
    /// Exact match.
    Exact(exact::Ignore),
    /// Yes or no.
    YesNo(yes_no::Place),
    /// The last number of the answer.
    Number,
    /// Which class of many an image is likest, by embeddings.
    ZeroShot,
    /// Images found by their texts and texts by their images, by embeddings.
    Retrieval,
    /// How alike two texts are, by embeddings.
    Similarity,
    /// VQA accuracy.
    Vqa(vqa::Normalization),
    /// Average normalized Levenshtein similarity.
    Anls,
    /// Relaxed accuracy.
    Relaxed,
    /// Whether the answer holds the right text; the column and value of what is compared without spaces, and the size of the benchmark.
    Substring(Option<[String; 2]>, Option<f64>),
    /// A box.
    Box,
    /// Captions with several references.
    Caption,
    /// Word and character errors.
    Words(words::Normalizer),
    /// One of several classes.
    Classes(Vec<String>),
}

/// The names of all metrics, as `[score] metric` has them.
pub const METRICS: [&str; 17] = [
    "choice",
    "mmmu",
    "exact",
    "yes-no",
    "vqa",
    "vqa-v2",
    "anls",
    "relaxed",
    "substring",
    "box",
    "caption",
    "words",
    "classes",
    "number",
    "zero-shot",
    "retrieval",
    "similarity",
];

/// Shares of the overlap from which on a box is right.
const OVERLAPS: [(&str, f64); 5] =
    [("acc@0.1", 0.1), ("acc@0.3", 0.3), ("acc@0.5", 0.5), ("acc@0.7", 0.7), ("acc@0.9", 0.9)];

/// What became of a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What the model said; empty where it could not be asked.
    pub said: String,
    /// The option that it held most likely, where options were compared.
    pub chosen: Option<usize>,
    /// How likely it held that one among them.
    pub confidence: Option<f64>,
    /// Why the question could not be asked.
    pub failed: Option<String>,
    /// The place, from 0, of the right one among all that embeddings were compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// How alike two embeddings are: their cosine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f64>,
    /// Embeddings that are compared when all are there: f32 in little-endian order, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<String>,
}

/// An answer, scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The score by which answers are compared and shown: of 0..=1, or an error count's share.
    pub value: f64,
    /// What was read from the answer.
    pub read: Option<String>,
    /// Whether nothing could be read.
    pub unparsed: bool,
    /// What it contributes: places among the sums, and numbers.
    parts: Vec<(usize, f64)>,
}

/// The scores of some answers.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    /// By the metric's names.
    pub metrics: BTreeMap<String, Estimate>,
    /// Questions.
    pub n: usize,
    /// Answers that nothing could be read from.
    pub unparsed: usize,
    /// Questions that could not be asked, and count as wrong.
    pub failed: usize,
    /// By column, value and name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub categories: BTreeMap<String, BTreeMap<String, Category>>,
    /// What was taken for what, where there are classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// What is known of each class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<crate::metric::classes::ClassScores>,
}

/// The scores of a category.
#[derive(Debug, Clone, Serialize)]
pub struct Category {
    /// By the metric's names.
    pub metrics: BTreeMap<String, f64>,
    /// Questions.
    pub n: usize,
}

impl Metric {
    /// The metric that a task names, with its settings.
    ///
    /// # Errors
    /// A name that no metric has, with the nearest; a setting that the metric does not read.
    pub fn new(score: &Score) -> Result<Self, String> {
        if !METRICS.contains(&score.metric.as_str()) {
            return Err(percept_data::keys::unknown("the evaluation", "metric", &score.metric, &METRICS));
        }
        let unread = [
            ("rules", score.rules.is_some(), &["choice"][..]),
            ("ignore", !score.ignore.is_empty(), &["exact"]),
            ("normalizer", score.normalizer.is_some(), &["words"]),
            ("squeezed", score.squeezed.is_some(), &["substring"]),
            ("whole", score.whole.is_some(), &["substring"]),
            ("pixels", score.pixels, &["box"]),
            ("classes", !score.classes.is_empty(), &["classes"]),
            ("letters", score.letters.is_some(), &["choice"]),
            ("yes", score.yes.is_some(), &["yes-no"]),
            ("sets", !score.sets.is_empty(), sets::METRICS),
        ];
        if let Some((key, ..)) =
            unread.iter().find(|(_, given, by)| *given && !by.contains(&score.metric.as_str()))
        {
            return Err(format!("'{key}' is not read by the metric '{}'; leave it out", score.metric));
        }
        let mut ignore = exact::Ignore::default();
        for word in &score.ignore {
            match word.as_str() {
                "case" => ignore.case = true,
                "punctuation" => ignore.punctuation = true,
                other => {
                    return Err(percept_data::keys::unknown(
                        "ignore",
                        "word",
                        other,
                        &["case", "punctuation"],
                    ));
                }
            }
        }
        Ok(match score.metric.as_str() {
            "choice" => Metric::Choice(score.rules.unwrap_or(choice::Rules::Ranked)),
            "mmmu" => Metric::Mmmu,
            "exact" => Metric::Exact(ignore),
            "yes-no" => Metric::YesNo(score.yes.unwrap_or_default()),
            "number" => Metric::Number,
            "zero-shot" => Metric::ZeroShot,
            "retrieval" => Metric::Retrieval,
            "similarity" => Metric::Similarity,
            "vqa" => Metric::Vqa(vqa::Normalization::EvalAi),
            "vqa-v2" => Metric::Vqa(vqa::Normalization::V2),
            "anls" => Metric::Anls,
            "relaxed" => Metric::Relaxed,
            "substring" => Metric::Substring(score.squeezed.clone(), score.whole),
            "box" => Metric::Box,
            "caption" => Metric::Caption,
            "words" => Metric::Words(score.normalizer.unwrap_or(words::Normalizer::Plain)),
            "classes" => Metric::Classes(score.classes.clone()),
            other => return Err(percept_data::keys::unknown("the evaluation", "metric", other, &METRICS)),
        })
    }

    /// The names of its scores, the first of which is the one that is shown first.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Metric::Choice(_) | Metric::Mmmu | Metric::Vqa(_) | Metric::Substring(..) => vec!["accuracy"],
            Metric::Exact(_) => vec!["exact_match"],
            Metric::YesNo(_) => vec!["accuracy", "precision", "recall", "f1", "yes_ratio"],
            Metric::Number => vec!["exact_match", "strict_match"],
            Metric::ZeroShot => vec!["top_1", "top_5", "mean_per_class_recall"],
            Metric::Retrieval => embedded::RECALLS.map(|(name, ..)| name).to_vec(),
            Metric::Similarity => vec!["cosine_spearman", "cosine_pearson"],
            Metric::Anls => vec!["anls"],
            Metric::Relaxed => vec!["relaxed_accuracy"],
            Metric::Box => {
                ["iou"].into_iter().chain(OVERLAPS.map(|(name, _)| name)).chain(["center_accuracy"]).collect()
            }
            Metric::Caption => vec!["cider", "bleu_4", "rouge_l"],
            Metric::Words(_) => vec!["wer", "cer"],
            Metric::Classes(_) => vec!["accuracy", "balanced_accuracy", "macro_f1"],
        }
    }

    /// The names of the scores that stand first, by which single answers are scored.
    pub const FIRST: [&'static str; 10] = [
        "accuracy",
        "exact_match",
        "anls",
        "relaxed_accuracy",
        "iou",
        "cider",
        "wer",
        "top_1",
        embedded::RECALLS[0].0,
        "cosine_spearman",
    ];

    /// Whether embeddings are compared, rather than answers read.
    pub fn is_embedded(&self) -> bool {
        matches!(self, Metric::ZeroShot | Metric::Retrieval | Metric::Similarity)
    }

    /// Whether images are embedded.
    pub fn embeds_images(&self) -> bool {
        matches!(self, Metric::ZeroShot | Metric::Retrieval)
    }

    /// Whether a larger value is better, of the score of this name.
    pub fn higher_is_better(name: &str) -> bool {
        !matches!(name, "wer" | "cer" | "ece")
    }

    /// What the answers to questions contribute.
    pub fn score(&self, task: &Task, asked: &[(Question, Answer)]) -> Vec<Scored> {
        match self {
            Metric::Caption => captions(asked),
            Metric::Retrieval => embedded::retrieval(asked),
            Metric::Classes(classes) => {
                let known = known_classes(classes, asked);
                asked.iter().map(|(question, answer)| of_class(&known, question, answer)).collect()
            }
            _ => asked.iter().map(|(question, answer)| self.one(task, question, answer)).collect(),
        }
    }

    fn one(&self, task: &Task, question: &Question, answer: &Answer) -> Scored {
        let (compat, said) = (task.compat, answer.said.as_str());
        let (right, texts) = (&question.right, &question.right.texts[..]);
        let first = texts.first().map_or("", String::as_str);
        match self {
            Metric::Choice(rules) => match right.option {
                Some(option) => {
                    let count = if question.options.is_empty() {
                        task.score.letters.unwrap_or(0)
                    } else {
                        question.options.len()
                    };
                    let listed = (0..count).map(|at| question.options.get(at).cloned().unwrap_or_default());
                    let options: Vec<String> = listed.collect();
                    let found = answer.chosen.or_else(|| choice::choose(*rules, said, &options, compat));
                    let mut scored = chosen(found, option);
                    if compat == Compat::LmmsEval && *rules == choice::Rules::Mvbench && said.is_empty() {
                        // MVBench in lmms-eval leaves answers that are empty out of the count.
                        scored.parts = Vec::new();
                    }
                    scored
                }
                None => {
                    let plain = |text: &str| text.to_lowercase().trim().trim_end_matches('.').to_owned();
                    flag(plain(said) == first.trim().to_lowercase(), said)
                }
            },
            Metric::Mmmu => match (right.option, question.options.is_empty()) {
                (Some(option), _) => {
                    let found = answer
                        .chosen
                        .or_else(|| choice::choose(choice::Rules::Mmmu, said, &question.options, compat));
                    let mut scored = chosen(found, option);
                    if compat == Compat::LmmsEval && found.is_none() {
                        // lmms-eval picks one at random; this is what it gets by that on average.
                        scored.value = 1.0 / question.options.len() as f64;
                        scored.parts = vec![(0, 1.0), (1, scored.value)];
                    }
                    scored
                }
                (None, _) => flag(open_answer::is_right(said, first, compat), said),
            },
            Metric::Exact(ignore) => {
                let ignore = exact::Ignore { ends: compat == Compat::None, ..*ignore };
                flag(exact::is_right(said, texts, ignore), said)
            }
            Metric::YesNo(place) => {
                yes_or_no(yes_no::parse(said, *place, compat), yes_no::right(first), compat)
            }
            Metric::Number => {
                let [free, strict] = number::are_right(said, first, compat);
                let read = number::read(said);
                let value = f64::from(u8::from(free));
                let parts = vec![(0, 1.0), (1, value), (2, f64::from(u8::from(strict)))];
                Scored { value, unparsed: read.is_none(), read, parts }
            }
            Metric::ZeroShot => embedded::zero_shot(answer, right.option.unwrap_or(0)),
            Metric::Similarity => embedded::similarity(answer, first),
            Metric::Vqa(normalization) => {
                share(vqa::accuracy(*normalization, said, texts), normalization.apply(said))
            }
            Metric::Anls => share(anls::anls(said, texts, compat), said.to_owned()),
            Metric::Relaxed => flag(relaxed::is_right(said, first, compat), said),
            Metric::Substring(squeezed, _) => {
                let is_squeezed = squeezed.as_ref().is_some_and(|[column, value]| {
                    question.row.get(column).is_some_and(|found| found.as_str() == Some(value))
                });
                flag(substring::holds(said, texts, is_squeezed), said)
            }
            Metric::Box => in_box(boxes::parse(said), right.corners.unwrap_or_default()),
            Metric::Words(normalizer) => {
                let (right, heard) = (normalizer.apply(first), normalizer.apply(said));
                let words = words::word_errors(&right, &heard);
                let letters = match normalizer {
                    // Letters are words already, and spaces between them are none.
                    words::Normalizer::Letters => words,
                    _ => words::character_errors(&right, &heard),
                };
                let value = quotient(words.0 as f64, words.1 as f64);
                let numbers = [words.0, words.1, letters.0, letters.1].map(|count| count as f64);
                Scored {
                    value,
                    read: Some(heard),
                    unparsed: false,
                    parts: numbers.into_iter().enumerate().collect(),
                }
            }
            // These are scored over all answers.
            Metric::Caption | Metric::Classes(_) | Metric::Retrieval => share(0.0, said.to_owned()),
        }
    }

    /// Places that sums have.
    fn width(&self, classes: usize) -> usize {
        match self {
            Metric::YesNo(_) => 6,
            Metric::Number => 3,
            Metric::ZeroShot => 3 + 2 * classes,
            Metric::Retrieval => 2 * embedded::RECALLS.len(),
            Metric::Box => 8,
            Metric::Caption => 13,
            Metric::Words(_) => 4,
            Metric::Classes(_) => classes * (classes + 1),
            _ => 2,
        }
    }

    /// Its scores, of sums. Without any question they are no numbers.
    fn finish(&self, sums: &[f64], compat: Compat) -> Vec<f64> {
        let mean = |at: usize| sums[at] / sums[0];
        match self {
            Metric::YesNo(_) => {
                let [n, right, found, false_yes, missed, yes] = [0, 1, 2, 3, 4, 5].map(|at| sums[at]);
                let (precision, recall) =
                    (quotient(found, found + false_yes), quotient(found, found + missed));
                vec![
                    right / n,
                    precision,
                    recall,
                    quotient(2.0 * precision * recall, precision + recall),
                    yes / n,
                ]
            }
            Metric::Number => vec![mean(1), mean(2)],
            Metric::ZeroShot => vec![mean(1), mean(2), embedded::mean_recall(&sums[3..])],
            Metric::Retrieval => sums.chunks(2).map(|sums| sums[1] / sums[0]).collect(),
            Metric::Box => (1..8).map(mean).collect(),
            Metric::Caption => vec![sums[1] / sums[0], caption::bleu(&sums[3..])[3], sums[2] / sums[0]],
            Metric::Words(_) => vec![sums[0] / sums[1], sums[2] / sums[3]],
            Metric::Classes(_) => of_classes(sums),
            Metric::Substring(_, Some(whole)) if compat == Compat::LmmsEval => vec![sums[1] / whole],
            _ => vec![mean(1)],
        }
    }

    /// The scores of all answers, those of their categories, and intervals.
    pub fn all(
        &self,
        task: &Task,
        asked: &[(Question, Answer)],
        scored: &[Scored],
        bootstrap: &Bootstrap,
    ) -> Scores {
        let classes = match self {
            Metric::Classes(given) => known_classes(given, asked),
            _ => Vec::new(),
        };
        let width = match self {
            Metric::ZeroShot => self.width(embedded::classes(asked)),
            _ => self.width(classes.len()),
        };
        let parts = sets::with_sets(width, asked, scored);
        let places = width + 2 * task.score.sets.len();
        let strata: BTreeMap<&str, usize> = {
            let names: std::collections::BTreeSet<&str> =
                asked.iter().map(|(q, _)| q.stratum.as_str()).collect();
            names.into_iter().enumerate().map(|(at, name)| (name, at)).collect()
        };
        let stratum: Vec<usize> =
            asked.iter().map(|(question, _)| strata[question.stratum.as_str()]).collect();
        let measure = |times: &[u32]| {
            if matches!(self, Metric::Similarity) {
                return embedded::correlations(asked, scored, times);
            }
            let mut sums = vec![vec![0.0; places]; strata.len()];
            for (at, parts) in parts.iter().enumerate() {
                for (place, number) in parts {
                    sums[stratum[at]][*place] += number * f64::from(times[at]);
                }
            }
            self.mean_of(&sums, width, task.compat)
        };
        let names: Vec<String> = asked.iter().map(|(question, _)| question.group.clone()).collect();
        let estimates = bootstrap.estimate(asked.len(), &groups(&names), measure);
        let mut metrics: BTreeMap<String, Estimate> = task.scores().into_iter().zip(estimates).collect();
        let confidences: Vec<(f64, bool)> = asked
            .iter()
            .zip(scored)
            .filter_map(|((_, a), s)| Some((a.confidence?, s.value == 1.0)))
            .collect();
        if confidences.len() == asked.len() && !asked.is_empty() {
            let error = |times: &[u32]| {
                let drawn = confidences
                    .iter()
                    .zip(times)
                    .flat_map(|(c, times)| std::iter::repeat_n(*c, *times as usize));
                vec![crate::metric::classes::calibration_error(&drawn.collect::<Vec<_>>(), 10)]
            };
            let found = bootstrap.estimate(asked.len(), &groups(&names), error);
            metrics.extend(["ece".to_owned()].into_iter().zip(found));
        }
        let confusion = (!classes.is_empty()).then(|| confusion(&classes, scored));
        Scores {
            metrics,
            n: asked.len(),
            unparsed: scored.iter().filter(|scored| scored.unparsed).count(),
            failed: asked.iter().filter(|(_, answer)| answer.failed.is_some()).count(),
            categories: self.categories(task, asked, &measure),
            classes: confusion.as_ref().map(Confusion::scores).unwrap_or_default(),
            confusion,
        }
    }

    /// The mean over strata of their scores.
    fn mean_of(&self, sums: &[Vec<f64>], width: usize, compat: Compat) -> Vec<f64> {
        let scores = |sums: &Vec<f64>| {
            let (own, sets) = sums.split_at(width);
            let sets = sets.chunks(2).map(|sums| sums[1] / sums[0]);
            self.finish(own, compat).into_iter().chain(sets).collect()
        };
        let known = sums.iter().filter(|sums| sums.iter().any(|sum| *sum != 0.0));
        let scores: Vec<Vec<f64>> = known.map(scores).collect();
        let mean = |at: usize| scores.iter().map(|scores| scores[at]).sum::<f64>() / scores.len() as f64;
        let count = self.names().len() + sums.first().map_or(0, |sums| (sums.len() - width) / 2);
        (0..count).map(mean).collect()
    }

    fn categories(
        &self,
        task: &Task,
        asked: &[(Question, Answer)],
        measure: &dyn Fn(&[u32]) -> Vec<f64>,
    ) -> BTreeMap<String, BTreeMap<String, Category>> {
        let mut found: BTreeMap<String, BTreeMap<String, Category>> = BTreeMap::new();
        for (at, column) in task.data.categories.iter().enumerate() {
            let mut members: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
            for (number, (question, _)) in asked.iter().enumerate() {
                let value = question.categories.get(at).map_or("", |(_, value)| value.as_str());
                members.entry(value).or_insert_with(|| vec![0; asked.len()])[number] = 1;
            }
            for (value, times) in members {
                let metrics = task.scores().into_iter().zip(measure(&times)).collect();
                let n = times.iter().sum::<u32>() as usize;
                found.entry(column.clone()).or_default().insert(value.to_owned(), Category { metrics, n });
            }
        }
        found
    }
}
