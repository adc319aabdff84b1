//! `percept chat`: a conversation with a model in the terminal.

mod lines;
mod said;
mod talk;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use percept::infer::{Event, GenerateOptions, Generation, Request, Scheduler, SchedulerOptions};
use percept::modalities::Inputs;
use serde_json::{Value, json};

use super::continuation::Continuation;
use super::conversation::{Conversation, MediaFiles, TemplateVariables};
use super::guessing::{tell, told};
use super::loading::{Causal, report_fallbacks};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::output::printable_lines;
use lines::Lines;
use said::{HELP, Said};
use talk::Talk;

#[derive(Args)]
pub struct Chat {
    #[command(flatten)]
    causal: Causal,
    #[command(flatten)]
    continuation: Continuation,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Go on with a conversation that /save wrote, or any JSON list of messages
    #[arg(long, value_name = "F.json")]
    messages: Option<PathBuf>,
    #[command(flatten)]
    variables: TemplateVariables,
    /// Print one JSON document of the whole conversation at its end, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

impl Chat {
    pub fn run(self) -> Result<(), Failure> {
        let model = self.causal.model()?;
        let options = self.continuation.options(&*model)?;
        let earlier = Conversation {
            files: MediaFiles::default(),
            messages: self.messages,
            variables: self.variables,
            prompt: None,
        };
        let messages = if earlier.messages.is_some() { earlier.messages()? } else { Vec::new() };
        let media = earlier.media(&messages, &*model)?;
        let mut talk = Talk::new(messages, media);
        if let Some(text) = &self.system {
            talk.system(text);
        }
        let session = self.causal.session_with(model, self.continuation.draft_model.as_deref())?;
        let scheduler =
            Scheduler::new(session, SchedulerOptions { running: 1, ..SchedulerOptions::default() })?;
        let interrupt =
            Interrupt::catch().map_err(|source| Failure::File { path: "signals".into(), source })?;
        let lines = Lines::new(!self.json)?;
        let mut desk = Desk { scheduler, options, interrupt, streams: !self.json, turns: Vec::new() };
        let failed = desk.hold(&mut talk, lines)?;
        report_fallbacks(desk.scheduler.session().reports());
        if self.json {
            println!("{}", json!({ "messages": talk.messages(), "turns": desk.turns }));
        }
        match failed {
            0 => Ok(()),
            n => Err(Failure::Negative(format!("{n} of the lines given failed; standard error names each"))),
        }
    }
}

/// Ctrl-C: it stops the answer that is being written, and between answers the program.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn catch() -> std::io::Result<Self> {
        use signal_hook::consts::SIGINT;
        use signal_hook::flag;
        // Set while there is nothing to stop. In this order, so that the first signal during an answer only sets it, and a
        // second one, while the device still computes, ends the program.
        let idle = Arc::new(AtomicBool::new(true));
        flag::register_conditional_shutdown(SIGINT, 130, idle.clone())?;
        flag::register(SIGINT, idle.clone())?;
        Ok(Self(idle))
    }

    fn begin(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an answer came to.
enum Answer {
    Whole(Generation),
    /// Ctrl-C stopped it after this text.
    Stopped(String),
}

/// What a conversation is held with.
struct Desk {
    scheduler: Scheduler,
    options: GenerateOptions,
    interrupt: Interrupt,
    /// Answers are printed as they are written.
    streams: bool,
    /// The answers so far, for the JSON document.
    turns: Vec<Value>,
}

impl Desk {
    /// Read lines until they end. Gives how many failed, of lines that nobody is there to correct.
    fn hold(&mut self, talk: &mut Talk, mut lines: Lines) -> Result<usize, Failure> {
        let mut failed = 0;
        if lines.edits() {
            eprintln!("/help lists what else there is; Ctrl-C stops an answer, Ctrl-D ends");
        }
        while let Some(line) = lines.next(&talk.prompt())? {
            match self.take(talk, &line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => {
                    eprintln!("error: {}", printable_lines(&failure.message()));
                    failed += usize::from(!lines.edits());
                }
            }
        }
        Ok(failed)
    }

    /// Do what a line says. False when it ends the conversation.
    fn take(&mut self, talk: &mut Talk, line: &str) -> Result<bool, Failure> {
        let processor = self.scheduler.session().shared_model();
        let processor = processor.processor();
        match Said::parse(line)? {
            Said::Nothing => {}
            Said::Message(text) => self.answer(talk, text)?,
            Said::Image(path) => talk.show_image(&path)?,
            Said::Video(path) => talk.show_video(&path, processor)?,
            Said::Audio(path) => talk.show_audio(&path, processor)?,
            Said::System(text) => talk.system(&text),
            Said::Reset => talk.reset(),
            Said::Undo => eprintln!("({})", talk.undo()),
            Said::Save(path) => {
                let text = serde_json::to_string_pretty(talk.messages())
                    .map_err(|e| Failure::Content { path: path.clone(), why: e.to_string() })?;
                write_file(&path, format!("{text}\n").as_bytes())?;
                eprintln!("({} messages written to {})", talk.messages().len(), path.display());
            }
            Said::Help => eprint!("{HELP}"),
            Said::Quit => return Ok(false),
        }
        Ok(true)
    }

    /// Say something to the model, and print what it answers. What failed is as if it had not been said.
    fn answer(&mut self, talk: &mut Talk, text: String) -> Result<(), Failure> {
        let before = talk.messages().len();
        talk.say(text);
        let model = self.scheduler.session().shared_model();
        let answer = model
            .processor()
            .chat(talk.messages(), talk.media())
            .map_err(|e| Failure::Infer(e.into()))
            .and_then(|inputs| self.generate(inputs));
        match answer {
            Ok(Answer::Whole(generation)) => {
                talk.answered(generation.text.clone());
                self.tell(generation);
                Ok(())
            }
            Ok(Answer::Stopped(so_far)) if so_far.is_empty() => {
                eprintln!("(stopped before a word; the message is taken back)");
                talk.cut(before);
                Ok(())
            }
            Ok(Answer::Stopped(so_far)) => {
                eprintln!("(stopped)");
                self.turns.push(json!({ "text": so_far, "finish_reason": "interrupt" }));
                talk.answered(so_far);
                Ok(())
            }
            Err(failure) => {
                talk.cut(before);
                Err(failure)
            }
        }
    }

    /// Continue a prompt, until its end or Ctrl-C.
    fn generate(&mut self, inputs: Inputs) -> Result<Answer, Failure> {
        let id = self.scheduler.submit(Request::new(inputs, self.options.clone()))?;
        let mut so_far = String::new();
        let mut ended = None;
        self.interrupt.begin();
        let terminal = std::io::stdout().is_terminal();
        let streams = self.streams;
        let stepped = loop {
            let step = self.scheduler.step(&mut |_, event| match event {
                Event::Started { .. } => {}
                Event::Token { text, .. } => {
                    show(&text, streams, terminal);
                    so_far.push_str(&text);
                }
                Event::Finished { text, generation } => {
                    show(&text, streams, terminal);
                    ended = Some(Ok(generation));
                }
                Event::Failed(e) => ended = Some(Err(e)),
            });
            match step {
                Err(e) => break Err(e),
                Ok(_) if ended.is_some() => break Ok(()),
                Ok(_) if self.interrupt.seen() => {
                    self.scheduler.cancel(id);
                    break Ok(());
                }
                Ok(true) => {}
                Ok(false) => break Ok(()),
            }
        };
        self.interrupt.end();
        if streams && (!so_far.is_empty() || matches!(ended, Some(Ok(_)))) {
            println!();
        }
        stepped?;
        match ended {
            Some(generation) => Ok(Answer::Whole(generation?)),
            None => Ok(Answer::Stopped(so_far)),
        }
    }

    /// Keep what the JSON document tells of an answer, and tell who watches how fast it was.
    fn tell(&mut self, g: Generation) {
        if self.streams && std::io::stderr().is_terminal() {
            eprintln!(
                "({} tokens, {:.1} a second{}; {} of the {} before were known)",
                g.tokens.len(),
                g.timings.decode_tokens_per_s,
                told(&g),
                g.cached_tokens,
                g.prompt_tokens
            );
        }
        let mut turn = json!({
            "text": g.text, "tokens": g.tokens, "prompt_tokens": g.prompt_tokens, "cached_tokens": g.cached_tokens,
            "finish_reason": g.finish, "timings": g.timings,
        });
        if self.options.draft.is_some() {
            tell(&mut turn, &g);
        }
        if let Some(why) = g.not_drafted {
            eprintln!("(not guessed for: {why})");
        }
        self.turns.push(turn);
    }
}

/// Print a piece of an answer. A terminal gets no character that it would act on but tabs and ends of lines.
fn show(text: &str, streams: bool, terminal: bool) {
    if !streams || text.is_empty() {
        return;
    }
    if terminal {
        let pieces: Vec<_> = text.split('\t').map(printable_lines).collect();
        print!("{}", pieces.join("\t"));
    } else {
        print!("{text}");
    }
}
