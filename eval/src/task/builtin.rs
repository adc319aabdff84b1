//! The tasks that are built in.

/// A file of `eval/tasks` for each: its name and its text.
macro_rules! tasks {
    ($($name:literal),* $(,)?) => {
        const TASKS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../tasks/", $name, ".toml")))),*];
    };
}

tasks![
    "ai2d",
    "chartqa",
    "coco2017_cap_val",
    "coco2017_retrieval",
    "docvqa_val",
    "emoji_world",
    "fleurs_cmn_hans_cn",
    "fleurs_en",
    "gqa",
    "gsm8k",
    "hallusion_bench_image",
    "imagenet1k_zeroshot",
    "infovqa_val",
    "librispeech_test_clean",
    "librispeech_test_other",
    "mathvista_testmini_choice",
    "mmau_test_mini",
    "mmbench_en_dev",
    "mmlu",
    "mmmu_pro_standard",
    "mmmu_pro_vision",
    "mmmu_val",
    "mmstar",
    "mvbench",
    "ocrbench",
    "pope",
    "realworldqa",
    "refcoco+_bbox_rec_testA",
    "refcoco+_bbox_rec_testB",
    "refcoco+_bbox_rec_val",
    "refcoco_bbox_rec_test",
    "refcoco_bbox_rec_testA",
    "refcoco_bbox_rec_testB",
    "refcoco_bbox_rec_val",
    "refcocog_bbox_rec_test",
    "refcocog_bbox_rec_val",
    "scienceqa_img",
    "stsb_test",
    "tempcompass_multi_choice",
    "textvqa_val",
    "videomme",
    "vqav2_val",
];

/// A task with all that a task may say, for `percept eval init-task`.
pub const EXAMPLE: &str = include_str!("../../tasks/example.toml");

/// The names of the tasks that are built in, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|(name, _)| *name)
}

/// The text of a task's file.
pub fn source(name: &str) -> Option<&'static str> {
    TASKS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
