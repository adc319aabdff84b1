//! Graphs on the first adapter, held to the f64 reference.

use std::time::Instant;

use percept_graph::reference::evaluate;
use percept_graph::{Binary, DType, HostTensor, Literal, Op, ReduceKind, ScatterKind, TensorType};
use percept_hal::{Arg, CompileOptions, Device, Error, KernelDevice, Placement};

use crate::adapter::{check, check_with, device, graph, inputs_of, run, tensor, upload, values};

#[test]
fn elementwise_chains_of_every_float_and_odd_lengths() {
    let Some(device) = device() else { return };
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n in [0usize, 1, 2, 3, 31, 64, 255, 1001] {
            let g = graph(|t| {
                let (x, y) = (t.data("x", dtype, [n]), t.data("y", dtype, [n]));
                t.output("sum", &(&x + &y));
                t.output("chain", &(((&x * &y) - x.clone()).exp() * 0.5).tanh());
                t.output("mask", &x.binary(Binary::Max, &y).cast(DType::Bool));
            });
            // One rounding to the dtype per operation of the unfused form.
            let tolerance = match dtype {
                DType::F32 => 4e-6,
                DType::F16 => 4e-3,
                _ => 3e-2,
            };
            check_with(&device, &g, &inputs_of(&g), tolerance);
        }
    }
}

#[test]
fn infinities_and_nan_pass_through() {
    let Some(device) = device() else { return };
    let special = [f64::NEG_INFINITY, f64::INFINITY, f64::NAN, -0.0, 0.0, 1.0, -3.5, 3.0e38];
    for dtype in [DType::F32, DType::BF16] {
        let g = graph(|t| {
            let (x, y) = (t.data("x", dtype, [8, 8]), t.data("y", dtype, [8, 8]));
            t.output("add", &(&x + &y));
            t.output("max", &x.binary(Binary::Max, &y));
            t.output("min", &x.binary(Binary::Min, &y));
            t.output("row max", &x.max([0]));
            t.output("argmax", &x.argmax(0));
            t.output("sorted", &x.sort(0, false, 8)[0]);
            t.output("masked", &x.cast(DType::Bool).select(&y, &y.like(f64::NEG_INFINITY)));
            t.output("cast", &x.cast(DType::I32));
        });
        let x: Vec<f64> = (0..64).map(|i| special[i / 8]).collect();
        let y: Vec<f64> = (0..64).map(|i| special[i % 8]).collect();
        let ty = TensorType::new(dtype, [8, 8]);
        let inputs = [HostTensor::from_f64(ty.clone(), &x).unwrap(), HostTensor::from_f64(ty, &y).unwrap()];
        check_with(&device, &g, &inputs, 0.0);
    }
}

#[test]
fn movement_of_every_dtype() {
    let Some(device) = device() else { return };
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::U8, DType::Bool] {
        let g = graph(|t| {
            let (x, y) = (t.data("x", dtype, [3, 5]), t.data("y", dtype, [2, 5]));
            t.output("transpose", &x.transpose([1, 0]));
            t.output("reshape", &x.reshape([5, 3]));
            t.output("broadcast", &x.broadcast([3, 2, 5], [0, 2]));
            t.output("slice", &x.slice([0, 1], [3, 5], [2, 3]));
            t.output("concat", &percept_graph::Tensor::concat(&[&x, &y], 0).unwrap());
            t.output("input", &x);
            t.output("input again", &x);
        });
        check_with(&device, &g, &inputs_of(&g), 0.0);
    }
}

#[test]
fn reductions_gathers_and_scatters() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let x = t.data("x", DType::F32, [7, 33]);
        let ids = t.data("ids", DType::I32, [9]);
        let small = ids.binary(Binary::And, &ids.like(7.0));
        let updates = t.data("updates", DType::F32, [9, 33]);
        t.output("sum", &x.sum([1]));
        t.output("prod", &x.reduce(ReduceKind::Prod, [0]));
        t.output("all", &x.sum([0, 1]));
        t.output("gather", &x.gather(&small, 0));
        t.output("set", &x.scatter(ScatterKind::Set, &small, &updates, 0));
        t.output("add", &x.scatter(ScatterKind::Add, &small, &updates, 0));
        let [v, i] = x.top_k(5);
        t.output("top", &v);
        t.output("top at", &i);
    });
    check(&device, &g);
}

#[test]
fn a_graph_of_a_hundred_elementwise_operations_takes_three_dispatches_at_most() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let (x, y) = (t.data("x", DType::F32, [500, 3]), t.data("y", DType::F32, [3]));
        let row = y.broadcast([500, 3], [1]);
        let mut z = x.clone();
        for i in 0..25 {
            z = ((&z * 0.5 + &row).tanh() - i as f64 * 0.01).abs();
        }
        t.output("z", &z);
    });
    assert!(g.nodes().iter().filter(|n| n.op.is_elementwise()).count() >= 100);
    let executable = device.compile(&g, &CompileOptions::default()).unwrap();
    assert!(executable.report().launches <= 3, "{:?}", executable.report());
    check_with(&device, &g, &inputs_of(&g), 2e-5);
}

#[test]
fn donated_state_is_updated_in_place() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let cache = t.input("cache", percept_graph::Role::State, TensorType::new(DType::F32, [6, 4]));
        let row = t.data("row", DType::F32, [1, 4]);
        let at = t.data("at", DType::I32, []);
        let zero = at.like(0.0);
        let new = cache.dynamic_update_slice(&row, &[&at, &zero]);
        t.output("sum", &new.sum([0]));
        t.output_in_place("cache", &new, &cache);
    });
    let executable = device.compile(&g, &CompileOptions::default()).unwrap();
    let start = HostTensor::from_f64(TensorType::new(DType::F32, [6, 4]), &values(24, 3)).unwrap();
    let mut expected = start.values();
    let mut cache = device.upload(start.ty(), start.bytes()).unwrap();
    for step in 0..6i32 {
        let row = values(4, step as u64 + 10);
        expected[step as usize * 4..][..4].copy_from_slice(&row);
        let row = HostTensor::from_f64(TensorType::new(DType::F32, [1, 4]), &row).unwrap();
        let row = device.upload(row.ty(), row.bytes()).unwrap();
        let at = device.upload(&TensorType::new(DType::I32, []), &step.to_le_bytes()).unwrap();
        let held = cache.clone();
        let refused =
            executable.run(vec![Arg::Donate(cache), Arg::Borrow(row.clone()), Arg::Borrow(at.clone())]);
        assert!(matches!(refused, Err(Error::DonatedButHeld { .. })));
        let before = device.memory().buffers;
        let mut out = executable.run(vec![Arg::Donate(held), Arg::Borrow(row), Arg::Borrow(at)]).unwrap();
        assert!(device.memory().buffers <= before + 256, "only the sum is new");
        cache = out.remove(1);
        let read = HostTensor::new(cache.ty().clone(), device.read(&cache).unwrap()).unwrap();
        assert_eq!(read.values(), expected);
    }
}

#[test]
fn the_same_graph_twice_is_identical_bit_for_bit() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let x = t.data("x", DType::F32, [37, 129]);
        let y = (x.exp() * 0.3 + x.sin()).sum([1]);
        t.output("y", &y);
        t.output("z", &(x.tanh() - y.broadcast([37, 129], [0])).sum([0]));
    });
    let inputs = inputs_of(&g);
    let once = run(&device, &g, &inputs, &CompileOptions::default());
    for _ in 0..5 {
        let again = run(&device, &g, &inputs, &CompileOptions::default());
        assert!(once.iter().zip(&again).all(|(a, b)| a.bytes() == b.bytes()));
    }
}

#[test]
fn more_elements_than_one_dimension_of_groups_covers() {
    let Some(device) = device() else { return };
    let n = 65_535 * 64 * 4 + 77;
    let g = graph(|t| {
        let x = t.data("x", DType::F32, [n]);
        t.output("y", &(x * 2.0 + 1.0));
    });
    let x: Vec<f32> = (0..n).map(|i| (i % 1000) as f32).collect();
    let x = HostTensor::from_f32([n], &x).unwrap();
    let y = run(&device, &g, &[x], &CompileOptions::default()).remove(0);
    let wrong = y.values().iter().enumerate().position(|(i, &v)| v != (i % 1000) as f64 * 2.0 + 1.0);
    assert_eq!(wrong, None);
}

#[test]
fn threads_share_executables_and_get_their_own_results() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let x = t.data("x", DType::F32, [40, 50]);
        t.output("y", &(x.sum([1]).broadcast([40, 50], [0]) + x.exp()));
    });
    let executables = [true, false]
        .map(|fuse| device.compile(&g, &CompileOptions { fuse, ..CompileOptions::default() }).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (device, g, executable) = (&device, &g, &executables[thread % 2]);
            scope.spawn(move || {
                for round in 0..20 {
                    let inputs = [tensor(DType::F32, &[40, 50], (thread * 100 + round) as u64)];
                    let expected = evaluate(g, &inputs).unwrap().remove(0).values();
                    let y = executable.run(upload(device, g, &inputs)).unwrap().remove(0);
                    let got = HostTensor::new(y.ty().clone(), device.read(&y).unwrap()).unwrap().values();
                    assert!(expected.iter().zip(got).all(|(e, a)| (e - a).abs() <= 1e-5 * e.abs().max(1.0)));
                }
            });
        }
    });
}

#[test]
fn caches_survive_the_process() {
    let Some(_) = device() else { return };
    let folder = std::env::temp_dir().join(format!("percept-caches-{}", std::process::id()));
    let run = || {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "graphs::the_first_matrix_product_is_tuned_within_a_second_and_the_next_compile_is_not",
            ])
            .env("PERCEPT_CACHE_DIR", &folder)
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    };
    run();
    let files = || -> Vec<_> {
        let adapters: Vec<_> = std::fs::read_dir(folder.join("wgpu")).unwrap().collect();
        assert_eq!(adapters.len(), 1, "one folder for the adapter and its driver");
        let inside = std::fs::read_dir(adapters[0].as_ref().unwrap().path()).unwrap();
        inside.map(|f| f.unwrap().path()).collect()
    };
    assert!(files().iter().any(|f| f.ends_with("pipelines.bin")), "{:?}", files());
    for f in files() {
        // Damaged files cost time and nothing else.
        std::fs::write(f, b"percept1 damaged").unwrap();
    }
    run();
    assert!(
        files().iter().all(|f| !f.file_name().unwrap().to_string_lossy().starts_with('.')),
        "{:?}",
        files()
    );
    // A whole file of another adapter, as a copied home folder brings it, is replaced and does no harm.
    let other = include_bytes!("../pipelines_other_device.bin");
    let pipelines = files().into_iter().find(|f| f.ends_with("pipelines.bin")).unwrap();
    std::fs::write(&pipelines, other).unwrap();
    run();
    assert_ne!(std::fs::read(&pipelines).unwrap(), other);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_second_bucket_compiles_quickly_and_makes_no_pipeline() {
    let Some(device) = device() else { return };
    let bucket = |rows: usize| {
        graph(|t| {
            let mut x = t.data("x", DType::F32, [rows, 96]);
            for i in 0..30 {
                let _scope = t.scope(format!("layers.{i}"));
                let mean = x.mean([1]).broadcast([rows, 96], [0]);
                x = (&x - &mean).tanh() + x.transpose([1, 0]).transpose([1, 0]);
            }
            t.output("y", &x);
        })
    };
    device.compile(&bucket(32), &CompileOptions::default()).unwrap();
    let pipelines = device.kernel_device().pipelines();
    let start = Instant::now();
    let second = device.compile(&bucket(48), &CompileOptions::default()).unwrap();
    let elapsed = start.elapsed();
    println!("second bucket: {elapsed:?}, {} launches", second.report().launches);
    assert_eq!(device.kernel_device().pipelines(), pipelines);
    assert!(elapsed.as_millis() < 200, "{elapsed:?}");
    check(&device, &bucket(5));
}

#[test]
fn traces_time_every_dispatch() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let _scope = t.scope("layers.0");
        let x = t.data("x", DType::F32, [64, 64]);
        t.output("y", &x.sum([1]));
        t.output("z", &x.transpose([1, 0]));
    });
    let executable = device.compile(&g, &CompileOptions::default()).unwrap();
    let (_, events) = executable.run_timed(upload(&device, &g, &inputs_of(&g))).unwrap();
    assert_eq!(events.len(), executable.report().launches);
    assert!(
        events
            .iter()
            .any(|e| &*e.name == "reduce_sum" && &*e.path == "layers.0" && *e.place == device.info().id)
    );
    assert!(events.iter().all(|e| e.duration_us >= 0.0 && e.start_us >= 0.0));
    assert!(executable.report().placed.iter().all(|p| p.placement == Placement::Native));
}

#[test]
fn constants_of_many_values_and_a_lost_device() {
    let Some(device) = device() else { return };
    let ty = TensorType::new(DType::BF16, [3]);
    let literal = Literal::dense(ty, &[1.0, -2.0, 0.5]).unwrap();
    let g = graph(|t| {
        let x = t.data("x", DType::BF16, [2, 3]);
        let c = t.op(Op::Constant(literal), &[]);
        t.output("y", &(x.sum([1]).broadcast([2, 3], [0]) + c.broadcast([2, 3], [1])));
        t.output("c", &c);
    });
    check_with(&device, &g, &inputs_of(&g), 1e-2);
    let executable = device.compile(&g, &CompileOptions::default()).unwrap();
    let args = upload(&device, &g, &inputs_of(&g));
    let before = device.read(&executable.run(args.clone()).unwrap()[0]).unwrap();
    device.kernel_device().close();
    assert!(matches!(executable.run(args), Err(Error::Lost { .. })));
    let after = executable.run(upload(&device, &g, &inputs_of(&g))).unwrap();
    assert_eq!(device.read(&after[0]).unwrap(), before, "the executable goes on after the device was lost");
    device.kernel_device().close();
    let fresh = upload(&device, &g, &inputs_of(&g));
    let after = executable.run(fresh).unwrap();
    assert_eq!(
        device.read(&after[0]).unwrap(),
        before,
        "and when the adapter was opened again before the run"
    );
}

#[test]
fn the_first_matrix_product_is_tuned_within_a_second_and_the_next_compile_is_not() {
    let Some(device) = device() else { return };
    let product = |m: usize, k: usize, n: usize| {
        graph(|t| t.output("y", &t.data("x", DType::F32, [m, k]).matmul(&t.data("w", DType::F32, [k, n]))))
    };
    let g = product(130, 67, 93);
    let start = Instant::now();
    check_with(&device, &g, &inputs_of(&g), 1e-5);
    let first = start.elapsed();
    let pipelines = device.kernel_device().pipelines();
    let start = Instant::now();
    device.compile(&product(190, 95, 121), &CompileOptions::default()).unwrap();
    let second = start.elapsed();
    println!("first product {first:?}, tuning included; compiling another of its kind {second:?}");
    assert!(first.as_secs_f64() < 4.0, "{first:?}");
    assert_eq!(device.kernel_device().pipelines(), pipelines, "the choice is remembered");
}

#[test]
fn random_bits_and_uniforms_are_those_of_the_reference() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let seed = t.data("seed", DType::U32, [2]);
        t.output("bits", &seed.random_bits(7, [3, 1001]));
        t.output("uniform", &seed.random_uniform(8, [513]));
    });
    let seed: Vec<u8> = [0xdead_beefu32, 42].into_iter().flat_map(u32::to_le_bytes).collect();
    let seed = HostTensor::new(TensorType::new(DType::U32, [2]), seed).unwrap();
    check_with(&device, &g, &[seed], 0.0);
}

#[test]
fn a_decoder_layer_over_a_donated_cache() {
    let Some(device) = device() else { return };
    let (b, t_len, d, h, s_max) = (1, 5, 32, 4, 16);
    let g = graph(|t| {
        let x = t.data("x", DType::F32, [b, t_len, d]);
        let weight = |name: &str, dims: &[usize]| t.parameter(name, DType::F32, dims);
        let cache = |name: &str| {
            let ty = TensorType::new(DType::F32, [b, h, s_max, d / h]);
            t.input(name, percept_graph::Role::State, ty)
        };
        let (k_cache, v_cache) = (cache("k"), cache("v"));
        let pos = t.input("pos", percept_graph::Role::Scalar, TensorType::new(DType::I32, [b]));
        let _scope = t.scope("layers.0");
        let normed = x.rms_norm(&weight("norm", &[d]), 1e-5);
        let heads = |name: &str| {
            let y = normed.linear(&weight(name, &[d, d]), None, None);
            y.reshape([b, t_len, h, d / h]).transpose([0, 2, 1, 3])
        };
        let (q, k, v) = (heads("q.weight"), heads("k.weight"), heads("v.weight"));
        let (k, v) = (k_cache.kv_append(&k, &pos, None), v_cache.kv_append(&v, &pos, None));
        let live = &pos + t_len as f64;
        let spec = percept_graph::AttentionSpec {
            offset: true,
            kv_len: true,
            ..percept_graph::AttentionSpec::causal(0.35)
        };
        let out = q.attention(&k, &v, &[&pos, &live], spec);
        let out = out.transpose([0, 2, 1, 3]).reshape([b, t_len, d]);
        let act = percept_graph::Activation::Silu;
        t.output("y", &(&x + &out.linear(&weight("o", &[d, d]), None, Some(act))).softmax());
        t.output_in_place("k", &k, &k_cache);
        t.output_in_place("v", &v, &v_cache);
    });
    let mut inputs = inputs_of(&g);
    let at = g.input_index("pos").unwrap();
    inputs[at] = HostTensor::from_i32([1], &[7]).unwrap();
    check_with(&device, &g, &inputs, 2e-5);
    let invariant = CompileOptions { batch_invariant: true, ..CompileOptions::default() };
    let expected = evaluate(&g, &inputs).unwrap();
    let got = run(&device, &g, &inputs, &invariant);
    for (e, a) in expected.iter().zip(&got) {
        assert!(e.values().iter().zip(a.values()).all(|(x, y)| (x - y).abs() < 2e-5));
    }
}
