//! L4: timed graphs of the sizes models have, small enough for a software device.

use percept_graph::{Activation, AttentionSpec, DType};

use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    t.model("decoder-layer", crate::conformance::workload::decoder_layer);
    let sum = |terms| Class::Sum { terms };
    let composite = |terms| Class::Composite { terms };
    t.speed("speed.copy", "f32-1MiB", |b| {
        let x = b.data(DType::F32, &[512, 512], Fill::Normal);
        b.output(&(x + 1.0), Class::Rounded);
    });
    t.speed("speed.chain", "f32-1MiB", |b| {
        let x = b.data(DType::F32, &[512, 512], Fill::Normal);
        let mut y = x.clone();
        for _ in 0..5 {
            y = (&y * 0.5 + &x).abs();
        }
        b.output(&y, Class::Composite { terms: 1 });
    });
    for d in [DType::F32, DType::BF16] {
        t.speed("speed.dot", format!("{d}/256"), move |b| {
            let (x, w) = (b.data(d, &[256, 256], Fill::Normal), b.weight(d, &[256, 256], Fill::Normal));
            b.output(&x.linear(&w, None, None), sum(256));
        });
        t.speed("speed.softmax", format!("{d}/1024x256"), move |b| {
            let x = b.data(d, &[1024, 256], Fill::Normal);
            b.output(&x.softmax(), composite(256));
        });
        t.speed("speed.rms_norm", format!("{d}/1024x256"), move |b| {
            let (x, w) = (b.data(d, &[1024, 256], Fill::Normal), b.weight(d, &[256], Fill::Normal));
            b.output(&x.rms_norm(&w, 1e-5), composite(256));
        });
        t.speed("speed.layer_norm", format!("{d}/1024x256"), move |b| {
            let x = b.data(d, &[1024, 256], Fill::Normal);
            let (w, bias) = (b.weight(d, &[256], Fill::Normal), b.weight(d, &[256], Fill::Normal));
            b.output(&x.layer_norm(&w, &bias, 1e-5), composite(256));
        });
        t.speed("speed.gelu", format!("{d}/1024x256"), move |b| {
            let x = b.data(d, &[1024, 256], Fill::Normal);
            b.output(&x.activate(Activation::GeluTanh), composite(1));
        });
        t.speed("speed.attention", format!("{d}/4x128x32"), move |b| {
            let dims = [1, 4, 128, 32];
            let [q, k, v] = [0; 3].map(|_| b.data(d, &dims, Fill::Normal));
            b.output(&q.attention(&k, &v, &[], AttentionSpec::causal(0.2)), composite(128));
        });
        t.speed("speed.transpose", format!("{d}/512x512"), move |b| {
            let x = b.data(d, &[512, 512], Fill::Normal);
            b.output(&x.transpose([1, 0]), Class::Exact);
        });
    }
    for q in super::QUANTIZED {
        t.speed("speed.quantized_vector", format!("f32-{q}/1024x1024"), move |b: &mut Build| {
            let (x, w) =
                (b.data(DType::F32, &[1, 1024], Fill::Normal), b.weight(q, &[1024, 1024], Fill::Normal));
            b.output(&x.linear(&w, None, None), sum(1024));
        });
    }
}
