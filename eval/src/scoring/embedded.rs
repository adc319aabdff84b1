//! Scores of embeddings: which of many is likest.

use super::{Answer, Scored};
use crate::metric::ranks::{pearson, rank, spearman};
use crate::task::Question;

/// Recalls of retrieval: texts found by an image, and the image found by a text, among the first so many.
pub(super) const RECALLS: [(&str, bool, usize); 6] = [
    ("text_retrieval_recall@1", true, 1),
    ("text_retrieval_recall@5", true, 5),
    ("text_retrieval_recall@10", true, 10),
    ("image_retrieval_recall@1", false, 1),
    ("image_retrieval_recall@5", false, 5),
    ("image_retrieval_recall@10", false, 10),
];

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// An image among classes.
pub(super) fn zero_shot(answer: &Answer, class: usize) -> Scored {
    let within = |k: usize| flag(answer.rank.is_some_and(|rank| rank < k));
    let (first, five) = (within(1), within(5));
    let parts = vec![(0, 1.0), (1, first), (2, five), (3 + 2 * class, 1.0), (4 + 2 * class, first)];
    Scored { value: first, read: Some(answer.said.clone()), unparsed: false, parts }
}

/// How many classes the right answers name, from 0.
pub(super) fn classes(asked: &[(Question, Answer)]) -> usize {
    asked.iter().map(|(question, _)| question.right.option.unwrap_or(0) + 1).max().unwrap_or(0)
}

/// The mean over classes that there are of the share that was found; `sums` are the images of each and those found.
pub(super) fn mean_recall(sums: &[f64]) -> f64 {
    let recalls: Vec<f64> =
        sums.chunks(2).filter(|sums| sums[0] > 0.0).map(|sums| sums[1] / sums[0]).collect();
    recalls.iter().sum::<f64>() / recalls.len() as f64
}

/// A pair of texts.
pub(super) fn similarity(answer: &Answer, right: &str) -> Scored {
    let cosine = answer.similarity.unwrap_or(0.0);
    Scored {
        value: cosine,
        read: answer.similarity.map(|cosine| cosine.to_string()),
        unparsed: right.trim().parse::<f64>().is_err(),
        parts: Vec::new(),
    }
}

/// How cosines and people's scores go together, of pairs that were drawn so many times each. Pairs that could not be asked are as far apart
/// as unrelated ones: their cosine is 0.
pub(super) fn correlations(asked: &[(Question, Answer)], scored: &[Scored], times: &[u32]) -> Vec<f64> {
    let (mut cosines, mut people) = (Vec::new(), Vec::new());
    for (((question, _), scored), times) in asked.iter().zip(scored).zip(times) {
        let right = question.right.texts.first().and_then(|text| text.trim().parse::<f64>().ok());
        for _ in 0..*times {
            cosines.push(scored.value);
            people.push(right.unwrap_or(0.0));
        }
    }
    [spearman(&cosines, &people), pearson(&cosines, &people)].map(|found| found.unwrap_or(f64::NAN)).to_vec()
}

/// The numbers of an embedding as a journal keeps them.
pub fn written(vector: &[f32]) -> String {
    vector.iter().flat_map(|number| number.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

fn read(text: &str) -> Option<Vec<f32>> {
    let digits = text.as_bytes();
    let number = |digits: &[u8]| {
        let bits = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(f32::from_bits(bits.swap_bytes()))
    };
    digits.chunks(8).map(number).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The place of the nearest of some vectors that is of question `at`; each is beside the question that it is of.
fn place(at: usize, own: &[f32], others: &[(usize, &[f32])]) -> Option<usize> {
    let similarities: Vec<f64> = others.iter().map(|(_, other)| dot(own, other)).collect();
    rank(&similarities, |other| others[other].0 == at)
}

/// Images and their texts: the first embedding of each answer is the image's. Each image is compared with all texts, and each text with all
/// images; a question that could not be asked finds nothing and is not found.
pub(super) fn retrieval(asked: &[(Question, Answer)]) -> Vec<Scored> {
    let vectors: Vec<Vec<Vec<f32>>> = asked
        .iter()
        .map(|(_, answer)| answer.vectors.iter().filter_map(|text| read(text)).collect())
        .collect();
    // The number of the question beside each.
    let images: Vec<(usize, &[f32])> =
        vectors.iter().enumerate().filter_map(|(at, all)| Some((at, all.first()?.as_slice()))).collect();
    let texts: Vec<(usize, &[f32])> = vectors
        .iter()
        .enumerate()
        .flat_map(|(at, all)| all.iter().skip(1).map(move |vector| (at, vector.as_slice())))
        .collect();
    let score = |(at, (question, _)): (usize, &(Question, Answer))| {
        // As many as there should be, so that what failed counts.
        let count = question.right.texts.len();
        let image = vectors[at].first().and_then(|image| place(at, image, &texts));
        let captions: Vec<Option<usize>> =
            vectors[at].iter().skip(1).map(|text| place(at, text, &images)).collect();
        let mut parts = Vec::new();
        for (number, (_, by_image, k)) in RECALLS.iter().enumerate() {
            let within = |rank: &Option<usize>| rank.is_some_and(|rank| rank < *k);
            let (all, found) = match by_image {
                true => (1.0, flag(within(&image))),
                false => (count as f64, captions.iter().filter(|rank| within(rank)).count() as f64),
            };
            parts.extend([(2 * number, all), (2 * number + 1, found)]);
        }
        let value = flag(image == Some(0));
        Scored { value, read: image.map(|rank| format!("rank {}", rank + 1)), unparsed: false, parts }
    };
    asked.iter().enumerate().map(score).collect()
}
