//! Every variant that can be launched is parsed and validated, and its launch fits its module.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use naga::{AddressSpace, TypeInner};
use percept_graph::DType;
use percept_kernels::{
    Caps, Cooperative, KernelProgram, Launch, MAX_PARAM_WORDS, Slot, catalog, validate, variants,
};

/// Adapters that between them reach every branch of lowering.
fn adapters() -> Vec<Caps> {
    let gpu = Caps { f16: true, subgroup_size: Some(32), max_workgroup_storage: 32768, ..Caps::default() };
    let software = Caps { software: true, max_bindings: 16, ..Caps::default() };
    let lavapipe = Caps { subgroup_size: Some(8), f16: true, ..software.clone() };
    let matrices = [(16, DType::F16), (8, DType::F32)].map(|(size, operand)| Caps {
        cooperative_matrix: Some(Cooperative { size, operand }),
        ..gpu.clone()
    });
    let mut all = vec![Caps::default(), gpu, software, lavapipe];
    all.extend(matrices);
    all.extend(all.clone().into_iter().map(|c| Caps { batch_invariant: true, ..c }));
    all
}

/// The sources that were reached, by key. Threads share it.
type Seen = Mutex<HashMap<String, Arc<str>>>;

fn check(launch: &Launch, program: &KernelProgram, caps: &Caps, seen: &Seen) {
    let module = &launch.module;
    assert!(launch.params.len() <= MAX_PARAM_WORDS, "{}", module.key);
    assert!(launch.bindings.len() <= caps.max_bindings as usize, "{}", module.key);
    assert!(launch.groups.iter().all(|&g| g >= 1 && g <= caps.max_groups), "{}", module.key);
    for slot in &launch.bindings {
        if let Slot::Scratch(i) = slot {
            assert!(*i < program.scratch.len(), "{}", module.key);
        }
    }
    // Whoever is first validates the module, and the others need not wait for it.
    match seen.lock().unwrap().entry(module.key.clone()) {
        Entry::Occupied(source) => {
            assert_eq!(source.get(), &module.source, "two sources have the key {}", module.key);
            return;
        }
        Entry::Vacant(place) => place.insert(module.source.clone()),
    };
    let parsed =
        validate(&module.source).unwrap_or_else(|e| panic!("{}: {e}\n{}", module.key, module.source));
    assert!(parsed.entry_points.iter().any(|e| e.name == "main"), "{}", module.key);
    let mut storage = 0;
    for (_, global) in parsed.global_variables.iter() {
        match global.space {
            AddressSpace::Storage { access } => {
                assert!(
                    access.contains(naga::StorageAccess::STORE),
                    "{}: {:?} is read-only",
                    module.key,
                    global.name
                );
                storage += 1;
            }
            AddressSpace::Uniform => {
                let TypeInner::Struct { members, .. } = &parsed.types[global.ty].inner else {
                    panic!("{}: the uniform is not a struct", module.key)
                };
                assert_eq!(members.len(), launch.params.len(), "{}", module.key);
            }
            _ => {}
        }
    }
    assert_eq!(storage, launch.bindings.len(), "{}", module.key);
}

#[test]
fn every_variant_is_valid_and_its_launch_fits_it() {
    let (adapters, catalog, seen) = (adapters(), catalog(), Seen::default());
    let work: Vec<(&Caps, &percept_kernels::Entry)> =
        adapters.iter().flat_map(|caps| catalog.iter().map(move |entry| (caps, entry))).collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((caps, entry)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check_entry(caps, entry, &seen);
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 500, "only {} modules were reached", seen.len());
}

/// Checks every launch of every variant of a kernel on an adapter.
fn check_entry(caps: &Caps, entry: &percept_kernels::Entry, seen: &Seen) {
    let mut launches = 0;
    for case in &entry.cases {
        for variant in 0..variants(&case.op) {
            let caps = Caps { variant: Some(variant), ..caps.clone() };
            let Ok(program) = case.lower(&caps) else { continue };
            launches += program.launches.len();
            for launch in &program.launches {
                check(launch, &program, &caps, seen);
            }
        }
    }
    assert!(launches > 0, "{} launches nothing", entry.name);
}

/// An adapter that can bind enough buffers runs every case.
#[test]
fn every_case_has_a_kernel() {
    let caps = Caps { max_bindings: 16, ..Caps::default() };
    let mut missing: Vec<String> = Vec::new();
    for entry in catalog() {
        for case in &entry.cases {
            if let Err(e) = case.lower(&caps) {
                missing.push(format!("{}: {e}", case.op.name()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_module_does_not_depend_on_sizes() {
    for entry in catalog() {
        for case in &entry.cases {
            let keys = |caps: &Caps| -> Vec<String> {
                case.lower(caps)
                    .map(|p| p.launches.iter().map(|l| l.module.key.clone()).collect())
                    .unwrap_or_default()
            };
            assert_eq!(keys(&Caps::default()), keys(&Caps { max_groups: 1024, ..Caps::default() }));
        }
    }
}
