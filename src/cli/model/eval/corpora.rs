//! How often a model gives the answers of a corpus, word for word.

use percept::eval::corpus::{Corpus, Scores, evaluate};
use serde_json::json;

use super::{Run, progress};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::model::loading::report_fallbacks;
use crate::cli::table::table;

pub(super) fn run(run: &Run) -> Result<(), Failure> {
    let corpora = Corpus::open(&run.tasks, run.limit)?;
    corpora.iter().flat_map(Corpus::doubts).for_each(|doubt| eprintln!("warning: {doubt}"));
    let mut session = run.causal.session_for(run.causal.model()?, !run.batch_variant, run.batch)?;
    let bar = progress(Some(corpora.iter().map(|corpus| corpus.count() as u64).sum()));
    let mut right = 0;
    let tasks = evaluate(&mut session, &corpora, run.batch, &mut |answer| {
        bar.inc(1);
        if let Some(answer) = answer {
            right += u64::from(answer.is_right());
            bar.set_message(format!("{right} right"));
        }
    });
    bar.finish_and_clear();
    let tasks = tasks?;
    report_fallbacks(session.reports());
    let scores = Scores {
        model: run.causal.loading.model.display().to_string(),
        device: session.device().info().id.clone(),
        batch: run.batch_variant.then_some(run.batch),
        tasks,
    };
    if let Some(folder) = &run.out {
        let source = |source| Failure::File { path: folder.clone(), source };
        std::fs::create_dir_all(folder).map_err(source)?;
        write_file(&folder.join("scores.json"), format!("{:#}\n", json!(scores)).as_bytes())?;
    }
    if run.json {
        println!("{}", json!(scores));
        return Ok(());
    }
    let mut t = table(&["task", "accuracy", "most frequent answer", "questions"], &[1, 2, 3]);
    let percent = |v: f64| format!("{:.1} %", 100.0 * v);
    for task in &scores.tasks {
        t.add_row([task.name.clone(), percent(task.accuracy), percent(task.baseline), task.n.to_string()]);
    }
    println!("{t}");
    Ok(())
}
