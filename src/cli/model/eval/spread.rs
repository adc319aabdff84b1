//! One run shared out: to the processes that a launcher of MPI programs started, or to the devices of one process.
//!
//! Each asks a part of the questions and writes its journal. When the journals hold all answers, the first scores them as a run of its own
//! would. Processes share nothing but the folder of the results, so this needs no library of MPI.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use percept::eval::join::Joining;
use percept::eval::results::Finished;
use percept::eval::task::Task;
use percept::infer::peak_memory;
use serde_json::{Value, json};

use super::answering::Answering;
use super::energy::Meter;
use super::{Run, progress, tasks};
use crate::cli::Failure;

/// The longest time between two looks at the others' journals.
const LOOK: Duration = Duration::from_secs(10);

/// Which of several processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rank {
    rank: usize,
    size: usize,
    /// Its number among those of its machine.
    local: usize,
}

/// The variables of launchers: rank, number of processes, rank on the machine. Slurm's are those of a step, which a batch script does not have.
const LAUNCHERS: [[&str; 3]; 4] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
    ["MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"],
    ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"],
];

impl Rank {
    /// As the environment says it; `None` for a process alone.
    pub fn of_environment() -> Option<Self> {
        Self::of(&|name| std::env::var(name).ok()?.parse().ok())
    }

    fn of(number: &dyn Fn(&str) -> Option<usize>) -> Option<Self> {
        let found = |[rank, size, local]: [&str; 3]| {
            let (rank, size) = (number(rank)?, number(size)?);
            Some(Self { rank, size, local: number(local).unwrap_or(rank) })
        };
        LAUNCHERS.into_iter().find_map(found).filter(|found| found.size > 1 && found.rank < found.size)
    }
}

/// The part of one of several processes. What came of all is with the first.
pub(super) fn ranks(
    run: &Run,
    asked: &[(Task, PathBuf)],
    rank: Rank,
) -> Result<Option<(Vec<Finished>, Value)>, Failure> {
    let Rank { rank, size, local } = rank;
    if run.out.is_none() {
        return Err(Failure::Usage(format!(
            "{size} processes were started to share out the questions; give --out, a folder that all of them see"
        )));
    }
    let devices = run.devices();
    // Processes of one machine take its devices in turns.
    let device = devices.get(local % devices.len().max(1)).copied().unwrap_or("auto");
    let (start, meter) = (Instant::now(), Meter::start());
    let one = run.with(device);
    let mut answering = tasks::open(&one, asked)?;
    let ran = tasks::ran(&one, answering.device(), &devices)?;
    let others = format!(" of process {rank}");
    ask_part(&one, asked, &mut answering, &ran, (rank, size), &others)?;
    if rank > 0 {
        answering.report_fallbacks();
        return Ok(None);
    }
    for (task, folder) in asked {
        let mut joining = Joining::new(task, folder, &tasks::options(&one, ran.clone()))?;
        let bar = progress(None);
        let mut wait = Duration::from_millis(50);
        loop {
            let left = joining.left()?;
            if left == 0 {
                break;
            }
            bar.set_message(format!("{}: {left} questions of other processes are open", task.name));
            std::thread::sleep(wait);
            wait = (2 * wait).min(LOOK);
        }
        bar.finish_and_clear();
    }
    let (mut finished, mut ran) = tasks::ask(&one, asked, &mut answering, ran)?;
    finished.iter_mut().for_each(|one| one.outcome.seconds = start.elapsed().as_secs_f64());
    answering.report_fallbacks();
    ran["processes"] = json!(size);
    ran["peak_memory_bytes"] = json!(peak_memory(answering.device()));
    ran["energy"] = meter.stop();
    Ok(Some((finished, ran)))
}

/// Ask one part of the questions; a part may have none.
fn ask_part(
    run: &Run,
    asked: &[(Task, PathBuf)],
    answering: &mut Answering,
    ran: &Value,
    shard: (usize, usize),
    whose: &str,
) -> Result<(), Failure> {
    let mut options = tasks::options(run, ran.clone());
    options.shard = shard;
    options.keep = 0;
    for (task, folder) in asked {
        let bar = progress(None);
        bar.set_message(format!("{}{whose}", task.name));
        let outcome = answering.run(task, folder, &options, &mut |_| bar.inc(1));
        bar.finish_and_clear();
        match outcome {
            Ok(_) | Err(Failure::Eval(percept::eval::Error::NoQuestions { .. })) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Several devices share the questions; what came of them is one run's.
pub(super) fn devices(
    run: &Run,
    asked: &[(Task, PathBuf)],
    devices: &[&str],
) -> Result<(Vec<Finished>, Value), Failure> {
    if run.out.is_none() {
        let why = "--spread shares the questions out through their journals; give --out, the folder of them";
        return Err(Failure::Usage(why.into()));
    }
    let (start, meter) = (Instant::now(), Meter::start());
    let part = |at: usize| -> Result<(Answering, Value, Run), Failure> {
        let one = run.with(devices[at]);
        let mut answering = tasks::open(&one, asked)?;
        let ran = tasks::ran(&one, answering.device(), devices)?;
        ask_part(&one, asked, &mut answering, &ran, (at, devices.len()), &format!(" on {}", devices[at]))?;
        Ok((answering, ran, one))
    };
    // The first device's model stays, for what comes after.
    let (first, memory) = std::thread::scope(|scope| {
        let others: Vec<_> = (1..devices.len())
            .map(|at| {
                scope.spawn(move || {
                    let (answering, ..) = part(at)?;
                    answering.report_fallbacks();
                    Ok::<_, Failure>(peak_memory(answering.device()))
                })
            })
            .collect();
        let first = part(0)?;
        let mut memory = vec![peak_memory(first.0.device())];
        for other in others {
            let ended = other.join().map_err(|_| Failure::Negative("a device's thread ended".into()))?;
            memory.push(ended?);
        }
        Ok::<_, Failure>((first, memory))
    })?;
    let (mut answering, ran, one) = first;
    let (mut finished, mut ran) = tasks::ask(&one, asked, &mut answering, ran)?;
    finished.iter_mut().for_each(|one| one.outcome.seconds = start.elapsed().as_secs_f64());
    answering.report_fallbacks();
    ran["peak_memory_bytes"] = json!(memory);
    ran["energy"] = meter.stop();
    Ok((finished, ran))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_which_process_this_is() {
        let of = |variables: &[(&str, usize)]| {
            Rank::of(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, n)| *n))
        };
        let ours =
            [("OMPI_COMM_WORLD_RANK", 3), ("OMPI_COMM_WORLD_SIZE", 4), ("OMPI_COMM_WORLD_LOCAL_RANK", 1)];
        assert_eq!(of(&ours), Some(Rank { rank: 3, size: 4, local: 1 }));
        assert_eq!(of(&[("PMI_RANK", 1), ("PMI_SIZE", 2)]), Some(Rank { rank: 1, size: 2, local: 1 }));
        // One process is no run of several, and a batch script of Slurm is none of its steps.
        assert_eq!(of(&[("PMI_RANK", 0), ("PMI_SIZE", 1)]), None);
        assert_eq!(of(&[("SLURM_PROCID", 0), ("SLURM_NTASKS", 8)]), None);
        let step = [("SLURM_PROCID", 7), ("SLURM_STEP_NUM_TASKS", 8), ("SLURM_LOCALID", 3)];
        assert_eq!(of(&step), Some(Rank { rank: 7, size: 8, local: 3 }));
    }
}
