//! The conversation of a command line: its turns and the media that they show.

use std::path::{Path, PathBuf};

use clap::Args;
use percept::modalities::{Content, Media, Message, Part, Processor, audio, image, video};

use super::Failure;
use super::failure::{read_bytes, read_text};

/// Files of media on the command line.
#[derive(Args)]
pub struct MediaFiles {
    /// An image before the prompt; may be repeated
    #[arg(long, value_name = "F")]
    pub image: Vec<PathBuf>,
    /// A video before the prompt; may be repeated
    #[arg(long, value_name = "F")]
    pub video: Vec<PathBuf>,
    /// An audio file before the prompt; may be repeated
    #[arg(long, value_name = "F")]
    pub audio: Vec<PathBuf>,
}

#[derive(Args)]
pub struct Conversation {
    #[command(flatten)]
    pub files: MediaFiles,
    /// A JSON list of messages with role and content, as chat templates take them, instead of a prompt
    #[arg(long, value_name = "F.json", conflicts_with = "prompt")]
    pub messages: Option<PathBuf>,
    /// What the user says; `-` reads it from standard input
    pub prompt: Option<String>,
}

impl Conversation {
    /// The turns: those of the file, or one of the user's with the media before the text.
    pub fn messages(&self) -> Result<Vec<Message>, Failure> {
        if let Some(file) = &self.messages {
            let why = |e: serde_json::Error| Failure::Content { path: file.clone(), why: e.to_string() };
            return serde_json::from_str(&read_text(file)?).map_err(why);
        }
        let text = match self.prompt.as_deref() {
            Some("-") => std::io::read_to_string(std::io::stdin())
                .map_err(|source| Failure::File { path: "standard input".into(), source })?,
            Some(text) => text.to_string(),
            None => return Err(Failure::Usage("give a prompt, or --messages with a file of them".into())),
        };
        let shown = [
            vec![Part::Image { path: None }; self.files.image.len()],
            vec![Part::Video { path: None }; self.files.video.len()],
            vec![Part::Audio { path: None }; self.files.audio.len()],
        ];
        let mut parts = shown.concat();
        let content = if parts.is_empty() {
            Content::Text(text)
        } else {
            parts.push(Part::Text { text });
            Content::Parts(parts)
        };
        Ok(vec![Message { role: "user".into(), content }])
    }

    /// The media that the turns mention, decoded as the model wants them: by the path in the turn, relative to the file
    /// of messages, or from the command line in order.
    pub fn media(&self, messages: &[Message], processor: &dyn Processor) -> Result<Media, Failure> {
        let beside = self.messages.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut given = [self.files.image.iter(), self.files.video.iter(), self.files.audio.iter()];
        let mut next = |kind: usize, path: &Option<String>| -> Result<PathBuf, Failure> {
            const FLAGS: [&str; 3] = ["--image", "--video", "--audio"];
            match path {
                Some(path) => Ok(beside.join(path)),
                None => given[kind].next().cloned().ok_or_else(|| {
                    Failure::Usage(format!("the messages mention more than {} gives", FLAGS[kind]))
                }),
            }
        };
        let mut media = Media::default();
        for message in messages {
            let Content::Parts(parts) = &message.content else { continue };
            for part in parts {
                match part {
                    Part::Text { .. } => {}
                    Part::Image { path } => media.images.push(picture(&next(0, path)?)?),
                    Part::Video { path } => media.videos.push(clip(&next(1, path)?, processor)?),
                    Part::Audio { path } => media.audios.push(sound(&next(2, path)?, processor)?),
                }
            }
        }
        let left: usize = given.iter().map(ExactSizeIterator::len).sum();
        if left > 0 {
            return Err(Failure::Usage(format!("{left} of the files given are mentioned by no message")));
        }
        Ok(media)
    }
}

impl Conversation {
    /// The images, for a model that takes no other media; `takes` says so.
    pub fn only_images(&self, takes: &str) -> Result<&[PathBuf], Failure> {
        self.only(takes, self.files.video.iter().chain(&self.files.audio))?;
        Ok(&self.files.image)
    }

    /// The audio files, for a model that takes no other media; `takes` says so.
    pub fn only_sounds(&self, takes: &str) -> Result<&[PathBuf], Failure> {
        self.only(takes, self.files.image.iter().chain(&self.files.video))?;
        Ok(&self.files.audio)
    }

    fn only<'a>(&'a self, takes: &str, others: impl Iterator<Item = &'a PathBuf>) -> Result<(), Failure> {
        match others.chain(&self.messages).next() {
            Some(other) => Err(Failure::Usage(format!("{takes}; leave {} out", other.display()))),
            None => Ok(()),
        }
    }
}

fn of(path: &Path, e: percept::modalities::Error) -> Failure {
    Failure::Content { path: path.to_path_buf(), why: e.to_string() }
}

/// A picture of any format.
pub fn picture(path: &Path) -> Result<image::Image, Failure> {
    image::decode(&read_bytes(path)?, &image::Limits::default()).map_err(|e| of(path, e))
}

fn clip(path: &Path, processor: &dyn Processor) -> Result<video::Clip, Failure> {
    let sampling = processor
        .video_sampling()
        .ok_or_else(|| Failure::Usage(format!("{}: this model takes no video", path.display())))?;
    video::sample(path, &sampling, &video::Limits::default()).map_err(|e| of(path, e))
}

fn sound(path: &Path, processor: &dyn Processor) -> Result<audio::Waveform, Failure> {
    let rate = processor
        .audio_rate()
        .ok_or_else(|| Failure::Usage(format!("{}: this model takes no sound", path.display())))?;
    audio::decode(path, rate, &audio::Limits::default()).map_err(|e| of(path, e))
}
