//! What a line of a conversation says: a message, or something to do.

use std::path::PathBuf;

use crate::cli::Failure;

/// What `/help` prints.
pub const HELP: &str = "\
/image FILE    show an image with the next message; may be repeated
/video FILE    show a video with it
/audio FILE    play audio with it
/system TEXT   what the model is told before the conversation; without a text, nothing
/undo          take back the last file that was attached, or the last message and its answer
/reset         forget all messages and attached files
/save FILE     write the messages as JSON, for --messages here and of `percept generate`
/help          this list
/quit          end, as Ctrl-D does
A line that ends in \\ goes on in the next. A message that begins with a slash is written with two.
";

/// What a line says.
#[derive(Debug, PartialEq)]
pub enum Said {
    Nothing,
    Message(String),
    Image(PathBuf),
    Video(PathBuf),
    Audio(PathBuf),
    System(String),
    Reset,
    Undo,
    Save(PathBuf),
    Help,
    Quit,
}

impl Said {
    /// Read a line.
    ///
    /// # Errors
    /// When a command is unknown, or lacks its file.
    pub fn parse(line: &str) -> Result<Self, Failure> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(Self::Nothing);
        }
        let Some(command) = line.strip_prefix('/') else { return Ok(Self::Message(line.into())) };
        if command.starts_with('/') {
            return Ok(Self::Message(command.into()));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let file = || match unquoted(rest) {
            "" => Err(Failure::Usage(format!("/{name} needs a file: /{name} FILE"))),
            path => Ok(from_home(path)),
        };
        let alone = |said: Self| match rest {
            "" => Ok(said),
            _ => Err(Failure::Usage(format!("/{name} stands alone; leave \"{rest}\" out"))),
        };
        match name {
            "image" => file().map(Self::Image),
            "video" => file().map(Self::Video),
            "audio" => file().map(Self::Audio),
            "save" => file().map(Self::Save),
            "system" => Ok(Self::System(rest.into())),
            "reset" => alone(Self::Reset),
            "undo" => alone(Self::Undo),
            "help" => alone(Self::Help),
            "quit" => alone(Self::Quit),
            _ => Err(Failure::Usage(format!(
                "/{name} is no command; /help lists them, and a message that begins with a slash is written with two"
            ))),
        }
    }
}

/// A path without the quotes that terminals put around what is dropped on them.
fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('\'').or_else(|| within('"')).unwrap_or(text)
}

/// A path whose `~/` is the user's folder, as in a shell.
fn from_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let parse = |line: &str| Said::parse(line).unwrap();
        assert_eq!(parse("  "), Said::Nothing);
        assert_eq!(parse(" What is this? "), Said::Message("What is this?".into()));
        assert_eq!(parse("//etc is a folder"), Said::Message("/etc is a folder".into()));
        assert_eq!(parse("/image a b.png"), Said::Image("a b.png".into()));
        assert_eq!(parse("/audio 'it is.wav' "), Said::Audio("it is.wav".into()));
        assert_eq!(parse("/video \"c.mp4\""), Said::Video("c.mp4".into()));
        assert_eq!(parse("/save '"), Said::Save("'".into()));
        assert_eq!(parse("/system"), Said::System(String::new()));
        assert_eq!(parse("/system Be brief."), Said::System("Be brief.".into()));
        assert_eq!([parse("/reset"), parse("/undo")], [Said::Reset, Said::Undo]);
        assert_eq!([parse("/help"), parse("/quit")], [Said::Help, Said::Quit]);
        if let Some(home) = std::env::home_dir() {
            assert_eq!(parse("/save ~/talk.json"), Said::Save(home.join("talk.json")));
        }
    }

    #[test]
    fn what_is_no_command_is_named() {
        let why = |line: &str| Said::parse(line).unwrap_err().to_string();
        assert!(why("/images a.png").contains("/images is no command"));
        assert!(why("/image").contains("/image FILE"));
        assert!(why("/image ''").contains("/image FILE"));
        assert!(why("/undo twice").contains("leave \"twice\" out"));
    }

    #[test]
    fn the_help_lists_every_command() {
        for name in ["image", "video", "audio", "system", "undo", "reset", "save", "help", "quit"] {
            assert!(HELP.lines().any(|line| line.starts_with(&format!("/{name}"))), "{name}");
        }
    }
}
