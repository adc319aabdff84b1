//! The turns of a conversation and the media that they show.

use std::path::Path;

use percept::modalities::{Content, Media, Message, Part, Processor};

use crate::cli::Failure;
use crate::cli::model::conversation::{MediumSource, decode_audio, decode_image, sample_video};

/// A conversation. Its media stand in the order in which its messages mention them, those of the next message last.
pub struct Talk {
    messages: Vec<Message>,
    /// What the next message shows.
    attached: Vec<Part>,
    media: Media,
}

impl Talk {
    /// A conversation that begins with messages, and the media that they mention.
    pub fn new(messages: Vec<Message>, media: Media) -> Self {
        Self { messages, attached: Vec::new(), media }
    }

    /// The turns so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The media of the turns. None is attached beside while a message waits for its answer.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// What stands before the line that is being written.
    pub fn prompt(&self) -> String {
        match self.attached.len() {
            0 => "> ".into(),
            1 => "1 file > ".into(),
            n => format!("{n} files > "),
        }
    }

    /// Show an image with the next message.
    pub fn show_image(&mut self, path: &Path) -> Result<(), Failure> {
        self.media.images.push(decode_image(path)?);
        self.attached.push(Part::Image { path: named(path) });
        Ok(())
    }

    /// Show a video with the next message.
    pub fn show_video(&mut self, path: &Path, processor: &dyn Processor) -> Result<(), Failure> {
        self.media.videos.push(sample_video(&MediumSource::File(path.into()), processor)?);
        self.attached.push(Part::Video { path: named(path) });
        Ok(())
    }

    /// Play audio with the next message.
    pub fn show_audio(&mut self, path: &Path, processor: &dyn Processor) -> Result<(), Failure> {
        self.media.audios.push(decode_audio(&MediumSource::File(path.into()), processor)?);
        self.attached.push(Part::Audio { path: named(path) });
        Ok(())
    }

    /// What the model is told before everything else; nothing when it is empty.
    pub fn system(&mut self, text: &str) {
        if self.messages.first().is_some_and(|message| message.role == "system") {
            self.messages.remove(0);
        }
        if !text.is_empty() {
            self.messages.insert(0, Message::new("system", Content::Text(text.into())));
        }
        self.forget();
    }

    /// Say something, with what is attached before it.
    pub fn say(&mut self, text: String) {
        let mut parts = std::mem::take(&mut self.attached);
        let content = if parts.is_empty() {
            Content::Text(text)
        } else {
            parts.push(Part::Text { text });
            Content::Parts(parts)
        };
        self.messages.push(Message::new("user", content));
    }

    /// The model's answer to what was said last.
    pub fn answered(&mut self, text: String) {
        self.messages.push(Message::new("assistant", Content::Text(text)));
    }

    /// Keep so many messages.
    pub fn cut(&mut self, messages: usize) {
        self.messages.truncate(messages);
        self.forget();
    }

    /// Forget all messages but the one that tells the model what to be, and what is attached.
    pub fn reset(&mut self) {
        self.attached.clear();
        let system = self.messages.first().is_some_and(|message| message.role == "system");
        self.cut(usize::from(system));
    }

    /// Take back the last file that was attached, or else the last message of the user with what followed it; gives what
    /// was taken back, in words.
    pub fn undo(&mut self) -> &'static str {
        if self.attached.pop().is_some() {
            self.forget();
            return "the last file is not attached any more";
        }
        match self.messages.iter().rposition(|message| message.role == "user") {
            Some(at) => {
                self.cut(at);
                "the last message and its answer are taken back"
            }
            None => "there is nothing to take back",
        }
    }

    /// Drop the media that nothing mentions any more, which are the last of their kinds.
    fn forget(&mut self) {
        let said = self.messages.iter().flat_map(|message| match &message.content {
            Content::Parts(parts) => &parts[..],
            Content::Nothing | Content::Text(_) => &[],
        });
        let (mut images, mut videos, mut audios) = (0, 0, 0);
        for part in said.chain(&self.attached) {
            match part {
                Part::Image { .. } => images += 1,
                Part::Video { .. } => videos += 1,
                Part::Audio { .. } => audios += 1,
                Part::Text { .. } | Part::Other(_) => {}
            }
        }
        self.media.images.truncate(images);
        self.media.videos.truncate(videos);
        self.media.audios.truncate(audios);
    }
}

/// A file as a message names it: wherever the messages are saved, it is found.
fn named(path: &Path) -> Option<String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.into());
    // What was typed is text, so only the folder that the program runs in could keep its path from being one.
    Some(whole.to_str().map_or_else(|| path.display().to_string(), str::to_string))
}

#[cfg(test)]
mod tests {
    use percept::modalities::image::Image;

    use super::*;

    fn image() -> Image {
        decode_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/media/a7.png")).unwrap()
    }

    fn file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/media").join(name)
    }

    #[test]
    fn media_follow_the_messages_that_mention_them() {
        let mut talk = Talk::new(Vec::new(), Media::default());
        talk.system("Be brief.");
        talk.show_image(&file("a7.png")).unwrap();
        assert_eq!(talk.prompt(), "1 file > ");
        talk.say("First".into());
        talk.answered("One".into());
        talk.show_image(&file("b7.png")).unwrap();
        talk.show_image(&file("a7.png")).unwrap();
        assert_eq!((talk.media().images.len(), talk.prompt().as_str()), (3, "2 files > "));
        talk.undo();
        talk.say("Second".into());
        talk.answered("Two".into());
        assert_eq!((talk.messages().len(), talk.media().images.len()), (5, 2));
        talk.undo();
        assert_eq!((talk.messages().len(), talk.media().images.len()), (3, 1));
        talk.system("");
        assert_eq!((talk.messages().len(), talk.media().images.len()), (2, 1));
        talk.undo();
        assert_eq!((talk.messages().len(), talk.media().images.len()), (0, 0));
        assert_eq!(talk.undo(), "there is nothing to take back");
    }

    #[test]
    fn a_reset_keeps_what_the_model_is_told() {
        let media = Media { images: vec![image()], ..Media::default() };
        let shown = Content::Parts(vec![Part::Image { path: None }]);
        let mut talk = Talk::new(vec![Message::new("user", shown)], media);
        talk.system("Be brief.");
        talk.show_image(&file("b7.png")).unwrap();
        talk.reset();
        assert_eq!(talk.messages(), [Message::new("system", Content::Text("Be brief.".into()))]);
        assert_eq!((talk.media().images.len(), talk.prompt().as_str()), (0, "> "));
    }
}
