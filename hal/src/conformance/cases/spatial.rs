//! L2: patches, convolution, pooling, resizing and running sums.

use percept_graph::{Composite, DType, Interpolation, PoolKind};

use super::network::record;
use super::{DENSE, FLOATS};
use crate::conformance::case::Level::L2;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

fn patchify(t: &mut Table) {
    for d in DENSE {
        for (name, dims, patch) in [
            ("image", &[2usize, 3, 6, 10] as &[usize], &[2usize, 5] as &[usize]),
            ("video", &[1, 3, 4, 6, 6], &[2, 3, 2]),
            ("audio", &[1, 2, 21], &[7]),
            ("none", &[0, 3, 4, 4], &[2, 2]),
        ] {
            let recipe = move |b: &mut Build| {
                let x = b.data(d, dims, Fill::Normal);
                b.output(&x.patchify(patch), Class::Exact);
            };
            if d == DType::F32 && dims[0] > 0 {
                t.differentiable(L2, "patchify", format!("{d}/{name}"), 1, recipe);
            } else {
                t.values(L2, "patchify", format!("{d}/{name}"), recipe);
            }
        }
    }
}

fn conv1d(t: &mut Table) {
    for d in FLOATS {
        for (name, x, w, stride, padding, dilation) in [
            ("prime", [2usize, 3, 13], [5usize, 3, 3], 1usize, 1usize, 1usize),
            ("strided", [1, 4, 17], [7, 4, 3], 2, 1, 1),
            ("dilated", [1, 2, 19], [3, 2, 3], 1, 0, 4),
            ("pointwise", [2, 5, 7], [3, 5, 1], 1, 0, 1),
            ("past-tile", [1, 33, 65], [17, 33, 3], 1, 1, 1),
        ] {
            for bias in [false, true] {
                let terms = x[1] * w[2];
                let recipe = move |b: &mut Build| {
                    let mut inputs = vec![b.data(d, &x, Fill::Normal), b.weight(d, &w, Fill::Normal)];
                    if bias {
                        inputs.push(b.weight(d, &[w[0]], Fill::Normal));
                    }
                    let c = Composite::Conv1d { stride, padding, dilation, bias };
                    record(b, c, &inputs.iter().collect::<Vec<_>>(), Class::Sum { terms });
                };
                let variant = format!("{d}/{name}{}", if bias { "/bias" } else { "" });
                if d == DType::F32 {
                    t.differentiable(L2, "conv1d", variant, 200, recipe);
                } else {
                    t.values(L2, "conv1d", variant, recipe);
                }
            }
        }
    }
}

fn pool(t: &mut Table) {
    for d in FLOATS {
        for kind in [PoolKind::Avg, PoolKind::Max] {
            for (name, dims, window, stride) in [
                ("image", &[2usize, 3, 7, 9] as &[usize], &[2usize, 3] as &[usize], &[2usize, 3] as &[usize]),
                ("overlap", &[1, 2, 11], &[3], &[2]),
                ("gaps", &[1, 2, 13], &[2], &[3]),
                ("none", &[0, 2, 5], &[2], &[2]),
            ] {
                let op = if kind == PoolKind::Avg { "pool_avg" } else { "pool_max" };
                let class = if kind == PoolKind::Avg { Class::Sum { terms: 6 } } else { Class::Exact };
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, dims, Fill::Normal);
                    b.output(&x.pool(kind, window, stride), class);
                };
                if d == DType::F32 && dims[0] > 0 {
                    t.differentiable(L2, op, format!("{d}/{name}"), 6, recipe);
                } else {
                    t.values(L2, op, format!("{d}/{name}"), recipe);
                }
            }
            let op = if kind == PoolKind::Avg { "pool_avg" } else { "pool_max" };
            let class = if kind == PoolKind::Avg { Class::Sum { terms: 6 } } else { Class::Exact };
            t.values(L2, op, format!("{d}/special"), move |b| {
                let x = b.data(d, &[1, 2, 31], Fill::Special);
                b.output(&x.pool(kind, [3], [2]), class);
            });
        }
    }
}

fn upsample(t: &mut Table) {
    let kinds = [
        ("nearest", Interpolation::Nearest),
        ("bilinear", Interpolation::Bilinear { align_corners: false }),
        ("corners", Interpolation::Bilinear { align_corners: true }),
    ];
    for d in FLOATS {
        for (kind_name, kind) in kinds {
            for (name, dims, size) in [
                ("up", [2usize, 3, 5, 7], [11usize, 13usize]),
                ("down", [1, 2, 7, 9], [3, 4]),
                ("from-one", [1, 2, 1, 1], [3, 2]),
                ("to-one", [1, 1, 4, 5], [1, 1]),
            ] {
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, &dims, Fill::Normal);
                    let class = if kind == Interpolation::Nearest {
                        Class::Rounded
                    } else {
                        Class::Sum { terms: 16 }
                    };
                    b.output(&x.upsample(size, kind), class);
                };
                let variant = format!("{d}/{kind_name}/{name}");
                if d == DType::F32 {
                    t.differentiable(L2, "upsample", variant, 32, recipe);
                } else {
                    t.values(L2, "upsample", variant, recipe);
                }
            }
        }
    }
}

fn cumsum(t: &mut Table) {
    for d in FLOATS.into_iter().chain([DType::I32, DType::U32]) {
        for (name, dims, axis) in [
            ("rows", &[3usize, 13] as &[usize], 1usize),
            ("columns", &[13, 3], 0),
            ("one", &[3, 1], 1),
            ("long", &[2, 1025], 1),
            ("none", &[3, 0], 1),
        ] {
            let terms = dims[axis];
            let recipe = move |b: &mut Build| {
                let x = b.data(d, dims, Fill::Normal);
                b.output(&x.cumsum(axis), Class::Sum { terms });
            };
            if d == DType::F32 && terms > 0 {
                t.differentiable(L2, "cumsum", format!("{d}/{name}"), terms, recipe);
            } else {
                t.values(L2, "cumsum", format!("{d}/{name}"), recipe);
            }
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    patchify(t);
    conv1d(t);
    pool(t);
    upsample(t);
    cumsum(t);
}
