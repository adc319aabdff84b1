//! A model as GGUF: the text's file and, where images are read, that of the tower and the projector beside
//! it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percept_files::{AtomicFile, check_free};
use percept_graph::{DType, TensorType};
use serde_json::{Value as Json, json};

use super::super::error::{Result, unsupported, unwritable};
use super::super::gguf::{self, Architecture, Given, Projector};
use super::super::{Checkpoint, More};
use super::Converted;
use super::gguf_file::{self, File, Source, Text};

/// What a checkpoint becomes.
struct GgufPair {
    architecture: &'static Architecture,
    projector: Option<&'static Projector>,
    /// The text's part of config.json.
    text: Json,
}

impl GgufPair {
    fn of(checkpoint: &Checkpoint) -> std::result::Result<GgufPair, String> {
        let config = checkpoint.config();
        let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
        let projector = Projector::of_model_type(model_type);
        let mut text = match (projector, config.get("text_config")) {
            (None, _) => config.clone(),
            (Some(_), Some(text)) => text.clone(),
            // Early checkpoints have the text's keys beside the tower's.
            (Some(_), None) => {
                let mut text = config.clone();
                if let Some(text) = text.as_object_mut() {
                    text.retain(|key, _| !["model_type", "vision_config"].contains(&key.as_str()));
                }
                text
            }
        };
        if let (Some(projector), Some(text)) = (projector, text.as_object_mut()) {
            text.entry("model_type").or_insert(json!(projector.text_type));
        }
        // Another GGUF file says itself what it is.
        let (named, found) = match &checkpoint.more {
            More::Gguf { keys, .. } => {
                let name = keys.text("general.architecture").map_err(|e| e.to_string())?.unwrap_or_default();
                let found = Architecture::named(&name);
                (name, found)
            }
            _ => {
                let name = text.get("model_type").and_then(Json::as_str).unwrap_or_default();
                (name.to_string(), Architecture::of_model_type(name))
            }
        };
        let Some(architecture) =
            found.filter(|a| a.is_written() && projector.is_none_or(|p| p.texts.contains(&a.name)))
        else {
            let known: Vec<&str> = Architecture::model_types().chain(Projector::model_types()).collect();
            let what = match projector {
                Some(_) => format!("a model of type '{model_type}' with a text part of type '{named}'"),
                None => format!("a model of type '{model_type}'"),
            };
            return Err(format!("{what} cannot be written as GGUF; these can: {}", known.join(", ")));
        };
        Ok(GgufPair { architecture, projector, text })
    }
}

/// Write a GGUF file, and the projector's beside it if there is one.
///
/// # Errors
/// When something is at one of the places already, the format cannot hold the model or the dtype, or a value
/// does not fit.
pub(super) fn write(checkpoint: &Checkpoint, out: &Path, dtype: Option<DType>) -> Result<Converted> {
    let bad = |why: String| unsupported(checkpoint.path(), why);
    let pair = GgufPair::of(checkpoint).map_err(bad)?;
    let mut done = Converted::default();
    crate::family::check_extents(checkpoint).map_err(|e| bad(e.to_string()))?;
    let (text, media) = files(checkpoint, &pair, dtype, &mut done).map_err(bad)?;
    let beside = media_place(out).map_err(|why| unsupported(out, why))?;
    let begin = |place: &Path| {
        check_free(place).and_then(|()| AtomicFile::create_shared(place)).map_err(unwritable(place))
    };
    let (mut text_file, media_file) = (begin(out)?, media.as_ref().map(|_| begin(&beside)).transpose()?);
    text.count(&mut done);
    text.write(checkpoint, &mut text_file)?;
    if let (Some(media), Some(mut media_file)) = (media, media_file) {
        media.count(&mut done);
        media.write(checkpoint, &mut media_file)?;
        let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        done.notes.push(format!("the tower and the projector are in {name}; the two files go together"));
        // A projector without its text says what it is; a text without its projector would pass for a whole
        // model.
        media_file.finish().map_err(unwritable(&beside))?;
    }
    text_file.finish().map_err(unwritable(out))?;
    Ok(done)
}

/// Where the projector's file goes.
fn media_place(out: &Path) -> std::result::Result<PathBuf, String> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    if gguf::is_projector(&name) {
        return Err("a name with 'mmproj' is a projector's; name the text model's file".into());
    }
    Ok(out.with_file_name(format!("mmproj-{name}")))
}

fn files(
    checkpoint: &Checkpoint,
    pair: &GgufPair,
    dtype: Option<DType>,
    done: &mut Converted,
) -> std::result::Result<(File, Option<File>), String> {
    let whisper = pair.architecture.is_whisper();
    let plain = |name: &str| match pair.projector {
        Some(projector) => projector.plain(name),
        // As some releases of transformers write it.
        None if whisper && (name.starts_with("encoder.") || name.starts_with("decoder.")) => {
            format!("model.{name}")
        }
        None => name.to_string(),
    };
    let (mut of_text, mut of_media) = (BTreeMap::new(), BTreeMap::new());
    for name in checkpoint.tensors.keys() {
        let plain = plain(name);
        let is_text = pair.projector.is_none()
            || pair.architecture.to_ggml(&plain).is_some()
            || plain == "rope_freqs.weight";
        let names = if is_text { &mut of_text } else { &mut of_media };
        if names.insert(plain, name.clone()).is_some() {
            return Err(format!("tensor '{name}' is there under another name too"));
        }
    }
    let is_gguf = matches!(checkpoint.more, More::Gguf { .. });
    let described = match is_gguf {
        // Its own keys say all that there is to say.
        true => None,
        false => Some(gguf::of_config(&pair.text, pair.architecture)?),
    };
    let width = described.as_ref().map_or(0, |d| d.hidden);
    let mut more = Vec::new();
    let media = match pair.projector {
        None => None,
        Some(projector) => {
            let (file, deepstack) = media(checkpoint, projector, (of_media, width), dtype, done)?;
            if pair.architecture.name == "qwen3vl" && !is_gguf {
                let key = "qwen3vl.n_deepstack_layers".to_string();
                more.push((key, Given::U32(u32::try_from(deepstack).unwrap_or(u32::MAX))));
            }
            Some(file)
        }
    };
    for name in gguf::PROCESSOR_FILES.iter().filter(|_| whisper && !is_gguf) {
        if let Some(bytes) = checkpoint.file(name).map_err(|e| e.to_string())? {
            let file: Json = serde_json::from_slice(&bytes).map_err(|e| format!("{name}: {e}"))?;
            more.push((gguf::file_key(name), Given::Text(file.to_string())));
        }
    }
    let tied = pair.text.get("tie_word_embeddings") == Some(&json!(true));
    let text = Text {
        checkpoint,
        architecture: pair.architecture,
        config: &pair.text,
        names: of_text,
        // In a pair what the file holds decides, as when it is opened.
        drops_tied: tied && pair.projector.is_none(),
        more,
    };
    Ok((gguf_file::text(text, described, dtype, done)?, media))
}

/// The projector's file, and the number of blocks that give features of their own.
fn media(
    checkpoint: &Checkpoint,
    projector: &'static Projector,
    (names, width): (BTreeMap<String, String>, usize),
    dtype: Option<DType>,
    done: &mut Converted,
) -> std::result::Result<(File, usize), String> {
    let dims: BTreeMap<String, Vec<usize>> =
        names.iter().map(|(plain, name)| (plain.clone(), checkpoint.tensors[name].ty.dims.clone())).collect();
    let mut keys = gguf_file::started(gguf::PROJECTOR_ARCHITECTURE, Some("mmproj"), dtype)?;
    let (deepstack, blocks) = match &checkpoint.more {
        More::Gguf { media: Some(media), .. } => {
            gguf_file::keep(&media.keys, dtype, &mut keys);
            (media.deepstack().map_err(|e| e.to_string())?, usize::MAX)
        }
        _ => {
            keys.push(("general.name".into(), Given::Text(gguf_file::name_of(checkpoint))));
            let file = |name: &str| checkpoint.file(name).map_err(|e| e.to_string());
            let described = gguf::describe_media(projector, checkpoint.config(), width, &dims, file)?;
            keys.extend(described.keys);
            (described.deepstack, described.blocks)
        }
    };
    let mut file = File::default();
    let mut left_out = Vec::new();
    for (plain, name) in names {
        if projector.leaves_out(&plain, blocks) {
            left_out.push(name);
            continue;
        }
        let stored = &checkpoint.tensors[&name];
        let Some(parts) = projector.parts(&plain, &stored.ty.dims, &deepstack)? else {
            return Err(format!("tensor '{name}' has no name in projectors of kind '{}'", projector.name));
        };
        for part in parts {
            let ty = TensorType::new(stored.ty.dtype, part.dims);
            let (target, why) = target(&part.ggml, &ty, dtype)?;
            if let Some(why) = why.filter(|_| dtype.is_some_and(|d| d != target)) {
                done.kept.push((name.clone(), target, why));
            }
            gguf_file::check_written(checkpoint, &name, target)?;
            let source = Source::Tensor { name: name.clone(), change: part.change, piece: part.piece };
            file.push(part.ggml, ty.with_dtype(target), source);
        }
    }
    if let [first, rest @ ..] = &left_out[..] {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        done.notes.push(format!("nothing reads '{first}'{more} of the tower, so they are left out"));
    }
    file.head.keys = keys;
    Ok((file, deepstack.len()))
}

/// The dtype of a tensor in a projector's file, and why it is not the one asked for. As llama.cpp's converter
/// has it: towers are never smaller than q8_0, and what it convolves or looks up stays in floats.
fn target(
    ggml: &str,
    ty: &TensorType,
    dtype: Option<DType>,
) -> std::result::Result<(DType, Option<&'static str>), String> {
    let own = ty.dtype;
    if !own.is_float() && !own.is_quantized() {
        return Err(format!("tensor '{ggml}' is {own}, no floats"));
    }
    let wanted = dtype.unwrap_or(own);
    if ty.rank() < 2 {
        return Ok((DType::F32, Some("vectors are f32 in GGUF")));
    }
    let convolved = ggml.starts_with("v.patch_embd.") || ggml.starts_with("mm.input_projection.");
    if convolved || ggml.starts_with("v.position_embd.") {
        let half = convolved && wanted == DType::F16;
        return Ok((
            if half { DType::F16 } else { DType::F32 },
            Some("llama.cpp computes with it in floats"),
        ));
    }
    if !wanted.is_quantized() || dtype.is_none() {
        return Ok((wanted, None));
    }
    let row = ty.dims.last().copied().unwrap_or(0);
    match row.is_multiple_of(DType::Q8_0.block_len()) {
        true => Ok((DType::Q8_0, Some("towers are kept finer"))),
        false => Ok((DType::F16, Some("its rows are no whole blocks"))),
    }
}

impl Projector {
    /// Whether a tensor of a tower is one that nothing reads: beyond so many blocks, or of another use of the
    /// tower.
    fn leaves_out(&self, plain: &str, blocks: usize) -> bool {
        let Some(rest) = plain.strip_prefix("vision_tower.") else { return false };
        let number = rest.strip_prefix("encoder.layers.").and_then(|r| r.split_once('.')?.0.parse().ok());
        number.is_some_and(|n: usize| n >= blocks)
            || rest.starts_with("head.")
            || rest == "embeddings.position_ids"
            || rest.starts_with("post_layernorm.") && self.ends_inside()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_are_kept_finer_and_what_is_convolved_stays_in_floats() {
        let of = |name: &str, dims: &[usize], own: DType, dtype: Option<DType>| {
            target(name, &TensorType::new(own, dims.to_vec()), dtype).unwrap().0
        };
        let (patch, up) = ("v.patch_embd.weight", "v.blk.0.ffn_up.weight");
        assert_eq!(of(patch, &[8, 3, 2, 2], DType::BF16, None), DType::F32);
        assert_eq!(of(patch, &[8, 3, 2, 2], DType::F32, Some(DType::F16)), DType::F16);
        assert_eq!(of(up, &[8, 64], DType::BF16, None), DType::BF16);
        assert_eq!(of(up, &[8, 64], DType::F32, Some(DType::Q4K)), DType::Q8_0);
        assert_eq!(of(up, &[8, 40], DType::F32, Some(DType::Q4K)), DType::F16);
        assert_eq!(of("v.blk.0.ln1.weight", &[8], DType::F16, Some(DType::F16)), DType::F32);
        assert!(target(up, &TensorType::new(DType::I32, [2, 2]), None).is_err());
        assert!(media_place(Path::new("a/mmproj-x.gguf")).is_err());
    }
}
