//! A kernel of one's own is held to an operation's cases: a correct one passes, faulty ones are caught and the case
//! that caught them is named.

use percept_graph::{Composite, DType, HostTensor, Op, TensorType};
use percept_hal::conformance::{Class, Rejection, TrialCase, try_kernel};
use percept_wgpu::WgpuDevice;

use crate::adapter;

const SOFTMAX: &str = include_str!("../kernels/softmax.wgsl");

fn cases() -> Vec<TrialCase> {
    [[1, 1], [3, 7], [2, 64], [5, 65], [17, 257]]
        .into_iter()
        .map(|[rows, n]| {
            let ty = TensorType::new(DType::F32, [rows, n]);
            let values: Vec<f64> = (0..rows * n).map(|i| ((i * 37 + 11) % 101) as f64 / 9.0 - 5.0).collect();
            TrialCase {
                name: format!("softmax {rows}x{n}"),
                op: Op::Composite(Composite::Softmax),
                inputs: vec![HostTensor::from_f64(ty, &values).unwrap()],
                classes: vec![Class::Composite { terms: n }],
            }
        })
        .collect()
}

fn rejected(device: &WgpuDevice, from: &str, to: &str) -> Rejection {
    assert!(SOFTMAX.contains(from), "the fault is not in the kernel");
    try_kernel(device, &SOFTMAX.replace(from, to), &cases()).expect_err("a faulty kernel passed")
}

#[test]
fn a_correct_kernel_passes_at_every_size() {
    let Some(device) = adapter::open() else { return };
    let checked = try_kernel(&device, SOFTMAX, &cases()).unwrap();
    assert!(checked >= 4 * cases().len() * 3, "{checked}");
}

#[test]
fn a_wrong_edge_is_caught() {
    let Some(device) = adapter::open() else { return };
    let e = rejected(&device, "i < n; i += WG) {\n        y[", "i < n / 4u * 4u; i += WG) {\n        y[");
    let text = e.to_string();
    assert!(matches!(e, Rejection::Wrong { .. }) && text.contains("never written"), "{text}");
    assert!(text.contains("softmax 1x1") || text.contains("softmax 3x7"), "{text}");
}

#[test]
fn a_forgotten_barrier_is_caught() {
    let Some(device) = adapter::open() else { return };
    let e =
        rejected(&device, "        workgroupBarrier();\n        if lane < half", "        if lane < half");
    assert!(matches!(&e, Rejection::Wrong { case, .. } if case.starts_with("softmax")), "{e}");
}

#[test]
fn a_conflict_between_workgroups_is_caught() {
    let Some(device) = adapter::open() else { return };
    // Rounds the row up to whole workgroups and so writes into the next row.
    let e = rejected(
        &device,
        "for (var i = lane; i < n; i += WG) {\n        y[row + i] = ",
        "for (var i = lane; i < n + 1u; i += WG) {\n        y[row + i] = ",
    );
    assert!(e.to_string().contains("workgroups conflict"), "{e}");
}

#[test]
fn invalid_wgsl_is_refused_with_line_and_column() {
    let Some(device) = adapter::open() else { return };
    let e = rejected(&device, "let n = shapes.x.w;", "let n = shapes.z.w;");
    let Rejection::Wgsl(e) = e else { panic!("{e}") };
    assert!(e.line > 20 && e.column > 1, "{e}");
}
