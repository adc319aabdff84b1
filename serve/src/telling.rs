//! Answers told as they come, in the events of some protocol.

use std::sync::Arc;

use tokio::time::sleep;

use crate::answers::{ALIVE, Answers, News, Usage};
use crate::body::Writer;
use crate::failure::Failure;
use crate::observe::Record;

/// Writes news in the events of a protocol.
pub(crate) trait Teller: Send {
    /// What is sent first.
    fn begin(&mut self) -> String {
        String::new()
    }

    /// What is sent for news of an answer.
    fn news(&mut self, choice: usize, news: News) -> String;

    /// What is sent when all answers ended.
    fn end(&mut self, usage: Usage) -> String;

    /// What is sent when they failed.
    fn failed(&mut self, failure: &Failure) -> String;

    /// What is sent when there was nothing to send for long.
    fn alive(&self) -> String {
        ": waiting\n\n".into()
    }
}

/// Tells answers until they end or the client leaves, which ends them.
pub(crate) async fn tell(mut answers: Answers, writer: Writer, record: Arc<Record>, mut teller: impl Teller) {
    let first = teller.begin();
    if !first.is_empty() && !writer.send(first).await {
        return;
    }
    loop {
        let news = tokio::select! {
            news = answers.next() => news,
            () = writer.left() => break,
            () = sleep(ALIVE) => {
                if !writer.send(teller.alive()).await {
                    break;
                }
                continue;
            }
        };
        let (text, ends) = match news {
            Ok(Some((choice, news))) => (teller.news(choice, news), false),
            Ok(None) => (teller.end(answers.usage()), true),
            Err(failure) => {
                record.failed(&failure);
                (teller.failed(&failure), true)
            }
        };
        if (!text.is_empty() && !writer.send(text).await) || ends {
            break;
        }
    }
    record.usage(answers.usage());
}

/// Waits until all answers ended: their generations, in the order of their numbers. `read` sees what becomes known.
pub(crate) async fn whole(
    mut answers: Answers,
    n: usize,
    record: &Record,
    mut read: impl FnMut(usize, &News),
) -> Result<(Vec<percept_infer::Generation>, Usage), Failure> {
    let mut ended: Vec<Option<percept_infer::Generation>> = (0..n).map(|_| None).collect();
    while let Some((choice, news)) = answers.next().await? {
        read(choice, &news);
        if let (News::Ended { generation, .. }, Some(place)) = (news, ended.get_mut(choice)) {
            *place = Some(*generation);
        }
    }
    record.usage(answers.usage());
    let all: Option<Vec<_>> = ended.into_iter().collect();
    Ok((all.ok_or_else(|| Failure::server("an answer ended without a result"))?, answers.usage()))
}
