//! Built-in tasks on data in their published schema, held to what lmms-eval asks and scores: `tests/golden/tasks.py` made both.

use serde_json::Value;

use super::*;
use crate::embedding::{Embeds, run_embedding};
use crate::metric::interval::Bootstrap;
use crate::run::Options;
use crate::scoring::Answer;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tasks").join(name)
}

fn golden() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("../../tests/golden/tasks.json")).unwrap()
}

/// The questions of a task's fixture, with boxes as shares of their images.
fn questions(task: &Task, folder: &Path) -> Vec<Question> {
    task.questions(folder)
        .unwrap()
        .map(|raw| {
            let mut question = task.question(&raw.unwrap()).unwrap();
            if task.score.pixels {
                let image = &question.media.as_ref().unwrap()[0];
                let limits = percept_modalities::image::Limits::default();
                let image = percept_modalities::image::decode(&image.bytes, &limits).unwrap();
                question.scale_box(&image, task.compat);
            }
            question
        })
        .collect()
}

/// The numbers of vectors.
fn vectors(value: &Value) -> Vec<Vec<f32>> {
    let numbers = |text: &Value| {
        text.as_str().unwrap().split(' ').map(|number| number.parse::<f64>().unwrap() as f32).collect()
    };
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// A model whose embeddings are known: of images in the order in which they are asked, of texts by the text.
struct Known {
    images: std::vec::IntoIter<Vec<f32>>,
    texts: BTreeMap<String, Vec<f32>>,
}

impl Embeds for Known {
    fn images(&mut self, images: &[percept_modalities::image::Image]) -> Option<Result<Vec<Vec<f32>>>> {
        Some(Ok(self.images.by_ref().take(images.len()).collect()))
    }

    fn texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        Ok(texts.iter().map(|text| self.texts[text].clone()).collect())
    }
}

#[test]
fn embeddings_score_as_clip_benchmark_scikit_learn_and_scipy_score_them() {
    let golden = golden();
    for name in ["imagenet1k_zeroshot", "coco2017_retrieval", "stsb_test"] {
        let (task, expected) = (Task::find(name).unwrap(), &golden[name]);
        let asked = questions(&task, &folder(name));
        let texts: Vec<String> = match name {
            "imagenet1k_zeroshot" => task.class_texts(&folder(name)).unwrap().1.concat(),
            "coco2017_retrieval" => asked.iter().flat_map(|question| question.right.texts.clone()).collect(),
            _ => {
                let both = |question: &Question| [question.prompt.clone(), question.other.clone().unwrap()];
                asked.iter().flat_map(both).collect()
            }
        };
        let images = expected.get("images").map(vectors).unwrap_or_default();
        let model = |images: Vec<Vec<f32>>| Known {
            images: images.into_iter(),
            texts: texts.iter().cloned().zip(vectors(&expected["texts"])).collect(),
        };
        let out = tempfile::tempdir().unwrap();
        let options = |batch: usize, shard: (usize, usize)| Options {
            batch,
            limit: None,
            shard,
            bootstrap: Bootstrap { draws: 20, ..Bootstrap::default() },
            out: Some(out.path().to_path_buf()),
            ran: serde_json::json!({}),
            keep: 0,
        };
        // Two parts, then all of it, for which nothing is left to be asked.
        for part in 0..2 {
            let own = images.iter().skip(part).step_by(2).cloned().collect();
            run_embedding(&mut model(own), &task, &folder(name), &options(3, (part, 2)), &mut |_| ())
                .unwrap();
        }
        let mut new = 0;
        let told = &mut |is_new: bool| new += usize::from(is_new);
        let outcome =
            run_embedding(&mut model(Vec::new()), &task, &folder(name), &options(4, (0, 1)), told).unwrap();
        assert_eq!((new, outcome.asked.len()), (0, asked.len()), "{name}");
        for (metric, expected) in expected["scores"].as_object().unwrap() {
            let found = outcome.scores.metrics[metric.as_str()].value;
            assert!(
                (found - expected.as_f64().unwrap()).abs() <= 1e-9,
                "{name}: {metric} is {found}, not {expected}"
            );
        }
    }
}

#[test]
fn every_task_asks_and_scores_as_lmms_eval_does() {
    let golden = golden();
    let mut wrong = Vec::new();
    for name in names() {
        let expected = &golden[name];
        let mut task = Task::find(name).unwrap();
        task.compat = Compat::LmmsEval;
        let asked = questions(&task, &folder(name));
        for (question, prompt) in asked.iter().zip(expected["prompts"].as_array().unwrap()) {
            // Videos lie beside the data and are not in the fixtures.
            let shows_video = task.ask.video_file.is_some();
            assert_eq!(question.media.is_err(), shows_video, "{name}: {:?}", question.media);
            let shows = !(task.ask.image.is_empty() && task.ask.audio.is_empty());
            assert!(!shows || !question.media.as_ref().unwrap().is_empty(), "{name} shows nothing");
            if question.prompt != *prompt {
                wrong.push(format!("{name}: asks {:?}, and not {prompt}", question.prompt));
            }
        }
        if task.metric.is_embedded() {
            continue;
        }
        let answers = expected["answers"].as_array().unwrap();
        assert_eq!(asked.len(), answers.len(), "{name}");
        let said = |said: &Value| {
            let said = said.as_str().unwrap();
            let chosen = (task.score.by == By::Likelihood).then(|| (said.as_bytes()[0] - b'A') as usize);
            Answer { said: said.into(), chosen, ..Answer::default() }
        };
        let asked: Vec<(Question, Answer)> = asked.into_iter().zip(answers.iter().map(said)).collect();
        let scored = task.metric.score(&task, &asked);
        let scores =
            task.metric.all(&task, &asked, &scored, &Bootstrap { draws: 20, ..Bootstrap::default() });
        for (metric, expected) in expected["scores"].as_object().unwrap() {
            let found = scores.metrics[metric.as_str()].value;
            if (found - expected.as_f64().unwrap()).abs() > 1e-9 {
                wrong.push(format!("{name}: {metric} is {found}, and not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_right_differs_from_lmms_eval_where_the_page_says_so() {
    let golden = golden();
    let score = |name: &str| {
        let task = Task::find(name).unwrap();
        let said = golden[name]["answers"].as_array().unwrap().iter();
        let answers = said.map(|said| Answer { said: said.as_str().unwrap().into(), ..Answer::default() });
        let asked: Vec<(Question, Answer)> =
            questions(&task, &folder(name)).into_iter().zip(answers).collect();
        let scored = task.metric.score(&task, &asked);
        task.metric.all(&task, &asked, &scored, &Bootstrap { draws: 20, ..Bootstrap::default() })
    };
    // Of ten answers "Yes, there is." and "no." are read too, and "unclear" is not.
    let pope = score("pope");
    assert_eq!((pope.metrics["accuracy"].value, pope.unparsed, pope.n), (0.6, 1, 10));
    // The empty answer counts as wrong: two of five rather than of four.
    let mvbench = score("mvbench");
    assert_eq!((mvbench.metrics["accuracy"].value, mvbench.unparsed), (0.6, 2));
    // "5" for "5%", "0.0" for "0" and "japan." for "Japan" are right; "14.5" and "0.6" are near enough, or not.
    let chartqa = score("chartqa");
    assert!((chartqa.metrics["relaxed_accuracy"].value - 5.0 / 6.0).abs() < 1e-12, "{chartqa:?}");
    assert_eq!(chartqa.categories["type"].len(), 2);
    // Not a thousandth of the sum.
    assert_eq!(score("ocrbench").metrics["accuracy"].value, 0.75);
    // Nothing is guessed: "nobody knows" is unparsed.
    let mmmu = score("mmmu_val");
    assert_eq!((mmmu.metrics["accuracy"].value, mmmu.unparsed), (0.6, 1));
}

#[test]
fn a_missing_column_and_missing_files_are_named() {
    let task = Task::find("mmstar").unwrap();
    // Another task's data.
    let refused = task.questions(&folder("pope")).unwrap().next().unwrap().err().unwrap().to_string();
    assert!(
        refused.contains("has no column 'index'") && refused.contains("it has id, question_id"),
        "{refused}"
    );
    let refused = task.questions(&folder("nowhere")).err().unwrap().to_string();
    assert!(refused.contains("they are published as Lin-Chen/MMStar"), "{refused}");
    let text = source("pope").unwrap().replace("{{ question.strip() }}", "{{ query }}");
    let task = Task::parse(Path::new("pope.toml"), &text).unwrap();
    let raw = task.questions(&folder("pope")).unwrap().next().unwrap().unwrap();
    let refused = task.question(&raw).unwrap_err().to_string();
    assert!(refused.contains("'query' is undefined") && refused.contains("the columns are id,"), "{refused}");
}

#[test]
fn rows_of_jsonl_name_their_media_and_images_stand_where_they_are_mentioned() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::find("mmmu_val").unwrap();
    let question = &questions(&task, &self::folder("mmmu_val"))[1];
    // The question mentions the first image, an option the second.
    assert_eq!(question.mentioned, [1, 2]);
    let messages = question.messages();
    let kinds: Vec<bool> = messages[0].content.parts().iter().map(|part| part.medium().is_some()).collect();
    assert_eq!(kinds, [false, true, false, true, false]);
    let png = question.media.as_ref().unwrap()[0].bytes.to_vec();
    percept_files::write_shared(&folder.path().join("a.png"), &png).unwrap();
    let rows = "{\"id\": \"x\", \"image\": \"a.png\", \"question\": \"Q\", \"options\": [\"b\", \"c\"], \"answer\": \"B\"}\n\
                {\"id\": \"y\", \"image\": \"none.png\", \"question\": \"Q\", \"options\": [\"b\", \"c\"], \"answer\": \"B\"}\n";
    percept_files::write_shared(&folder.path().join("rows.jsonl"), rows.as_bytes()).unwrap();
    let task = Task::parse(Path::new("my-task.toml"), EXAMPLE).unwrap();
    let asked = questions(&task, folder.path());
    assert_eq!(asked[0].prompt, "Q\nA. b\nB. c\nAnswer with the option's letter.");
    assert_eq!((asked[0].key.as_str(), asked[0].right.option), ("x", Some(1)));
    assert_eq!(asked[0].media.as_ref().unwrap().len(), 1);
    assert!(asked[1].media.as_ref().unwrap_err().contains("none.png"), "{:?}", asked[1].media);
}
