//! Vendors' compilers of ONNX models: each is a package of Python, run by a script in a child process, which also runs the
//! compiled model in the vendor's simulator.

use std::fmt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use percept::graph::{Graph, HostTensor};
use percept::hal::{Arg, CompileOptions, Weight};
use percept_onnx::Family;
use serde_json::{Value, json};

use super::graphs::Exported;
use super::{Export, Format};
use crate::cli::Failure;
use crate::cli::failure::write_file;

/// A vendor's compiler.
pub(super) struct Vendor {
    format: Format,
    /// The script that runs it.
    script: &'static str,
    /// What `pip install` takes.
    packages: &'static str,
    /// The operators that it reads.
    pub(super) family: Family,
    /// The chips that it compiles for, with what the script is told of each.
    targets: &'static [(&'static str, &'static [(&'static str, &'static str)])],
}

/// What every script reads its job with.
const JOB: &str = include_str!("job.py");

/// Largest difference of an output from that of the processor, as a share of the output's greatest value. Each of these
/// compilers is asked for f16, whose steps are 5e-4 of a value; over the sums and layers of small models they add up to
/// some 1e-3 to 5e-3, and on CV184X, which sums more coarsely, to 1.3e-2. Two rows that changed places, a lost mask or a
/// wrong scale give more than 0.1.
const TOLERANCE: f64 = 2e-2;

static VENDORS: [Vendor; 3] = [
    Vendor {
        format: Format::Rknn,
        script: include_str!("rockchip.py"),
        packages: "rknn-toolkit2",
        family: Family::Plain,
        targets: &[
            ("RK2118", &[]),
            ("RK3562", &[]),
            ("RK3566", &[]),
            ("RK3568", &[]),
            ("RK3576", &[]),
            ("RK3588", &[]),
            ("RV1126B", &[]),
        ],
    },
    Vendor {
        format: Format::Bmodel,
        script: include_str!("sophgo.py"),
        packages: "'tpu_mlir[onnx,torch]'",
        family: Family::Plain,
        targets: &[("BM1684X", &[]), ("BM1684X2", &[]), ("BM1688", &[]), ("BM1690", &[]), ("CV184X", &[])],
    },
    Vendor {
        format: Format::Qnn,
        script: include_str!("qualcomm.py"),
        packages: "onnxruntime-qnn onnxruntime",
        family: Family::Fused,
        targets: &[
            ("SM8550", &[("soc_model", "43"), ("htp_arch", "73")]),
            ("SM8650", &[("soc_model", "57"), ("htp_arch", "75")]),
            ("SM8750", &[("soc_model", "69"), ("htp_arch", "79")]),
            ("SM8850", &[("soc_model", "87"), ("htp_arch", "81")]),
        ],
    },
];

/// What a compiler made, and how it agrees with the processor.
pub(super) struct Compiled {
    /// The compiler with its version.
    pub(super) tool: String,
    agreement: Vec<Agreement>,
}

/// An output of the simulator beside that of the processor.
struct Agreement {
    output: String,
    /// The largest difference of a value; infinite where a value of one is no number.
    difference: f64,
    /// The greatest value, without its sign.
    greatest: f64,
}

impl Vendor {
    /// The compiler that writes a format.
    pub(super) fn of(format: Format) -> Option<&'static Self> {
        VENDORS.iter().find(|vendor| vendor.format == format)
    }

    /// The chip of this name, as the vendor spells it.
    pub(super) fn target(&self, name: Option<&str>) -> Result<&'static str, Failure> {
        let known = || self.targets.iter().map(|(chip, _)| *chip).collect::<Vec<_>>().join(", ");
        let name = name.ok_or_else(|| {
            Failure::Usage(format!("name the chip with --target; {} knows {}", self.packages, known()))
        })?;
        let found = self.targets.iter().find(|(chip, _)| chip.eq_ignore_ascii_case(name));
        found.map(|(chip, _)| *chip).ok_or_else(|| {
            Failure::Usage(format!("there is no target '{name}'; {} knows {}", self.packages, known()))
        })
    }

    /// Compiles an ONNX model to the file that the options name, runs it in the simulator, and compares.
    pub(super) fn compile(
        &self,
        options: &Export,
        target: &str,
        exported: &Exported<'_>,
        held: &[Option<Weight>],
        model: &Path,
    ) -> Result<Compiled, Failure> {
        let graph = &exported.graph;
        let example = exported.example()?;
        let work = model.parent().unwrap_or(Path::new("."));
        let at = |name: &str| work.join(name);
        let mut inputs = Vec::new();
        for (i, (input, bytes)) in graph.inputs().iter().zip(&example).enumerate() {
            let Some(bytes) = bytes else { continue };
            let (ty, path) = (graph.ty(input.value), at(&format!("input.{i}")));
            write_file(&path, bytes)?;
            let (dtype, shape) = (ty.dtype.name(), &ty.dims);
            inputs.push(json!({ "name": input.name, "dtype": dtype, "shape": shape, "file": path }));
        }
        let facts =
            self.targets.iter().find(|(chip, _)| *chip == target).map_or(&[][..], |(_, facts)| *facts);
        let facts: serde_json::Map<String, Value> =
            facts.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
        let out = std::path::absolute(&options.out)
            .map_err(|source| Failure::File { path: options.out.clone(), source })?;
        // The tool writes beside the place, so that a failure leaves nothing there.
        let made = at("made").with_extension(out.extension().unwrap_or_default());
        let answer = at("answer.json");
        let job = json!({
            "model": model, "out": made, "target": target, "options": facts,
            "work": work, "answer": answer, "inputs": inputs,
        });
        let (script, job_file) = (at("script.py"), at("job.json"));
        write_file(&at("job.py"), JOB.as_bytes())?;
        write_file(&script, self.script.as_bytes())?;
        write_file(&job_file, job.to_string().as_bytes())?;
        let mut command = Command::new(&options.python);
        command.arg(&script).arg(&job_file).current_dir(work).stdin(Stdio::null());
        let ended = command.output().map_err(|e| {
            let python = options.python.display();
            Failure::Usage(format!(
                "{python} does not start: {e}; name a Python that has the compiler with --python"
            ))
        })?;
        let said = self.said(options, &ended, &answer)?;
        let expected = on_the_processor(graph, held, &example)?;
        let agreement = compare(graph, &expected, &said, work)?;
        let bytes = std::fs::read(&made).map_err(|source| Failure::File { path: made.clone(), source })?;
        write_file(&out, &bytes)?;
        Ok(Compiled { tool: said["tool"].as_str().unwrap_or(self.packages).to_string(), agreement })
    }

    /// What the script answered.
    fn said(&self, options: &Export, ended: &Output, answer: &Path) -> Result<Value, Failure> {
        let answer =
            std::fs::read(answer).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let answer = answer.unwrap_or_default();
        if let Some(missing) = answer["missing"].as_str() {
            return Err(Failure::Usage(format!(
                "{} has no such compiler ({missing}); install it with `{0} -m pip install {}`, or name another Python \
                 with --python",
                options.python.display(),
                self.packages
            )));
        }
        if answer["outputs"].is_array() {
            return Ok(answer);
        }
        let fault = match answer["fault"].as_str() {
            Some(fault) => fault.to_string(),
            None => format!("it ended with {} and no answer", ended.status),
        };
        // What tools say is long; the reason is near its end.
        let text =
            [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n    ");
        Err(Failure::Negative(format!(
            "{} did not compile and run the model: {fault}; it said\n    {last}",
            self.packages
        )))
    }
}

/// The outputs of a graph on the cpu.
fn on_the_processor(
    graph: &Graph,
    held: &[Option<Weight>],
    example: &[Option<Vec<u8>>],
) -> Result<Vec<Vec<f64>>, Failure> {
    let device = percept::registry().open("cpu")?;
    let program = device.compile(graph, &CompileOptions { strict: true, ..CompileOptions::default() })?;
    let donated = graph.donated();
    let mut args = Vec::new();
    for (i, input) in graph.inputs().iter().enumerate() {
        let buffer = match (&held[i], &example[i]) {
            (Some(weight), _) => device.load_weight(weight)?,
            (None, Some(bytes)) => device.upload(graph.ty(input.value), bytes)?,
            (None, None) => device.zeros(graph.ty(input.value))?,
        };
        args.push(if donated.contains(&i) { Arg::Donate(buffer) } else { Arg::Borrow(buffer) });
    }
    let read = |buffer: percept::hal::Buffer| -> Result<Vec<f64>, Failure> {
        let tensor = HostTensor::new(buffer.ty().clone(), device.read(&buffer)?);
        Ok(tensor.map_err(|e| Failure::Negative(e.to_string()))?.values())
    };
    program.run(args)?.into_iter().map(read).collect()
}

/// The simulator's outputs beside the expected.
fn compare(
    graph: &Graph,
    expected: &[Vec<f64>],
    said: &Value,
    work: &Path,
) -> Result<Vec<Agreement>, Failure> {
    let files = said["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if files.len() != expected.len() {
        return Err(Failure::Negative(format!(
            "the simulator gave {} outputs, the model has {}",
            files.len(),
            expected.len()
        )));
    }
    let mut all = Vec::new();
    for ((output, expected), file) in graph.outputs().iter().zip(expected).zip(files) {
        let path = work.join(file.as_str().unwrap_or_default());
        let bytes = std::fs::read(&path).map_err(|source| Failure::File { path, source })?;
        let found = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        if bytes.len() != expected.len() * 4 {
            let (given, wanted) = (bytes.len() / 4, expected.len());
            let name = &output.name;
            return Err(Failure::Negative(format!(
                "the simulator's output '{name}' has {given} values, not {wanted}"
            )));
        }
        let difference = found.zip(expected).fold(0f64, |worst, (a, b)| {
            let off = if a == *b || a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
            if off.is_nan() { f64::INFINITY } else { worst.max(off) }
        });
        let greatest = expected.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
        all.push(Agreement { output: output.name.clone(), difference, greatest });
    }
    Ok(all)
}

impl Agreement {
    fn holds(&self) -> bool {
        self.difference <= TOLERANCE * self.greatest
    }
}

impl Compiled {
    /// For programs.
    pub(super) fn to_json(&self, target: &str) -> Value {
        let outputs = self.agreement.iter().map(|a| {
            let difference = a.difference.is_finite().then_some(a.difference);
            json!({ "output": a.output, "difference": difference, "greatest": a.greatest, "agrees": a.holds() })
        });
        json!({ "tool": self.tool, "target": target, "agreement": outputs.collect::<Vec<_>>() })
    }

    /// An error where an output differs by more than the chip's precision explains.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let off: Vec<&str> =
            self.agreement.iter().filter(|a| !a.holds()).map(|a| a.output.as_str()).collect();
        if off.is_empty() {
            return Ok(());
        }
        Err(Failure::Negative(format!(
            "in {}'s simulator {} differ by more than {TOLERANCE} of their greatest value from what the processor computes",
            self.tool,
            off.join(", ")
        )))
    }
}

impl fmt::Display for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for a in &self.agreement {
            let verdict = if a.holds() { "agrees" } else { "DIFFERS" };
            writeln!(
                f,
                "{} {verdict} in the simulator: off by {:.1e} of {:.2} at most",
                a.output, a.difference, a.greatest
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_a_compiler_does_not_know_is_refused_with_those_that_it_knows() {
        let vendor = Vendor::of(Format::Rknn).unwrap();
        assert_eq!(vendor.target(Some("rk3588")).unwrap(), "RK3588");
        for name in [None, Some("rk9999")] {
            let told = vendor.target(name).unwrap_err().to_string();
            assert!(told.contains("RK3588") && told.contains("RV1126B"), "{told}");
        }
        assert!(Vendor::of(Format::Onnx).is_none());
    }

    #[test]
    fn what_is_no_number_or_far_off_does_not_agree() {
        let agrees = |difference, greatest| Agreement { output: "y".into(), difference, greatest }.holds();
        assert!(agrees(0.019, 1.0) && agrees(0.0, 0.0));
        assert!(!agrees(0.5, 1.0) && !agrees(f64::INFINITY, 1e9) && !agrees(1e-9, 0.0));
    }
}
