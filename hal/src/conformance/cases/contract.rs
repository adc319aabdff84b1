//! L0: donation, order, lifetimes, and errors that must surface.

use percept_graph::{DType, Graph, GraphError, HostTensor, Role, Tensor, TensorType, Trace};

use super::memory::{hold, refused, wrong};
use crate::buffer::{Arg, Buffer, DeviceKey};
use crate::conformance::case::{Fault, Level::L0, Subject, read};
use crate::conformance::table::Table;
use crate::error::Error;
use crate::lower::is_structural;
use crate::report::Placement;

const N: usize = 1031;

fn floats(s: &Subject, values: &[f32]) -> Result<Buffer, Fault> {
    let t = HostTensor::from_f32([values.len()], values).map_err(|e| Fault::Wrong(e.to_string()))?;
    Ok(s.device.upload(t.ty(), t.bytes())?)
}

fn ramp() -> Vec<f32> {
    (0..N).map(|i| i as f32).collect()
}

/// Every element is `f(index)`.
fn expect(s: &Subject, b: &Buffer, what: &str, f: impl Fn(usize) -> f64) -> Result<(), Fault> {
    for (i, v) in read(s, b)?.into_iter().enumerate() {
        hold(v == f(i), || format!("{what}: element {i} is {v}, expected {}", f(i)))?;
    }
    Ok(())
}

/// state, x -> state + x in the state's place, and 2 state.
fn step_graph() -> Result<Graph, GraphError> {
    let t = Trace::new("step");
    let state = t.input("state", Role::State, TensorType::new(DType::F32, [N]));
    let x = t.data("x", DType::F32, [N]);
    t.output("twice", &(&state * 2.0));
    t.output_in_place("state", &(&state + &x), &state);
    t.finish()
}

/// x -> f(x).
fn map_graph(f: impl Fn(&Tensor) -> Tensor) -> Result<Graph, GraphError> {
    let t = Trace::new("map");
    let x = t.data("x", DType::F32, [N]);
    t.output("y", &f(&x));
    t.finish()
}

fn donation(t: &mut Table) {
    t.promise(L0, "donation.in_place", "loop", |s| {
        let exe = s.device.compile(&step_graph()?, &s.options())?;
        let one = floats(s, &[1.0; N])?;
        let mut state = floats(s, &ramp())?;
        for step in 0..30 {
            let mut out = exe.run(vec![Arg::Donate(state), Arg::Borrow(one.clone())])?;
            hold(out.len() == 2, || format!("{} outputs, expected 2", out.len()))?;
            state = out.remove(1);
            expect(s, &out[0], "the output beside the state", |i| 2.0 * (i + step) as f64)?;
        }
        expect(s, &state, "the state after 30 steps", |i| (i + 30) as f64)?;
        expect(s, &one, "the borrowed operand", |_| 1.0)
    });
    t.promise(L0, "donation.held", "refused", |s| {
        let exe = s.device.compile(&step_graph()?, &s.options())?;
        let (state, one) = (floats(s, &ramp())?, floats(s, &[1.0; N])?);
        let held = state.clone();
        refused(exe.run(vec![Arg::Donate(state), Arg::Borrow(one)]), "a donated buffer that is held", |e| {
            matches!(e, Error::DonatedButHeld { .. })
        })?;
        expect(s, &held, "the buffer that was held", |i| i as f64)
    });
    t.promise(L0, "donation.twice", "refused", |s| {
        let exe = s.device.compile(&step_graph()?, &s.options())?;
        let state = floats(s, &ramp())?;
        let args = vec![Arg::Donate(state.clone()), Arg::Borrow(state)];
        refused(exe.run(args), "a buffer donated and borrowed at once", |e| {
            matches!(e, Error::DonatedButHeld { .. })
        })
    });
    t.promise(L0, "donation.missing", "refused", |s| {
        let exe = s.device.compile(&step_graph()?, &s.options())?;
        let (state, one) = (floats(s, &ramp())?, floats(s, &[1.0; N])?);
        let args = vec![Arg::Borrow(state.clone()), Arg::Borrow(one)];
        refused(exe.run(args), "borrowing what an output replaces", |e| {
            matches!(e, Error::NotDonated { .. })
        })?;
        expect(s, &state, "the borrowed buffer", |i| i as f64)
    });
    t.promise(L0, "donation.failed_run", "consumes", |s| {
        let exe = s.device.compile(&step_graph()?, &s.options())?;
        let before = s.device.memory().buffers;
        let state = floats(s, &ramp())?;
        let short = floats(s, &[1.0; 3])?;
        refused(
            exe.run(vec![Arg::Donate(state), Arg::Borrow(short)]),
            "an argument of another shape",
            |e| matches!(e, Error::ArgumentType { .. }),
        )?;
        s.device.synchronize()?;
        let after = s.device.memory().buffers;
        hold(after <= before, || {
            format!("a failed run kept its donation: {before} bytes before, {after} after")
        })
    });
    t.promise(L0, "donation.unused_by_outputs", "frees", |s| {
        let exe = s.device.compile(&map_graph(|x| x + 1.0)?, &s.options())?;
        let out = exe.run(vec![Arg::Donate(floats(s, &ramp())?)])?;
        expect(s, &out[0], "the output", |i| (i + 1) as f64)
    });
}

fn order(t: &mut Table) {
    t.promise(L0, "order.chain", "without-waiting", |s| {
        let exe = s.device.compile(&map_graph(|x| x + 1.0)?, &s.options())?;
        let mut x = floats(s, &ramp())?;
        for _ in 0..50 {
            x = exe.run(vec![Arg::Donate(x)])?.swap_remove(0);
        }
        expect(s, &x, "after 50 runs", |i| (i + 50) as f64)
    });
    t.promise(L0, "order.read_before_overwrite", "queued", |s| {
        let exe = s.device.compile(&step_graph()?, &s.options())?;
        let one = floats(s, &[1.0; N])?;
        let mut state = floats(s, &ramp())?;
        let mut pending = Vec::new();
        for _ in 0..10 {
            pending.push(s.device.read_async(&state)?);
            state = exe.run(vec![Arg::Donate(state), Arg::Borrow(one.clone())])?.swap_remove(1);
        }
        for (step, p) in pending.into_iter().enumerate() {
            let bytes = p.wait()?;
            let last = bytes.last_chunk::<4>().map(|b| f32::from_le_bytes(*b));
            let expected = (N - 1 + step) as f32;
            hold(last == Some(expected), || {
                format!("a read queued before step {step} gives {last:?}, expected {expected}")
            })?;
        }
        expect(s, &state, "the state", |i| (i + 10) as f64)
    });
    t.promise(L0, "order.two_executables", "interleaved", |s| {
        let add = s.device.compile(&map_graph(|x| x + 3.0)?, &s.options())?;
        let double = s.device.compile(&map_graph(|x| x * 2.0)?, &s.options())?;
        let x = floats(s, &ramp())?;
        let a = add.run(vec![Arg::Borrow(x.clone())])?.swap_remove(0);
        let b = double.run(vec![Arg::Borrow(a.clone())])?.swap_remove(0);
        let c = add.run(vec![Arg::Borrow(b.clone())])?.swap_remove(0);
        expect(s, &c, "2 (x + 3) + 3", |i| 2.0 * (i as f64 + 3.0) + 3.0)?;
        expect(s, &a, "x + 3", |i| i as f64 + 3.0)?;
        expect(s, &x, "x", |i| i as f64)
    });
}

fn lifetimes(t: &mut Table) {
    t.promise(L0, "lifetimes.outputs", "outlive-later-runs", |s| {
        let exe = s.device.compile(&map_graph(|x| (x * 2.0).abs() + 1.0)?, &s.options())?;
        let mut outputs = Vec::new();
        for run in 0..8 {
            let x = floats(s, &vec![run as f32; N])?;
            outputs.push(exe.run(vec![Arg::Donate(x)])?.swap_remove(0));
        }
        for (run, b) in outputs.iter().enumerate() {
            expect(s, b, &format!("the output of run {run} after later runs"), |_| 2.0 * run as f64 + 1.0)?;
        }
        Ok(())
    });
    t.promise(L0, "lifetimes.executable", "dropped-first", |s| {
        let exe = s.device.compile(&map_graph(|x| x + 5.0)?, &s.options())?;
        let x = floats(s, &ramp())?;
        let out = exe.run(vec![Arg::Borrow(x)])?;
        drop(exe);
        let _more = floats(s, &[9.0; N])?;
        expect(s, &out[0], "an output after its executable", |i| i as f64 + 5.0)
    });
    t.promise(L0, "lifetimes.scratch", "values-used-late", |s| {
        // The first value is used again at the end, when its memory has been free for the taking if
        // miscounted.
        let graph = map_graph(|x| {
            let first = (x + 1.0).barrier();
            let mut y = first.clone();
            for _ in 0..12 {
                y = (&y * 2.0).barrier();
                y = (&y - &x.barrier()).barrier();
                y = (&y * 0.5).barrier();
            }
            &y * 0.0 + &first
        })?;
        let exe = s.device.compile(&graph, &s.options())?;
        for _ in 0..2 {
            let out = exe.run(vec![Arg::Borrow(floats(s, &ramp())?)])?;
            expect(s, &out[0], "the value used late", |i| i as f64 + 1.0)?;
        }
        Ok(())
    });
    t.promise(L0, "lifetimes.odd_outputs", "inputs-constants-repeats", |s| {
        let t = Trace::new("odd");
        let x = t.data("x", DType::F32, [N]);
        let _unused = t.data("unused", DType::F32, [N]);
        let y = &x + 1.0;
        t.output("x", &x);
        t.output("y", &y);
        t.output("y again", &y);
        t.output("constant", &t.full(DType::F32, [N], 7.0));
        let exe = s.device.compile(&t.finish()?, &s.options())?;
        let (x, unused) = (floats(s, &ramp())?, floats(s, &[0.0; N])?);
        let out = exe.run(vec![Arg::Borrow(x), Arg::Borrow(unused)])?;
        hold(out.len() == 4, || format!("{} outputs, expected 4", out.len()))?;
        expect(s, &out[0], "an input as an output", |i| i as f64)?;
        expect(s, &out[1], "an output", |i| i as f64 + 1.0)?;
        expect(s, &out[2], "the same value again", |i| i as f64 + 1.0)?;
        expect(s, &out[3], "a constant", |_| 7.0)
    });
}

fn errors(t: &mut Table) {
    t.promise(L0, "errors.arguments", "count-type-device", |s| {
        let exe = s.device.compile(&map_graph(|x| x + 1.0)?, &s.options())?;
        refused(exe.run(vec![]), "no argument", |e| matches!(e, Error::ArgumentCount { .. }))?;
        let x = floats(s, &ramp())?;
        refused(exe.run(vec![Arg::Borrow(x.clone()), Arg::Borrow(x)]), "an argument too many", |e| {
            matches!(e, Error::ArgumentCount { .. })
        })?;
        let ints = s.device.zeros(&TensorType::new(DType::I32, [N]))?;
        let wrong_type = |e: &Error| matches!(e, Error::ArgumentType { .. });
        refused(exe.run(vec![Arg::Borrow(ints)]), "integers for floats", wrong_type)?;
        let short = floats(s, &[1.0; N - 1])?;
        refused(exe.run(vec![Arg::Borrow(short)]), "another shape", wrong_type)?;
        let foreign = Buffer::new(DeviceKey::fresh(), TensorType::new(DType::F32, [N]), ());
        let not_ours = |e: &Error| matches!(e, Error::ForeignBuffer { .. });
        refused(exe.run(vec![Arg::Borrow(foreign.clone())]), "another device's buffer", not_ours)?;
        refused(s.device.read(&foreign), "reading another device's buffer", not_ours)?;
        expect(s, &exe.run(vec![Arg::Borrow(floats(s, &ramp())?)])?[0], "a run after refusals", |i| {
            i as f64 + 1.0
        })
    });
    t.promise(L0, "errors.surface", "impossible-intermediate", |s| {
        let t = Trace::new("impossible");
        let x = t.data("x", DType::F32, [1 << 10, 1]);
        let scope = t.scope("too.large");
        let big = x.broadcast([1 << 10, 1 << 40], [0, 1]);
        let [sorted, _] = big.sort(0, false, 1 << 10);
        drop(scope);
        t.output("y", &sorted.sum([0, 1]));
        let graph = t.finish()?;
        let attempt = || -> Result<(), Error> {
            let exe = s.device.compile(&graph, &s.options())?;
            let x = s.device.zeros(&TensorType::new(DType::F32, [1 << 10, 1]))?;
            let out = exe.run(vec![Arg::Donate(x)])?;
            s.device.synchronize()?;
            s.device.read(&out[0]).map(|_| ())
        };
        match attempt() {
            Ok(()) => wrong("a run that needs 4 PiB reports success"),
            Err(e) => hold(!e.to_string().is_empty(), || "the error says nothing".into()),
        }?;
        let exe = s.device.compile(&map_graph(|x| x + 1.0)?, &s.options())?;
        expect(s, &exe.run(vec![Arg::Donate(floats(s, &ramp())?)])?[0], "a run after the error", |i| {
            i as f64 + 1.0
        })
    });
    t.promise(L0, "report.complete", "every-operation", |s| {
        let t = Trace::new("report");
        let scope = t.scope("block");
        let x = t.data("x", DType::F32, [3, 16]);
        let norm = t.parameter("norm", DType::F32, [16]);
        let y = x.rms_norm(&norm, 1e-5).softmax().cumsum(1).sum([1]);
        drop(scope);
        t.output("y", &y);
        let graph = t.finish()?;
        let exe = s.device.compile(&graph, &s.options())?;
        let mut expected: Vec<String> =
            graph.nodes().iter().filter(|n| !is_structural(&n.op)).map(|n| n.op.name()).collect();
        let mut reported: Vec<String> = exe.report().placed.iter().map(|p| p.op.clone()).collect();
        expected.sort_unstable();
        reported.sort_unstable();
        hold(reported == expected, || format!("the report names {reported:?}, the graph has {expected:?}"))?;
        let host = exe.report().placed.iter().find(|p| p.placement == Placement::Host);
        hold(s.host.is_some() || host.is_none(), || {
            "an operation is reported on a host that was not given".into()
        })
    });
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    donation(t);
    order(t);
    lifetimes(t);
    errors(t);
}
