//! `percept inspect --model`: the input of a model for a prompt and its media.

use std::path::{Path, PathBuf};

use percept::infer::{TranscribeOptions, View};
use percept::modalities::Media;
use percept::modalities::audio::{Limits, decode};
use percept::modalities::image::Image;
use percept::model::Model;
use serde_json::{Value as Json, json};

use super::conversation::{Conversation, decode_image};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::output::printable;
use crate::cli::table::table;

/// Make the view that a model has of a conversation. A model of images and texts takes several texts, Whisper
/// audio and no text.
pub fn view(model: &Model, conversation: Conversation, texts: &[String]) -> Result<View, Failure> {
    let several = texts.len() > 1;
    match model {
        Model::Causal(model) => {
            if several {
                let why = "this model takes one prompt; put it in quotes, or give --messages F.json";
                return Err(Failure::Usage(why.into()));
            }
            let messages = conversation.messages()?;
            let media = conversation.media(&messages, &**model)?;
            Ok(View::of_chat(&**model, &messages, &media)?)
        }
        Model::Contrastive(model) => {
            let files = conversation.only_images("this model takes images and texts")?;
            let images = files.iter().map(|file| decode_image(file)).collect::<Result<Vec<_>, _>>()?;
            if images.is_empty() && texts.is_empty() {
                return Err(Failure::Usage("nothing to show: give --image F, or texts".into()));
            }
            Ok(View::of_contrastive(model, texts, &images)?)
        }
        Model::ImageEncoder(model) => {
            let files = conversation.only_images("this model takes images alone")?;
            if files.is_empty() || !texts.is_empty() {
                return Err(Failure::Usage("this model takes images and no text: give --image F".into()));
            }
            let images = files.iter().map(|file| decode_image(file)).collect::<Result<Vec<_>, _>>()?;
            Ok(View::of_image_encoder(model, &images)?)
        }
        Model::TextEncoder(model) => {
            conversation.only_images("this model takes texts alone")?.first().map_or(Ok(()), |_| {
                Err(Failure::Usage("this model embeds texts and takes no images".into()))
            })?;
            let [text] = texts else {
                return Err(Failure::Usage("this model takes one text; put it in quotes".into()));
            };
            Ok(View::of_text_encoder(model, text)?)
        }
        Model::Frames(model) => {
            if !texts.is_empty() {
                return Err(Failure::Usage("this model takes --audio F and no text".into()));
            }
            let files = conversation.only_audio("this model takes audio alone")?;
            Ok(View::of_frames(model, &heard(files, model.features.rate())?)?)
        }
        Model::Speech(model) => {
            if !texts.is_empty() {
                let why = "this model takes --audio F and no text: what it begins with depends on language and task";
                return Err(Failure::Usage(why.into()));
            }
            let files = conversation.only_audio("this model takes audio alone")?;
            let media = heard(files, model.features().rate())?;
            Ok(View::of_speech(model, &media, &TranscribeOptions::default())?)
        }
    }
}

/// The sound of files.
fn heard(files: &[PathBuf], rate: u32) -> Result<Media, Failure> {
    let mut media = Media::default();
    for file in files {
        let why = |e: percept::modalities::Error| Failure::Content { path: file.clone(), why: e.to_string() };
        media.audios.push(decode(file, rate, &Limits::default()).map_err(why)?);
    }
    Ok(media)
}

/// Write what the model sees of each medium as PNG files; gives their paths, medium by medium.
pub fn write_previews(view: &View, folder: &Path) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let failure = |source| Failure::File { path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(failure)?;
    let mut all = Vec::new();
    for (number, medium) in view.media.iter().enumerate() {
        let images = view.images(number);
        let mut paths = Vec::new();
        for (i, image) in images.iter().enumerate() {
            let name = match images.len() {
                1 => format!("{number:02}-{}.png", medium.kind),
                _ => format!("{number:02}-{}-{i:03}.png", medium.kind),
            };
            let path = folder.join(name);
            write_file(&path, &png(image)?)?;
            paths.push(path);
        }
        all.push(paths);
    }
    Ok(all)
}

fn png(image: &Image) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    let size = (image.width as u32, image.height as u32);
    image::ImageEncoder::write_image(encoder, &image.rgb, size.0, size.1, image::ExtendedColorType::Rgb8)
        .map_err(|e| Failure::Negative(format!("a preview cannot be written as PNG: {e}")))?;
    Ok(bytes)
}

/// The view as JSON, with the previews that were written.
pub fn document(view: &View, previews: &[Vec<PathBuf>]) -> Json {
    let mut document = json!(view);
    for (medium, paths) in previews.iter().enumerate() {
        document["media"][medium]["previews"] = paths.iter().map(|p| p.display().to_string()).collect();
    }
    document
}

/// The view as tables.
pub fn print(view: &View, previews: &[Vec<PathBuf>]) {
    println!("prompt\n  {}\n", view.prompt.lines().map(printable).collect::<Vec<_>>().join("\n  "));
    let mut tokens = table(&["TOKENS", "ID", "PIECE"], &[0, 1]);
    let mut from = 0;
    while from < view.tokens.len() {
        // Placeholders of one medium are many alike.
        let token = &view.tokens[from];
        let alike = view.tokens[from..].iter().take_while(|t| *t == token).count();
        let at = if alike == 1 { from.to_string() } else { format!("{from}..{}", from + alike) };
        let times = if alike == 1 { String::new() } else { format!("  × {alike}") };
        let piece = token.piece.as_deref().map_or("(not in the vocabulary)".into(), printable);
        tokens.add_row([at, token.id.to_string(), format!("{piece}{times}")]);
        from += alike;
    }
    println!("{tokens}\n{} tokens", view.tokens.len());
    if !view.media.is_empty() {
        let mut media = table(&["MEDIUM", "TOKENS", "FEATURES", "GRID", "SOURCE", "FRAMES AT SECONDS"], &[2]);
        for (i, m) in view.media.iter().enumerate() {
            let none = || "-".to_string();
            let grid = m.grid.as_ref().zip(m.grid_of).map(|(g, of)| format!("{} {of}", times(g)));
            let size = m.size.map(|s| times(&s));
            let seconds = m.seconds.map(|s| format!("{s:.2} s"));
            let source: Vec<String> = size.into_iter().chain(seconds).collect();
            let frames = m.frames.iter().flatten().zip(m.times.iter().flatten());
            let frames: Vec<String> = frames.map(|(f, t)| format!("{f} at {t:.2}")).collect();
            media.add_row([
                format!("{i} {}", m.kind),
                m.range.map_or_else(none, |[a, b]| format!("{a}..{b}")),
                m.features.to_string(),
                grid.unwrap_or_else(none),
                source.join(", "),
                frames.join(", "),
            ]);
        }
        println!("\n{media}");
    }
    let mut tensors = table(&["TENSOR", "OF", "TYPE", "SHA-256 OF ITS BYTES"], &[]);
    let own = view.media.iter().enumerate().filter(|_| view.media.len() > 1);
    let own = own.flat_map(|(i, m)| m.tensors.iter().map(move |t| (format!("{i} {}", m.kind), t)));
    for (of, t) in view.tensors.iter().map(|t| ("all".to_string(), t)).chain(own) {
        let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
        tensors.add_row([t.name.clone(), of, format!("{}[{}]", t.dtype, shape.join(",")), t.sha256.clone()]);
    }
    println!("\n{tensors}");
    for note in &view.notes {
        println!("\nnote: {note}");
    }
    for path in previews.iter().flatten() {
        println!("wrote {}", path.display());
    }
}

fn times(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}
