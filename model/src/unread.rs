//! Tensors of a checkpoint that its model does not read, though they lie among those of its layers.

use std::collections::BTreeSet;

use percept_graph::Role;

use crate::causal::CausalModel;
use crate::error::Result;
use crate::pass::PassShape;
use crate::weights::Weights;

/// Ends of names that hold what is computed, or scales of formats, and no weights of a layer.
const NO_WEIGHTS: [&str; 5] = ["inv_freq", "_scale", "_scale_inv", "_zero_point", "masked_bias"];

/// The first part of a name up to the number of a layer, and that number.
fn layer(name: &str) -> Option<(&str, usize)> {
    let at = name.find("layers.")? + "layers.".len();
    let (number, _) = name[at..].split_once('.')?;
    Some((&name[..at], number.parse().ok()?))
}

/// What a checkpoint holds and its model leaves out, a sentence each. Tensors of the decoder's layers that no step reads are
/// named: biases or norms that `config.json` does not ask for, layers beyond the number that it states. A head that is
/// missing where `config.json` says that it is not the table is another. The model then computes something else than the
/// one that was saved.
///
/// # Errors
/// When the tensors do not fit the configuration.
pub fn unread(model: &dyn CausalModel) -> Result<Vec<String>> {
    let checkpoint = model.weights().checkpoint();
    let shape = PassShape { rows: [1, 1], ..PassShape::default() };
    let bare: Weights = model.weights().bare();
    let graph = model.decoder().step(&bare, &shape)?;
    let read: BTreeSet<&str> = graph
        .inputs()
        .iter()
        .filter(|input| input.role == Role::Parameter)
        .map(|input| &*input.name)
        .collect();
    let stacks: BTreeSet<&str> = read.iter().filter_map(|name| layer(name)).map(|(stack, _)| stack).collect();
    let config = checkpoint.config();
    let count = |key: &str| {
        let inner = config.get("text_config").and_then(|inner| inner.get(key));
        inner.or_else(|| config.get(key)).and_then(|value| value.as_u64()).unwrap_or(0) as usize
    };
    // Layers that guess tokens further ahead lie behind the others, and transformers leaves them out too.
    let ahead = count("num_hidden_layers")..count("num_hidden_layers") + count("num_nextn_predict_layers");
    // Layers that share the keys and values of earlier ones may have kept their own.
    let shares = count("num_kv_shared_layers") > 0;
    let left: Vec<&str> = checkpoint
        .names()
        .filter(|name| !read.contains(name))
        .filter(|name| {
            let is_of_a_stack = |(stack, at): (&str, usize)| stacks.contains(stack) && !ahead.contains(&at);
            // Tensors of a GGUF file keep its names where no part of the family is called so.
            layer(name).is_some_and(is_of_a_stack) || name.starts_with("blk.")
        })
        .filter(|name| !NO_WEIGHTS.iter().any(|end| name.ends_with(end)))
        .filter(|name| !(shares && (name.contains(".k_") || name.contains(".v_"))))
        .collect();
    let mut found = Vec::new();
    if let Some((first, rest)) = left.split_first() {
        let more = match rest.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        found.push(format!(
            "{}: '{first}'{more} are not read, since config.json asks for no such part of a layer; the model may be another \
             than the one that was trained",
            checkpoint.path().display()
        ));
    }
    let tied = config.get("tie_word_embeddings").and_then(|value| value.as_bool());
    let has_head = checkpoint.names().any(|name| name.ends_with("lm_head.weight"));
    if tied == Some(false) && !has_head && config.get("text_config").is_none() {
        found.push(format!(
            "{}: config.json says that the head is not the table (tie_word_embeddings), and there is no lm_head.weight; the \
             table takes its place",
            checkpoint.path().display()
        ));
    }
    Ok(found)
}
