//! Numbers in a checkpoint's configuration are claims. Whatever they say, opening the model, preparing a prompt with its
//! media, laying it out, tracing and running it ends in a result or an error: no panic, no abort, and never as much as a
//! gigabyte of memory. A program of its own: its allocator counts, and gives no more than that.
//!
//! Every number of every family's configuration and processor files under `tests/parity` takes every value of a list,
//! one at a time and then two at a time. The test walks a sample of them; `PERCEPT_MUTATIONS=100000` walks more, and
//! `PERCEPT_MUTATION=N` that one alone.

#[allow(dead_code)]
#[path = "it/parity_case/mod.rs"]
mod parity_case;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parity_case::{Case, cases};
use percept::hal::Device;
use percept::infer::{Session, SessionOptions};
use percept::model::checkpoint::Checkpoint;
use percept::model::{Model, open};
use serde_json::{Value, json};

/// Bytes that may be taken at a time.
const MOST: usize = 1 << 30;
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// What is being tried, for the abort that too large an allocation ends in.
static TRIED: Mutex<String> = Mutex::new(String::new());

/// The system's allocator, which counts and gives no more than [`MOST`].
struct Counting;

impl Counting {
    fn take(size: usize) -> bool {
        let now = TAKEN.fetch_add(size, Ordering::Relaxed).saturating_add(size);
        if now > MOST {
            TAKEN.fetch_sub(size, Ordering::Relaxed);
            if let Ok(tried) = TRIED.try_lock() {
                // The test ends here, and standard error is all that is left to say why.
                let _ = std::io::stderr().write_all(tried.as_bytes());
                let _ = std::io::stderr().write_all(b"\n");
            }
            return false;
        }
        PEAK.fetch_max(now, Ordering::Relaxed);
        true
    }
}

// SAFETY: every call is passed on to the system's allocator with the layout it came with; a null pointer, which says
// that there is no memory, is the one answer of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Counting::take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !Counting::take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `at` came from the system's allocator with this layout, as everything here does.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Files whose numbers are changed.
const FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
];

/// What takes a number's place.
fn values(own: &Value) -> Vec<Value> {
    let whole = [
        0,
        1,
        2,
        3,
        5,
        7,
        8,
        13,
        16,
        31,
        64,
        100,
        255,
        257,
        1000,
        4095,
        4096,
        65535,
        65536,
        1 << 20,
        1 << 24,
        (1 << 24) + 1,
        1 << 28,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        1 << 36,
        1 << 40,
        (1 << 40) + 1,
        1 << 53,
        1 << 62,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    let mut all: Vec<Value> = whole.iter().map(|n| json!(n)).collect();
    all.extend([-1i64, -2, -1000, i64::MIN].map(|n| json!(n)));
    all.extend(
        [0.5, 1.5, -0.5, 1e-300, 1e-38, 1e-6, 0.1, 1e6, 1e18, 1e38, 1e39, 1e300, -1e300].map(|n| json!(n)),
    );
    if let Some(n) = own.as_f64() {
        all.extend(
            [n + 1.0, n - 1.0, n * 2.0, n * 10.0, n * 1e3, n * 1e6, n / 2.0, -n]
                .map(|n| if n >= 0.0 && n.fract() == 0.0 && n < 1e18 { json!(n as u64) } else { json!(n) }),
        );
    }
    all.extend([json!(null), json!(true), json!("1"), json!([]), json!({}), json!([1, 2, 3])]);
    all
}

/// The places of every number below a value.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Number(_) => out.push(at),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(i, v)| places(v, format!("{at}/{i}"), out));
        }
        Value::Object(all) => all.iter().for_each(|(key, v)| places(v, format!("{at}/{key}"), out)),
        _ => {}
    }
}

/// A family's files in a folder of their own, and what may be changed in them.
struct Family {
    case: Case,
    folder: tempfile::TempDir,
    /// File, its content and the place of one number.
    numbers: Vec<(&'static str, Arc<Value>, String)>,
}

impl Family {
    fn new(case: Case) -> Family {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(case.folder.join("model")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            std::fs::copy(&path, folder.path().join(&name)).unwrap();
            if let Some(file) = FILES.into_iter().find(|f| *f == name) {
                let content: Arc<Value> =
                    Arc::new(serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap());
                let mut found = Vec::new();
                places(&content, String::new(), &mut found);
                numbers.extend(found.into_iter().map(|place| (file, content.clone(), place)));
            }
        }
        Family { case, folder, numbers }
    }

    /// Tries the model with some numbers changed, then puts the files back.
    fn tried(&self, changes: &[(usize, Value)], device: Option<&Arc<dyn Device>>) {
        let mut files: Vec<(&str, Value, &Arc<Value>)> = Vec::new();
        for (number, with) in changes {
            let (file, content, place) = &self.numbers[*number];
            let at = files.iter().position(|f| f.0 == *file).unwrap_or_else(|| {
                files.push((file, (**content).clone(), content));
                files.len() - 1
            });
            // Another change may have taken the place away.
            if let Some(value) = files[at].1.pointer_mut(place) {
                *value = with.clone();
            }
        }
        let write = |file: &str, content: &Value| {
            std::fs::write(self.folder.path().join(file), content.to_string()).unwrap();
        };
        files.iter().for_each(|(file, changed, _)| write(file, changed));
        let outcome = catch_unwind(AssertUnwindSafe(|| self.exercise(device)));
        files.iter().for_each(|(file, _, own)| write(file, own));
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    /// Everything up to the encoders' graphs and, with a device, up to a few tokens. What comes of it does not matter here.
    fn exercise(&self, device: Option<&Arc<dyn Device>>) -> Option<()> {
        let checkpoint = Arc::new(Checkpoint::open(self.folder.path()).ok()?);
        match open(checkpoint).ok()? {
            Model::Causal(model) => {
                if let Some(sampling) = model.processor().video_sampling() {
                    let _ = sampling.indices(7, 4.0);
                }
                let media = self.case.media(model.processor()).ok()?;
                let inputs = model.processor().chat(&self.case.messages().ok()?, &media).ok()?;
                model.layout(&inputs).ok()?;
                let Some(device) = device else {
                    model.encoder_runs(&inputs).ok()?;
                    return Some(());
                };
                let mut session = Session::new(device.clone(), model, SessionOptions::default()).ok()?;
                let (mut sequence, _) = session.prefill(&inputs, 2, usize::MAX).ok()?;
                session.decode(&mut sequence, 1).ok()?;
            }
            Model::Contrastive(model) => {
                let Some(device) = device else {
                    model.image_graph(1).and_then(|_| model.text_graph(1)).ok()?;
                    model.tokens(&["a text".to_string()]).ok()?;
                    return Some(());
                };
                let _ = parity_case::contrastive::check(&self.case, device, model);
            }
            Model::ImageEncoder(model) => {
                let Some(device) = device else {
                    model.graph(&[1, 3, model.patch, model.patch]).ok()?;
                    return Some(());
                };
                let _ = parity_case::images::check(&self.case, device, model);
            }
            Model::TextEncoder(model) => {
                model.graph(1, 1).ok()?;
                model.tokens("a text").ok()?;
            }
            Model::Frames(model) => {
                let Some(device) = device else {
                    model.run(&vec![0.0; 16 * model.encoder.bands], 16).ok()?;
                    return Some(());
                };
                let _ = parity_case::frames::check(&self.case, device, model);
            }
            Model::Speech(model) => {
                let Some(device) = device else {
                    model
                        .encode()
                        .and_then(|_| model.cross_keys())
                        .and_then(|_| model.step(&model.step_shape(1, 1)))
                        .ok()?;
                    return Some(());
                };
                let _ = parity_case::speech::check(&self.case, device, model);
            }
        }
        Some(())
    }
}

/// A change that is tried for longer hangs.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn no_number_in_a_configuration_ends_in_a_panic_or_in_a_gigabyte() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<usize>().ok());
    let (wanted, only) = (setting("PERCEPT_MUTATIONS").unwrap_or(600), setting("PERCEPT_MUTATION"));
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let families: Vec<Family> = cases(&folder).into_iter().map(Family::new).collect();
    // Every single change, then as many pairs.
    let mut singles: Vec<(usize, usize, Value)> = Vec::new();
    for (f, family) in families.iter().enumerate() {
        for (n, (_, content, place)) in family.numbers.iter().enumerate() {
            let own = content.pointer(place).unwrap();
            singles.extend(values(own).into_iter().map(|value| (f, n, value)));
        }
    }
    assert!(singles.len() > 50_000, "{} changes of single numbers", singles.len());
    let device = percept::registry().open("cpu").unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut failures, mut tried) = (Vec::new(), 0);
    let mut slowest = (Duration::ZERO, String::new());
    // A step that has no factor in common with the number of changes comes by all of them.
    let step = (0..).map(|i| 7919 + i).find(|step| !singles.len().is_multiple_of(*step)).unwrap();
    for i in 0..wanted {
        if only.is_some_and(|only| only != i) {
            continue;
        }
        let (f, number, value) = &singles[i * step % singles.len()];
        let mut changes = vec![(*number, value.clone())];
        if i >= singles.len() {
            let (_, other, value) = &singles[(i * step + i / singles.len() * 104_729) % singles.len()];
            changes.push((other % families[*f].numbers.len(), value.clone()));
        }
        let family = &families[*f];
        let say = |(n, value): &(usize, Value)| {
            format!("{}{} = {}", family.numbers[*n].0, family.numbers[*n].2, value)
        };
        let what = format!(
            "mutation {i}, {}: {}",
            family.case.name,
            changes.iter().map(say).collect::<Vec<_>>().join(" and ")
        );
        TRIED.lock().unwrap().clone_from(&what);
        // Running a model takes most of the time.
        let deep = only.is_some() || i % 32 == 0;
        let start = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| family.tried(&changes, deep.then_some(&device))))
        {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            let why = why.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            failures.push(format!("{what}: {why}"));
        }
        let mut took = start.elapsed();
        if took > LONG {
            // Where other programs have the machine, a second try may find it free.
            let again = Instant::now();
            let _ = catch_unwind(AssertUnwindSafe(|| family.tried(&changes, deep.then_some(&device))));
            took = took.min(again.elapsed());
        }
        if took > slowest.0 {
            slowest = (took, what);
        }
        tried += 1;
    }
    let _ = std::panic::take_hook();
    let peak = PEAK.load(Ordering::Relaxed) >> 20;
    println!("{tried} mutations of {} single ones, {peak} MiB at most; slowest {slowest:?}", singles.len());
    assert!(
        failures.is_empty(),
        "{} of {tried} mutations end in a panic:\n{}",
        failures.len(),
        failures.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
    assert!(slowest.0 < LONG, "slow: {slowest:?}");
}
