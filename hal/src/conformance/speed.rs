//! Timing: the median of several runs, and the share of the device's own memory bandwidth.

use std::time::Instant;

use percept_graph::{DType, TensorType, Trace};

use super::case::{Fault, Outcome, Subject, arguments, compile, judge, read};
use super::problem::Problem;
use crate::buffer::Arg;
use crate::report::Placement;

/// Timed runs of a case.
const RUNS: usize = 5;

/// Check a problem once, then time it.
pub(crate) fn measure(subject: &Subject, problem: &Problem, outcome: &mut Outcome) -> Result<(), Fault> {
    let executable = compile(subject, problem, outcome)?;
    let args = arguments(subject, problem)?;
    let outputs = executable.run(args.clone())?;
    let got = outputs.iter().map(|b| read(subject, b)).collect::<Result<Vec<_>, _>>()?;
    judge(problem, subject.device.info().computes_in, &got, outcome)?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        let outputs = executable.run(args.clone())?;
        subject.device.synchronize()?;
        times.push(start.elapsed().as_secs_f64());
        drop(outputs);
    }
    times.sort_by(f64::total_cmp);
    let median = times[RUNS / 2];
    let values =
        problem.graph.inputs().iter().map(|i| i.value).chain(problem.graph.outputs().iter().map(|o| o.value));
    let bytes: usize = values.map(|v| problem.graph.ty(v).bytes()).sum();
    outcome.ms = median * 1e3;
    if outcome.placement != Some(Placement::Host) {
        outcome.bandwidth_share = Some(bytes as f64 / median / bandwidth(subject)?);
    }
    Ok(())
}

/// Bytes per second of reading and writing 16 MiB each, the best of several runs; measured once.
fn bandwidth(subject: &Subject) -> Result<f64, Fault> {
    if let Some(b) = subject.bandwidth.get() {
        return Ok(*b);
    }
    let ty = TensorType::new(DType::F32, [1 << 22]);
    let t = Trace::new("bandwidth");
    let x = t.data("x", ty.dtype, ty.dims.clone());
    t.output("y", &(x * 0.5));
    let executable = subject.device.compile(&t.finish()?, &subject.options())?;
    let x = subject.device.zeros(&ty)?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        let outputs = executable.run(vec![Arg::Borrow(x.clone())])?;
        subject.device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
        drop(outputs);
    }
    Ok(*subject.bandwidth.get_or_init(|| 2.0 * ty.bytes() as f64 / best))
}
