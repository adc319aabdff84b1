//! The conversation of a command line: its turns and the media that they show.

use std::path::{Path, PathBuf};

use clap::Args;
use percept::modalities::kind::Medium;
use percept::modalities::{Content, Media, Message, Part, Processor, Source, audio, image, video};
use percept::model::CausalModel;
use percept::model::text::template;
use serde_json::{Map, Value};

use crate::cli::Failure;
use crate::cli::failure::{read_bytes, read_text};

/// Files of media on the command line.
#[derive(Args, Default)]
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

/// Variables of the chat template.
#[derive(Args)]
pub struct TemplateVariables {
    /// A JSON list of the tools that the model may call, as its chat template reads them (JSON schemas of functions)
    #[arg(long, value_name = "F.json")]
    tools: Option<PathBuf>,
    /// A variable that the chat template reads, such as enable_thinking=false; a value that is no JSON is a text; may be
    /// repeated
    #[arg(long = "template-var", value_name = "KEY=JSON")]
    template_vars: Vec<String>,
}

impl TemplateVariables {
    fn are_given(&self) -> bool {
        self.tools.is_some() || !self.template_vars.is_empty()
    }

    /// What the chat template reads beside the turns.
    pub fn read(&self) -> Result<Map<String, Value>, Failure> {
        let mut variables = Map::new();
        for pair in &self.template_vars {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| Failure::Usage(format!("--template-var {pair}: give KEY=JSON")))?;
            if matches!(key, "messages" | "add_generation_prompt") {
                return Err(Failure::Usage(format!(
                    "--template-var {key}: the conversation itself gives it"
                )));
            }
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            variables.insert(key.into(), value);
        }
        if let Some(file) = &self.tools {
            let why = |why: String| Failure::Content { path: file.clone(), why };
            let tools: Value = serde_json::from_str(&read_text(file)?).map_err(|e| why(e.to_string()))?;
            if !tools.is_array() {
                return Err(why("it must hold a JSON list of tools".into()));
            }
            variables.insert("tools".into(), tools);
        }
        Ok(variables)
    }
}

#[derive(Args)]
pub struct Conversation {
    #[command(flatten)]
    pub files: MediaFiles,
    /// A JSON list of messages with role and content, as chat templates take them, instead of a prompt
    #[arg(long, value_name = "F.json", conflicts_with = "prompt")]
    pub messages: Option<PathBuf>,
    #[command(flatten)]
    pub variables: TemplateVariables,
    /// The prompt of the user; `-` reads it from standard input
    pub prompt: Option<String>,
}

impl Conversation {
    /// Whether anything of a conversation is given, if only a file that no prompt goes with.
    pub fn is_given(&self) -> bool {
        let MediaFiles { image, video, audio } = &self.files;
        let has_files = [image, video, audio].iter().any(|files| !files.is_empty());
        self.prompt.is_some() || self.messages.is_some() || has_files || self.variables.are_given()
    }

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
        let MediaFiles { image, video, audio } = &self.files;
        let shown = [(Medium::Image, image), (Medium::Video, video), (Medium::Audio, audio)];
        let shown = shown.into_iter().flat_map(|(medium, files)| std::iter::repeat_n(medium, files.len()));
        Ok(vec![Message::new("user", Content::Text(text).after(shown))])
    }

    /// The media that the turns mention, decoded as the model wants them: by the path in the turn, relative to the file
    /// of messages, from the turn itself, or from the command line in order; and what the chat template reads beside.
    pub fn media(&self, messages: &[Message], model: &dyn CausalModel) -> Result<Media, Failure> {
        let processor = model.processor();
        let variables = self.variables.read()?;
        if let Some(name) = unread(&variables, model)? {
            return Err(Failure::Usage(format!(
                "the model's chat template reads no '{name}', so that it would change nothing; leave it out, or see how the \
                 template spells it"
            )));
        }
        let beside = self.messages.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut given = [self.files.image.iter(), self.files.video.iter(), self.files.audio.iter()];
        let mut next = |kind: usize, path: &Option<String>| -> Result<MediumSource, Failure> {
            const FLAGS: [&str; 3] = ["--image", "--video", "--audio"];
            match path {
                Some(path) => match Source::of(path).map_err(|e| Failure::Usage(e.to_string()))? {
                    Source::File(path) => Ok(MediumSource::File(beside.join(path))),
                    Source::Bytes(bytes) => Ok(MediumSource::Message(bytes)),
                },
                None => given[kind].next().cloned().map(MediumSource::File).ok_or_else(|| {
                    Failure::Usage(format!("the messages mention more than {} gives", FLAGS[kind]))
                }),
            }
        };
        let mut media = Media { variables, ..Media::default() };
        for message in messages {
            for part in message.content.parts() {
                match part {
                    Part::Text { .. } | Part::Other(_) => {}
                    Part::Image { path } => media.images.push(match next(0, path)? {
                        MediumSource::File(path) => decode_image(&path)?,
                        MediumSource::Message(bytes) => {
                            image::decode(&bytes, &image::Limits::default()).map_err(within)?
                        }
                    }),
                    Part::Video { path } => media.videos.push(sample_video(&next(1, path)?, processor)?),
                    Part::Audio { path } => media.audios.push(decode_audio(&next(2, path)?, processor)?),
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

/// The first variable that the chat template of a model does not read.
fn unread<'v>(
    variables: &'v Map<String, Value>,
    model: &dyn CausalModel,
) -> Result<Option<&'v String>, Failure> {
    if variables.is_empty() {
        return Ok(None);
    }
    let template = template(model.weights().checkpoint(), model.processor().tokenizer())?;
    Ok(variables.keys().find(|name| template.as_ref().is_none_or(|template| !template.reads(name))))
}

impl Conversation {
    /// The images, for a model that takes no other media; `takes` is the error for others.
    pub fn only_images(&self, takes: &str) -> Result<&[PathBuf], Failure> {
        self.only(takes, self.files.video.iter().chain(&self.files.audio))?;
        Ok(&self.files.image)
    }

    /// The audio files, for a model that takes no other media; `takes` is the error for others.
    pub fn only_audio(&self, takes: &str) -> Result<&[PathBuf], Failure> {
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

/// Where a medium is: in a file, or in the message itself.
pub enum MediumSource {
    /// Its path.
    File(PathBuf),
    /// Its bytes.
    Message(Vec<u8>),
}

/// What stands for a medium's path in errors where the message holds the medium itself.
const WITHIN: &str = "a data: URL in the messages";

fn within(e: percept::modalities::Error) -> Failure {
    of(Path::new(WITHIN), e)
}

fn of(path: &Path, e: percept::modalities::Error) -> Failure {
    Failure::Content { path: path.to_path_buf(), why: e.to_string() }
}

/// Decode an image of any format.
pub fn decode_image(path: &Path) -> Result<image::Image, Failure> {
    image::decode(&read_bytes(path)?, &image::Limits::default()).map_err(|e| of(path, e))
}

/// Decode the frames of a video that the model sees.
pub fn sample_video(source: &MediumSource, processor: &dyn Processor) -> Result<video::Clip, Failure> {
    let sampling = processor.video_sampling().ok_or_else(|| takes_no("video", source))?;
    let limits = video::Limits::default();
    match source {
        MediumSource::File(path) => video::sample(path, &sampling, &limits).map_err(|e| of(path, e)),
        MediumSource::Message(bytes) => {
            video::sample_bytes(WITHIN, bytes.as_slice().into(), &sampling, &limits).map_err(within)
        }
    }
}

/// Decode audio at the model's rate.
pub fn decode_audio(source: &MediumSource, processor: &dyn Processor) -> Result<audio::Waveform, Failure> {
    let rate = processor.audio_rate().ok_or_else(|| takes_no("audio", source))?;
    let limits = audio::Limits::default();
    match source {
        MediumSource::File(path) => audio::decode(path, rate, &limits).map_err(|e| of(path, e)),
        MediumSource::Message(bytes) => audio::decode_bytes(WITHIN, bytes, rate, &limits).map_err(within),
    }
}

fn takes_no(kind: &str, source: &MediumSource) -> Failure {
    let what = match source {
        MediumSource::File(path) => path.display().to_string(),
        MediumSource::Message(_) => WITHIN.into(),
    };
    Failure::Usage(format!("{what}: this model takes no {kind}"))
}
