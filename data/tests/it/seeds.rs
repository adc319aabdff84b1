//! The fuzz targets of this crate on their seeds.

#[path = "../../../fuzz/each_seed.rs"]
mod each_seed;
#[path = "../../../fuzz/entries/messages.rs"]
mod messages;
#[path = "../../../fuzz/entries/parquet.rs"]
mod parquet;
#[path = "../../../fuzz/entries/recipe.rs"]
mod recipe;
#[path = "../../../fuzz/entries/rows.rs"]
mod rows;
#[path = "../../../fuzz/entries/tar.rs"]
mod tar;

use each_seed::{run, spoiled};

#[test]
fn messages() {
    run("messages", spoiled(messages::run));
}

#[test]
fn parquet() {
    run("parquet", spoiled(parquet::run));
}

#[test]
fn recipe() {
    run("recipe", spoiled(recipe::run));
}

#[test]
fn tar() {
    run("tar", spoiled(tar::run));
}
