//! Safetensors files, one or many.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use percept_graph::DType;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::error::{Result, damaged, unsupported};
use super::folder::{is_plain_name, read_capped};
use super::source::Source;
use super::tensor::{Form, StoredTensor};

/// Bytes of an index file, at most.
const INDEX_CAP: u64 = 64 << 20;

/// The tensors of one file. The header's lengths, offsets and overlaps are checked by the `safetensors`
/// crate.
pub(crate) fn tensors(source: &Arc<Source>) -> Result<BTreeMap<String, StoredTensor>> {
    let (path, bytes) = (source.path(), source.bytes());
    // The crate's words for a header cut short are about a buffer that it was given.
    if let Some(length) = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)) {
        let left = bytes.len() as u64 - 8;
        if length > left {
            let why =
                format!("its header is to be {length} bytes long, {left} are left; fetch the file again");
            return Err(damaged(path, why));
        }
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, e.to_string()))?;
    let data = header + 8;
    let mut all = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let form = form(info.dtype).ok_or_else(|| {
            let why = format!("tensor '{name}' is {:?}, which is not read here; cast it to BF16", info.dtype);
            unsupported(path, why)
        })?;
        let span = source.span(data + info.data_offsets.0..data + info.data_offsets.1, &name)?;
        let stored = StoredTensor::new(&name, form, info.shape.clone(), span)?;
        all.insert(name, stored);
    }
    Ok(all)
}

fn form(dtype: Dtype) -> Option<Form> {
    let integer = |bytes, signed| Form::Integer { bytes, signed };
    Some(match dtype {
        Dtype::F32 => Form::Graph(DType::F32),
        Dtype::F16 => Form::Graph(DType::F16),
        Dtype::BF16 => Form::Graph(DType::BF16),
        Dtype::I32 => Form::Graph(DType::I32),
        Dtype::U32 => Form::Graph(DType::U32),
        Dtype::U8 => Form::Graph(DType::U8),
        Dtype::BOOL => Form::Graph(DType::Bool),
        Dtype::F64 => Form::F64,
        Dtype::F8_E4M3 => Form::F8,
        Dtype::I8 => integer(1, true),
        Dtype::I16 => integer(2, true),
        Dtype::U16 => integer(2, false),
        Dtype::I64 => integer(8, true),
        Dtype::U64 => integer(8, false),
        _ => return None,
    })
}

/// What `model.safetensors.index.json` says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The tensors of every file that an index names, each exactly once.
pub(crate) fn sharded(index: &Path) -> Result<BTreeMap<String, StoredTensor>> {
    let text = read_capped(index, INDEX_CAP)?;
    let map = serde_json::from_slice::<Index>(&text).map_err(|e| damaged(index, e.to_string()))?.weight_map;
    let mut shards: Vec<&String> = map.values().collect();
    shards.sort();
    shards.dedup();
    let mut all: BTreeMap<String, StoredTensor> = BTreeMap::new();
    for shard in shards {
        if !is_plain_name(shard) {
            return Err(damaged(index, format!("'{shard}' is not the name of a file beside it")));
        }
        let path = index.with_file_name(shard);
        for (name, stored) in tensors(&Source::map(&path)?)? {
            if let Some(other) = all.get(&name) {
                let (a, b) = (other.span.path().display(), path.display());
                return Err(damaged(index, format!("tensor '{name}' is both in {a} and in {b}")));
            }
            all.insert(name, stored);
        }
    }
    if let Some((name, shard)) = map.iter().find(|(name, _)| !all.contains_key(*name)) {
        return Err(damaged(index, format!("tensor '{name}' should be in {shard} and is not")));
    }
    Ok(all)
}
