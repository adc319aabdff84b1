//! The tensors of a tower and its projector under both names, and those that are put together of several.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::super::error::{Result, damaged};
use super::super::super::tensor::{Change, StoredTensor};
use super::super::architecture::rename;
use super::{CLASS, PROJECTION, Projector, SECOND_FRAME, SOFT_NORM, Tower};

/// The tensor of patches whose two frames lie in two tensors.
const BOTH_FRAMES: &str = "visual.patch_embed.proj.weight";

/// A tensor of a file, and where its values come from.
pub(crate) struct Part {
    /// Its name in the file.
    pub ggml: String,
    /// Its extents.
    pub dims: Vec<usize>,
    /// What is done to the values.
    pub change: Change,
    /// Which of the values they are; all of them where there is none.
    pub piece: Option<Piece>,
}

/// One of several equal pieces of each of `runs` runs of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub runs: usize,
    pub of: usize,
    pub index: usize,
}

impl Piece {
    /// The piece's bytes of all values'.
    pub fn cut(self, bytes: &[u8]) -> Vec<u8> {
        let width = bytes.len() / self.runs.saturating_mul(self.of).max(1);
        let pieces = bytes.chunks_exact(width.max(1));
        pieces.skip(self.index).step_by(self.of).flatten().copied().collect()
    }
}

impl Projector {
    /// What becomes of a tensor of a checkpoint by its plain name; `None` where it is not one of the tower or
    /// the projector. Extra features are numbered by the blocks behind which they are made.
    ///
    /// # Errors
    /// When a tensor cannot be cut into the pieces it has in a file.
    pub fn parts(
        &self,
        plain: &str,
        dims: &[usize],
        deepstack: &[usize],
    ) -> std::result::Result<Option<Vec<Part>>, String> {
        let whole = |ggml: String, change: Change| {
            Ok(Some(vec![Part { ggml, dims: dims.to_vec(), change, piece: None }]))
        };
        if self.tower == Tower::Llava && plain == CLASS.1 {
            return whole(CLASS.0.into(), Change::None);
        }
        if self.tower == Tower::Gemma3 && plain == PROJECTION.1 {
            return whole(PROJECTION.0.into(), Change::None);
        }
        if self.tower.is_qwen() && plain == BOTH_FRAMES {
            let [out, channels, 2, height, width] = *dims else {
                return Err(format!(
                    "tensor '{plain}' is {dims:?}; llama.cpp's files hold patches of two frames"
                ));
            };
            let part = |index: usize, ggml: &str| Part {
                ggml: ggml.into(),
                dims: vec![out, channels, height, width],
                change: Change::None,
                piece: Some(Piece { runs: out.saturating_mul(channels), of: 2, index }),
            };
            return Ok(Some(vec![part(0, "v.patch_embd.weight"), part(1, SECOND_FRAME)]));
        }
        if self.tower.splits_attention()
            && let Some(fused) = rename(plain, "visual.blocks.N.attn.qkv", "v.blk.N.attn_")
        {
            let Some((rows, rest)) = dims.split_first().filter(|(rows, _)| rows.is_multiple_of(3)) else {
                return Err(format!("tensor '{plain}' {dims:?} is not the rows of queries, keys and values"));
            };
            let part = |(index, which): (usize, &str)| Part {
                ggml: fused.replacen("attn_", &format!("attn_{which}"), 1),
                dims: [&[rows / 3], rest].concat(),
                change: Change::None,
                piece: Some(Piece { runs: 1, of: 3, index }),
            };
            return Ok(Some(["q", "k", "v"].into_iter().enumerate().map(part).collect()));
        }
        if self.tower == Tower::Qwen3 && plain.starts_with("visual.patch_embed.proj.") {
            return whole(plain.replace("visual.patch_embed.proj.", "v.patch_embd."), Change::None);
        }
        let Some(ggml) = self.rows.iter().copied().flatten().find_map(|row| rename(plain, row.hf, row.ggml))
        else {
            return Ok(None);
        };
        if let Some(rest) = ggml.strip_prefix("v.deepstack.") {
            let (number, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let block = number.parse().ok().and_then(|k: usize| deepstack.get(k));
            let block = block.ok_or_else(|| {
                format!("tensor '{plain}' is beyond the {} of 'deepstack_visual_indexes'", deepstack.len())
            })?;
            return whole(format!("v.deepstack.{block}.{rest}"), Change::None);
        }
        // Reading takes away what writing adds.
        whole(ggml.clone(), if ggml == SOFT_NORM { Change::MinusOne } else { Change::None })
    }

    /// The tensors of a file under the names they have in a pair. Those that are not known keep the names
    /// they have.
    ///
    /// # Errors
    /// When tensors that belong together do not fit one another.
    pub fn assemble(
        &self,
        path: &Path,
        mut tensors: BTreeMap<String, StoredTensor>,
        deepstack: &[usize],
    ) -> Result<BTreeMap<String, StoredTensor>> {
        unswap(&mut tensors);
        let mut found = BTreeMap::new();
        if let Some(second) = tensors.remove(SECOND_FRAME) {
            let first = tensors.remove("v.patch_embd.weight");
            let apart = || {
                let why =
                    format!("tensors 'v.patch_embd.weight' and '{SECOND_FRAME}' do not fit one another");
                damaged(path, why)
            };
            let first = first.filter(|f| f.ty.dims == second.ty.dims).ok_or_else(apart)?;
            let [out, channels, height, width] = first.ty.dims[..] else { return Err(apart()) };
            let dims = vec![out, channels, 2, height, width];
            let both = StoredTensor::joined(
                BOTH_FRAMES,
                dims,
                vec![first, second],
                out.checked_mul(channels).ok_or_else(apart)?,
            )?;
            found.insert(self.media_name(BOTH_FRAMES.into()), both);
        }
        if self.tower.splits_attention() {
            let firsts: Vec<String> = tensors
                .keys()
                .filter(|n| n.starts_with("v.blk.") && n.contains(".attn_q."))
                .cloned()
                .collect();
            for q in firsts {
                let Some(fused) = rename(&q, "v.blk.N.attn_q", "visual.blocks.N.attn.qkv") else { continue };
                let parts: Vec<StoredTensor> = ["attn_q", "attn_k", "attn_v"]
                    .iter()
                    .filter_map(|which| tensors.remove(&q.replacen("attn_q", which, 1)))
                    .collect();
                let dims = parts.first().map(|p| p.ty.dims.clone()).unwrap_or_default();
                let alike = parts.len() == 3 && parts.iter().all(|p| p.ty.dims == dims);
                let Some((rows, rest)) = dims.split_first().filter(|_| alike) else {
                    let why = format!("tensor '{q}' has no keys or values of its shape beside it");
                    return Err(damaged(path, why));
                };
                let dims = [&[rows.saturating_mul(3)], rest].concat();
                let joined = StoredTensor::joined(&fused, dims, parts, 1)?;
                found.insert(self.media_name(fused), joined);
            }
        }
        for (ggml, mut stored) in tensors {
            let plain = match ggml.as_str() {
                name if name == CLASS.0 && self.tower == Tower::Llava => Some(CLASS.1.to_string()),
                name if name == PROJECTION.0 && self.tower == Tower::Gemma3 => Some(PROJECTION.1.to_string()),
                name if name.starts_with("v.patch_embd.") && self.tower.is_qwen() => {
                    Some(name.replacen("v.patch_embd.", "visual.patch_embed.proj.", 1))
                }
                name => self.rows.iter().copied().flatten().find_map(|row| rename(name, row.ggml, row.hf)),
            };
            if ggml == SOFT_NORM {
                if !stored.ty.dtype.is_float() {
                    return Err(damaged(path, format!("norm '{ggml}' is {}, not floats", stored.ty)));
                }
                stored.change = Change::MinusOne;
            }
            let Some(mut plain) = plain else {
                found.insert(ggml, stored);
                continue;
            };
            if let Some(rest) = plain.strip_prefix("visual.deepstack_merger_list.") {
                let (block, rest) = rest.split_once('.').unwrap_or((rest, ""));
                let k = deepstack.iter().position(|d| d.to_string() == block);
                let k = k.ok_or_else(|| {
                    let why =
                        format!("tensor '{ggml}' belongs to no block of 'clip.vision.is_deepstack_layers'");
                    damaged(path, why)
                })?;
                plain = format!("visual.deepstack_merger_list.{k}.{rest}");
            }
            let name = self.media_name(plain);
            if found.insert(name.clone(), stored).is_some() {
                return Err(damaged(path, format!("two tensors are '{name}'")));
            }
        }
        Ok(found)
    }
}

/// Early converters gave the two matrices of an MLP each other's names. The one into the wider rows is the
/// first.
pub(super) fn unswap(tensors: &mut BTreeMap<String, StoredTensor>) {
    let ups: Vec<String> = tensors.keys().filter(|n| n.ends_with(".ffn_up.weight")).cloned().collect();
    for up in ups {
        let down = up.replace(".ffn_up.", ".ffn_down.");
        let norm = up.replace(".ffn_up.", ".ln2.");
        let hidden = tensors.get(&norm).map_or(0, |t| t.ty.numel());
        let reads = |name: &str| tensors.get(name).and_then(|t| t.ty.dims.last().copied());
        if hidden == 0 || reads(&down) != Some(hidden) || reads(&up) == Some(hidden) {
            continue;
        }
        for suffix in ["weight", "bias"] {
            let [a, b] = [&up, &down].map(|n| n.replace("weight", suffix));
            let (first, second) = (tensors.remove(&a), tensors.remove(&b));
            tensors.extend(first.map(|t| (b, t)));
            tensors.extend(second.map(|t| (a, t)));
        }
    }
}
