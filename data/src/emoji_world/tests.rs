use std::collections::{BTreeMap, BTreeSet};

use percept_modalities::{audio, image, video};

use super::*;
use crate::format::webdataset::{DEFAULT_CAP, read};
use crate::leakage::find;
use crate::loader::Dataset;
use crate::sample::{Kind, Sample};

/// Every file of a folder, by its name in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn samples(folder: &Path, task: &str, split: &str) -> Vec<Sample> {
    let path = folder.join(task).join(split).join("00000.tar");
    read(&path, DEFAULT_CAP).unwrap().map(Result::unwrap).collect()
}

fn meta<'a>(sample: &'a Sample, field: &str) -> &'a str {
    sample.meta[field].as_str().unwrap()
}

#[test]
fn any_number_of_threads_builds_the_same_bytes_twice_and_every_medium_decodes() {
    let folder = tempfile::tempdir().unwrap();
    let build_with = |threads: usize, name: &str| {
        let out = folder.path().join(name);
        let options = Options { seed: 5, threads: Some(threads), limit: Some(20), progress: None };
        build(&out, &options).unwrap();
        // Building again where it is changes nothing.
        let again = build(&out, &options).unwrap();
        assert_eq!((again.manifest, again.timings), (Manifest::open(&out).unwrap(), None));
        assert!(build(&out, &Options { seed: 6, ..options }).is_err());
        files(&out)
    };
    let one = build_with(1, "one");
    assert!(one == build_with(2, "two"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");

    let out = folder.path().join("one");
    let tasks = ["category", "colour", "name", "direction", "count", "sound", "flags"];
    let sets = |split: &str| tasks.map(|task| Dataset::at(&out.join(task).join(split)).unwrap());
    let (train, held_out) = (sets("train"), sets("held-out"));
    let leaks = find(&train.each_ref(), &held_out.each_ref(), &|_, _| {});
    assert!(leaks.is_empty(), "{leaks:?}");
    for task in tasks {
        for split in ["train", "held-out"] {
            let samples = samples(&out, task, split);
            assert_eq!(samples.len(), 20);
            for sample in samples {
                let bytes = sample.media[0].bytes.clone();
                match sample.media[0].kind {
                    Kind::Image => {
                        let image = image::decode(&bytes, &image::Limits::default()).unwrap();
                        assert_eq!((image.width, image.height), (48, 48));
                    }
                    Kind::Video => {
                        let limits = video::Limits::default();
                        let clip = video::sample_bytes("x", bytes, &video::Sampling::All, &limits).unwrap();
                        assert_eq!((clip.frames.len(), clip.frames[0].width), (6, 32));
                    }
                    Kind::Audio => {
                        audio::decode_bytes("x", &bytes, 16_000, &audio::Limits::default()).unwrap();
                    }
                }
                assert_eq!(sample.messages.len(), 2);
                assert!(!meta(&sample, "answer").is_empty());
            }
        }
    }
}

#[test]
fn splits_are_by_emoji_and_by_seed() {
    let emoji = sheet::load().unwrap();
    let held_out = |seed: u64| -> BTreeSet<usize> {
        let tasks = tasks::plan(&emoji, seed);
        let of = |split: &str| -> BTreeSet<usize> {
            let tasks = tasks.iter().filter(|task| task.split == split && task.folder != "flags");
            tasks.flat_map(|task| task.jobs.iter().filter_map(|job| job.emoji)).collect()
        };
        assert!(of("train").is_disjoint(&of("held-out")));
        assert_eq!(of("train").len() + of("held-out").len(), 1631);
        of("held-out")
    };
    let (first, second) = (held_out(0), held_out(1));
    assert!((260..400).contains(&first.len()), "{}", first.len());
    assert!(first.intersection(&second).count() < first.len() / 2);
}

#[test]
fn answers_have_the_baselines_that_the_reference_reports() {
    let emoji = sheet::load().unwrap();
    let tasks = tasks::plan(&emoji, 0);
    let baseline = |folder: &str, answer: &dyn Fn(&tasks::Job) -> Option<String>| {
        let task = tasks.iter().find(|task| task.folder == folder && task.split == "held-out").unwrap();
        let mut counts = BTreeMap::<String, usize>::new();
        task.jobs.iter().filter_map(answer).for_each(|answer| *counts.entry(answer).or_default() += 1);
        let (most, all) = (counts.values().max().unwrap(), counts.values().sum::<usize>());
        (counts.len(), *most as f64 / all as f64)
    };
    let (kinds, most) = baseline("category", &|job| job.emoji.map(|at| emoji[at].category.to_string()));
    assert!(kinds == 8 && (0.18..0.30).contains(&most), "{kinds} {most}");
    let (kinds, most) = baseline("colour", &|job| match job.make {
        tasks::Make::Colour(name) => Some(name.to_string()),
        _ => None,
    });
    assert!(kinds >= 9 && (0.18..0.30).contains(&most), "{kinds} {most}");
    let (kinds, most) = baseline("direction", &|job| Some(format!("{:?}", job.make)));
    assert_eq!((kinds, most), (4, 0.25));
    let (kinds, most) = baseline("flags", &|job| job.emoji.map(|at| emoji[at].name.clone()));
    assert_eq!((kinds, most), (250, 0.004));
}

/// What moves is found from the frames alone: the middle of what differs from the background.
#[test]
fn clips_move_as_their_answers_say() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("world");
    build(&out, &Options { limit: Some(40), ..Options::default() }).unwrap();
    for sample in samples(&out, "direction", "train") {
        let bytes = sample.media[0].bytes.clone();
        let clip = video::sample_bytes("x", bytes, &video::Sampling::All, &video::Limits::default()).unwrap();
        let middle = |frame: &percept_modalities::image::Image| {
            let (mut x, mut y, mut all) = (0.0, 0.0, 0.0);
            for at in 0..32 * 32 {
                let difference = (0..3).map(|c| frame.rgb[3 * at + c].abs_diff(frame.rgb[c])).max().unwrap();
                let weight = f64::from(difference.saturating_sub(12));
                (x, y, all) = (x + weight * (at % 32) as f64, y + weight * (at / 32) as f64, all + weight);
            }
            (x / all, y / all)
        };
        let (first, last) = (middle(&clip.frames[0]), middle(&clip.frames[5]));
        let (right, down) = (last.0 - first.0, last.1 - first.1);
        let answer = match (right.abs() > down.abs(), right > 0.0, down > 0.0) {
            (true, true, _) => "right",
            (true, false, _) => "left",
            (false, _, true) => "down",
            (false, _, false) => "up",
        };
        assert_eq!(answer, meta(&sample, "answer"), "{} moved {right:.1} {down:.1}", meta(&sample, "emoji"));
    }
    let noisy = samples(&out, "flags", "held-out");
    let clean = samples(&out, "flags", "train");
    let size = |samples: &[Sample]| samples.iter().map(|sample| sample.media[0].bytes.len()).sum::<usize>();
    assert!(size(&noisy) > size(&clean), "held-out flags are rendered with noise");
}
