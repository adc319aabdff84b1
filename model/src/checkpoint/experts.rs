//! The matrices of a mixture's experts, which files have one by one or stacked either way round, as one stack:
//! `{layer}.experts.gate_up_proj` [experts, 2 width, hidden], each expert's gate first, and `{layer}.experts.down_proj`
//! [experts, hidden, width].

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Result, damaged, unsupported};
use super::tensor::{Change, Form, StoredTensor};

/// What an expert's matrices are called behind its number.
const GATE: &str = "gate_proj";
const UP: &str = "up_proj";
const DOWN: &str = "down_proj";

/// The names of stacks below the experts' prefix.
const GATE_UP: &str = "gate_up_proj";

/// Puts experts that have tensors of their own into stacks, and turns stacks [experts, in, out] around. Gives the tensors
/// that each new stack is made of, in its order.
///
/// # Errors
/// When an expert lacks a matrix, or matrices do not fit each other.
pub(crate) fn stack(
    path: &Path,
    tensors: &mut BTreeMap<String, StoredTensor>,
) -> Result<BTreeMap<String, Vec<String>>> {
    turn(path, tensors)?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in tensors.keys() {
        if let Some((prefix, _, GATE)) = of_expert(name) {
            *counts.entry(prefix.to_string()).or_default() += 1;
        }
    }
    let mut made = BTreeMap::new();
    for (prefix, count) in counts {
        let prefix = prefix.as_str();
        let mut take = |parts: &[&str]| -> Result<(Vec<String>, Vec<StoredTensor>)> {
            let each = |i: usize| parts.iter().map(move |part| format!("{prefix}.{i}.{part}.weight"));
            let names: Vec<String> = (0..count).flat_map(each).collect();
            let stored = names.iter().map(|name| {
                tensors.remove(name).ok_or_else(|| {
                    let why = format!("there are gates of {count} experts below '{prefix}', and no '{name}'");
                    damaged(path, why)
                })
            });
            let stored = stored.collect::<Result<Vec<_>>>()?;
            Ok((names, stored))
        };
        let stacks = [(GATE_UP, take(&[GATE, UP])?), (DOWN, take(&[DOWN])?)];
        for (name, (names, parts)) in stacks {
            let name = format!("{prefix}.{name}");
            let dims = parts.first().map(|p| p.ty.dims.clone()).unwrap_or_default();
            let [rows, columns] = dims[..] else {
                return Err(damaged(
                    path,
                    format!("'{}' has the shape {dims:?}, not that of a matrix", names[0]),
                ));
            };
            if let Some(other) = parts.iter().position(|p| p.ty.dims != dims) {
                let (a, b) = (&names[0], &names[other]);
                let shapes = format!("{dims:?} and {:?}", parts[other].ty.dims);
                return Err(damaged(
                    path,
                    format!("'{a}' and '{b}' have the shapes {shapes}, which cannot be stacked"),
                ));
            }
            let dims = vec![count, parts.len() / count * rows, columns];
            tensors.insert(name.clone(), StoredTensor::joined(&name, dims, parts, 1)?);
            made.insert(name, names);
        }
    }
    Ok(made)
}

/// Puts stacks of gates and of the matrices beside them, `{layer}.experts.{gate,up,down}_proj.weight` [experts,out,in] as
/// llama.cpp has them, into those of one matrix an expert, which some of its files have already.
///
/// # Errors
/// When a layer lacks one of the three, or they do not fit each other.
pub(crate) fn pair_up(path: &Path, tensors: &mut BTreeMap<String, StoredTensor>) -> Result<()> {
    let paired = |name: &String| {
        let layer = name.strip_suffix(&format!(".experts.{GATE_UP}.weight"))?;
        Some([GATE_UP, DOWN].map(|part| format!("{layer}.experts.{part}.weight")))
    };
    for name in tensors.keys().filter_map(paired).flatten().collect::<Vec<_>>() {
        let plain = name.trim_end_matches(".weight").to_string();
        if let Some(stack) = tensors.remove(&name) {
            tensors.insert(plain, stack);
        }
    }
    let suffix = format!(".experts.{GATE}.weight");
    let layers: Vec<String> =
        tensors.keys().filter_map(|n| n.strip_suffix(&suffix)).map(str::to_string).collect();
    for layer in layers {
        let mut take = |part: &str| {
            let name = format!("{layer}.experts.{part}.weight");
            let found = tensors.remove(&name);
            found.ok_or_else(|| {
                damaged(path, format!("there are experts' gates below '{layer}', and no '{name}'"))
            })
        };
        let [gate, up, down] = [take(GATE)?, take(UP)?, take(DOWN)?];
        let &[count, rows, columns] = &gate.ty.dims[..] else {
            return Err(damaged(
                path,
                format!("the gates of '{layer}' are {}, no stack of matrices", gate.ty),
            ));
        };
        if up.ty.dims != gate.ty.dims {
            let why = format!("the experts of '{layer}' have gates {} beside {}", gate.ty, up.ty);
            return Err(damaged(path, why));
        }
        let both = format!("{layer}.experts.{GATE_UP}");
        // Rows of both are one expert's, so they follow each other expert by expert.
        let joined = StoredTensor::joined(&both, vec![count, 2 * rows, columns], vec![gate, up], count)?;
        tensors.insert(both, joined);
        tensors.insert(format!("{layer}.experts.{DOWN}"), down);
    }
    Ok(())
}

/// The prefix, number and matrix that the name of an expert's own tensor has.
fn of_expert(name: &str) -> Option<(&str, usize, &str)> {
    let (rest, matrix) = name.strip_suffix(".weight")?.rsplit_once('.')?;
    let (prefix, number) = rest.rsplit_once('.')?;
    let number = number.parse().ok()?;
    prefix.ends_with(".experts").then_some((prefix, number, matrix))
}

/// Turns stacks [experts, hidden, 2 width] and [experts, width, hidden], which multiply rows from the right, around. Which
/// way they lie is seen by what fits: never both.
fn turn(path: &Path, tensors: &mut BTreeMap<String, StoredTensor>) -> Result<()> {
    let prefixes = tensors.keys().filter_map(|name| name.strip_suffix(&format!(".experts.{GATE_UP}")));
    let prefixes: Vec<String> = prefixes.map(|layer| format!("{layer}.experts")).collect();
    for prefix in prefixes {
        let names = [GATE_UP, DOWN].map(|name| format!("{prefix}.{name}"));
        let dims = |name: &str| tensors.get(name).map(|t| t.ty.dims.clone());
        let (Some(both), Some(down)) = (dims(&names[0]), dims(&names[1])) else { continue };
        let (&[e, a, b], &[f, c, d]) = (&both[..], &down[..]) else { continue };
        // Compared as halves, since twice a hostile extent may be too much.
        let is_double = |two: usize, one: usize| two.is_multiple_of(2) && two / 2 == one;
        if e == f && is_double(a, d) && b == c {
            continue;
        }
        if e != f || !is_double(b, c) || a != d {
            let why = format!(
                "'{}' and '{}' have the shapes {both:?} and {down:?}, which no experts have",
                names[0], names[1]
            );
            return Err(damaged(path, why));
        }
        for name in names {
            if let Some(stored) = tensors.get_mut(&name) {
                let is_whole = !matches!(stored.form, Form::Layer(_) | Form::Joined { .. });
                if stored.form.block_len() != 1 || stored.change != Change::None || !is_whole {
                    let why = format!("'{name}' is quantized and lies the wrong way round for its blocks");
                    return Err(unsupported(path, why));
                }
                stored.change = Change::Turn;
                stored.ty.dims.swap(1, 2);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use percept_graph::{DType, TensorType};

    use super::super::{Checkpoint, Format, LoadOptions};
    use super::{Path, pair_up};

    /// A file of f32 tensors; element i of the n-th is n + i / 1000.
    fn file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
        let mut at = 0;
        let entries: Vec<String> = tensors
            .iter()
            .map(|(name, dims)| {
                let bytes = 4 * dims.iter().product::<usize>();
                at += bytes;
                format!(
                    "\"{name}\":{{\"dtype\":\"F32\",\"shape\":{dims:?},\"data_offsets\":[{},{at}]}}",
                    at - bytes
                )
            })
            .collect();
        let head = format!("{{{}}}", entries.join(","));
        let mut out = (head.len() as u64).to_le_bytes().to_vec();
        out.extend(head.as_bytes());
        for (n, (_, dims)) in tensors.iter().enumerate() {
            out.extend(
                (0..dims.iter().product::<usize>()).flat_map(|i| (n as f32 + i as f32 / 1e3).to_le_bytes()),
            );
        }
        out
    }

    fn open(tensors: &[(&str, &[usize])]) -> Result<Checkpoint, String> {
        let opened = Checkpoint::from_bytes(Format::Safetensors, "m", file(tensors), LoadOptions::default());
        opened.map_err(|e| e.to_string())
    }

    fn values(c: &Checkpoint, name: &str) -> (Vec<usize>, Vec<f32>) {
        let w = c.weight(name).unwrap();
        let floats =
            w.bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        (w.ty.dims.clone(), floats)
    }

    #[test]
    fn experts_of_their_own_are_stacked_in_the_order_of_their_numbers() {
        let mut names = Vec::new();
        for e in 0..11 {
            for (part, dims) in [("gate", [2, 3]), ("up", [2, 3]), ("down", [3, 2])] {
                names.push((format!("l.0.mlp.experts.{e}.{part}_proj.weight"), dims));
            }
        }
        let all: Vec<(&str, &[usize])> = names.iter().map(|(n, d)| (&n[..], &d[..])).collect();
        let c = open(&all).unwrap();
        assert_eq!(
            c.names().collect::<Vec<_>>(),
            ["l.0.mlp.experts.down_proj", "l.0.mlp.experts.gate_up_proj"]
        );
        let first = |n: usize| (0..6).map(move |i| n as f32 + i as f32 / 1e3);
        let (dims, both) = values(&c, "l.0.mlp.experts.gate_up_proj");
        assert_eq!(dims, [11, 4, 3]);
        assert_eq!(both, (0..11).flat_map(|e| first(3 * e).chain(first(3 * e + 1))).collect::<Vec<_>>());
        let (dims, down) = values(&c, "l.0.mlp.experts.down_proj");
        assert_eq!((dims, down), (vec![11, 3, 2], (0..11).flat_map(|e| first(3 * e + 2)).collect()));
        let missing = open(&all[..all.len() - 1]).unwrap_err();
        assert!(missing.contains("no 'l.0.mlp.experts.10.down_proj.weight'"), "{missing}");
        let mut odd = all.clone();
        odd[4].1 = &[3, 2];
        assert!(open(&odd).unwrap_err().contains("cannot be stacked"));
    }

    #[test]
    fn stacks_of_gates_and_of_what_is_beside_them_become_one() {
        let name = |part: &str| format!("l.mlp.experts.{part}_proj.weight");
        let (gate, up, down) = (name("gate"), name("up"), name("down"));
        let mut c = open(&[(&gate, &[2, 2, 3]), (&up, &[2, 2, 3]), (&down, &[2, 3, 2])]).unwrap();
        pair_up(Path::new("m"), &mut c.tensors).unwrap();
        let part = |n: usize, e: usize| (6 * e..6 * (e + 1)).map(move |i| n as f32 + i as f32 / 1e3);
        let both = (0..2).flat_map(|e| part(0, e).chain(part(1, e))).collect();
        assert_eq!(values(&c, "l.mlp.experts.gate_up_proj"), (vec![2, 4, 3], both));
        assert_eq!(values(&c, "l.mlp.experts.down_proj").0, [2, 3, 2]);
        assert_eq!(c.names().len(), 2);
        let mut c = open(&[(&gate, &[2, 2, 3]), (&down, &[2, 3, 2])]).unwrap();
        let e = pair_up(Path::new("m"), &mut c.tensors).unwrap_err().to_string();
        assert!(e.contains(&format!("no '{up}'")), "{e}");
    }

    #[test]
    fn experts_are_written_as_they_were_read() {
        let of = |e: usize, part: &str| format!("l.mlp.experts.{e}.{part}_proj.weight");
        let names: Vec<(String, [usize; 2])> = (0..2)
            .flat_map(|e| [(of(e, "gate"), [2, 3]), (of(e, "up"), [2, 3]), (of(e, "down"), [3, 2])])
            .collect();
        let all: Vec<(&str, &[usize])> = names.iter().map(|(n, d)| (&n[..], &d[..])).collect();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        super::super::convert(&open(&all).unwrap(), &out, None).unwrap();
        let written = std::fs::read(out.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(written[..8].try_into().unwrap()) as usize;
        let head: serde_json::Value = serde_json::from_slice(&written[8..8 + length]).unwrap();
        for (n, (name, dims)) in all.iter().enumerate() {
            assert_eq!(head[name]["shape"], serde_json::json!(dims), "{name}");
            let start = 8 + length + head[name]["data_offsets"][0].as_u64().unwrap() as usize;
            let second = f32::from_le_bytes(written[start + 4..start + 8].try_into().unwrap());
            assert_eq!(second, n as f32 + 1.0 / 1e3, "{name}");
        }
    }

    #[test]
    fn stacks_that_lie_the_other_way_are_turned_and_others_are_not() {
        let names = ["l.mlp.experts.gate_up_proj", "l.mlp.experts.down_proj"];
        // As wide as two experts' widths, which their shapes alone tell apart from each other.
        for (both, down, turned) in [
            ([2usize, 6, 4], [2usize, 4, 3], false),
            ([2, 4, 6], [2, 3, 4], true),
            ([2, 6, 6], [2, 3, 6], true),
        ] {
            let c = open(&[(names[0], &both), (names[1], &down)]).unwrap();
            for (n, (name, dims)) in names.iter().zip([both, down]).enumerate() {
                let at = |i: usize| n as f32 + i as f32 / 1e3;
                let [e, rows, columns] = dims;
                let expected: Vec<f32> = match turned {
                    false => (0..e * rows * columns).map(at).collect(),
                    true => (0..e * rows * columns)
                        .map(|i| (i / (rows * columns), i / rows % columns, i % rows))
                        .map(|(e, c, r)| at((e * rows + r) * columns + c))
                        .collect(),
                };
                let found = values(&c, name);
                assert_eq!(found.1, expected, "{name} {dims:?}");
                assert_eq!(found.0, if turned { [e, columns, rows] } else { dims });
                // Cast and quantized for writing, too.
                let ty = TensorType::new(DType::BF16, found.0.clone());
                assert_eq!(c.ty(name).unwrap().with_dtype(DType::BF16), ty);
            }
        }
        let e = open(&[(names[0], &[2, 6, 4]), (names[1], &[2, 4, 4])]).unwrap_err();
        assert!(e.contains("which no experts have"), "{e}");
    }
}
