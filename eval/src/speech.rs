//! Models that transcribe: each recording of a task is transcribed whole, as `percept transcribe` does it, and the text is the answer.

use std::path::Path;

use percept_data::Kind;
use percept_infer::Transcribe;
use percept_modalities::audio::Reader;

use crate::batches::in_batches;
use crate::error::{Error, Result};
use crate::run::{Options, Outcome};
use crate::scoring::{Answer, Metric};
use crate::task::Task;

/// Run a task on a model that transcribes. It reads no prompt.
///
/// # Errors
/// As [`crate::run::run`]; when the task asks for anything but what is said in one sound.
pub fn run_speech(
    transcriber: &mut dyn Transcribe,
    task: &Task,
    folder: &Path,
    options: &Options,
    told: &mut dyn FnMut(bool),
) -> Result<Outcome> {
    if !matches!(task.metric, Metric::Words(_)) || !task.shows_only("audio") {
        let why = "this model transcribes speech, and answers no questions; give a task whose metric is 'words' \
                   and that shows a sound, such as librispeech_test_clean";
        return Err(Error::Task(format!("{}: {why}", task.name)));
    }
    let rate = transcriber.rate();
    let decode = |question: &crate::task::Question, media: &[percept_data::Blob]| {
        let sound = media.iter().find(|blob| blob.kind == Kind::Audio).ok_or("it has no sound")?;
        let pieces = Reader::from_bytes(&question.key, &sound.bytes, rate).map_err(|e| e.to_string())?;
        pieces.collect::<percept_modalities::Result<Vec<Vec<f32>>>>().map_err(|e| e.to_string())
    };
    in_batches(task, folder, options, told, decode, |batch| {
        let heard = batch.iter().map(|(_, pieces)| -> Result<Answer> {
            let transcript = transcriber.transcribe_pieces(
                &mut pieces.iter().cloned().map(Ok),
                &mut |_| (),
                &mut |_| (),
            )?;
            Ok(Answer { said: transcript.text.trim().to_owned(), ..Answer::default() })
        });
        heard.collect()
    })
}
