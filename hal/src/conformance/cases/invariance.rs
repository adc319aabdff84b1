//! L3: a row alone equals the same row in a batch and in another chunking, bit for bit; the same graph twice
//! gives the same bits.

use percept_graph::{
    Activation, AttentionSpec, Composite, DType, GraphError, HostTensor, Op, Role, Tensor, TensorType, Trace,
    grad,
};

use super::memory::{hold, wrong};
use super::{FLOATS, QUANTIZED};
use crate::buffer::Arg;
use crate::conformance::case::{Fault, Level::L3, Subject, read};
use crate::conformance::table::Table;
use crate::conformance::values::{Fill, Random};

/// An operation on rows: from x [rows, width] and weights to [rows, ..].
#[derive(Clone)]
struct Rows {
    dtype: DType,
    width: usize,
    weights: Vec<TensorType>,
    f: fn(&Tensor, &[Tensor]) -> Tensor,
}

impl Rows {
    /// Results for these rows of the operand, one vector of bits per row.
    fn run(&self, s: &Subject, range: std::ops::Range<usize>) -> Result<Vec<Vec<u64>>, Fault> {
        let mut r = Random::named("rows");
        let n = range.len();
        let all = r.tensor(&TensorType::new(self.dtype, [BATCH, self.width]), Fill::Normal);
        let weights: Vec<HostTensor> =
            self.weights.iter().map(|ty| r.tensor(ty, Fill::Scaled(0.3))).collect();
        let t = Trace::new("rows");
        let x = t.data("x", self.dtype, [n, self.width]);
        let w: Vec<Tensor> = self
            .weights
            .iter()
            .enumerate()
            .map(|(i, ty)| t.input(format!("w{i}"), Role::Parameter, ty.clone()))
            .collect();
        t.output("y", &(self.f)(&x, &w));
        let mut options = s.options();
        options.batch_invariant = true;
        let exe = s.device.compile(&t.finish()?, &options)?;
        let row = self.width * self.dtype.block_bytes();
        let part = &all.bytes()[range.start * row..range.end * row];
        let mut args =
            vec![Arg::Donate(s.device.upload(&TensorType::new(self.dtype, [n, self.width]), part)?)];
        for w in &weights {
            args.push(Arg::Donate(s.device.upload(w.ty(), w.bytes())?));
        }
        let out = exe.run(args)?.swap_remove(0);
        let values = read(s, &out)?;
        Ok(values
            .chunks((values.len() / n.max(1)).max(1))
            .map(|r| r.iter().map(|v| v.to_bits()).collect())
            .collect())
    }

    fn check(&self, s: &Subject) -> Result<(), Fault> {
        let whole = self.run(s, 0..BATCH)?;
        hold(whole.len() == BATCH, || format!("{} rows came out of {BATCH}", whole.len()))?;
        for range in [0..1, BATCH - 1..BATCH, 3..4, 0..5, 5..BATCH, 2..19] {
            let part = self.run(s, range.clone())?;
            for (i, row) in part.iter().enumerate() {
                let expected = &whole[range.start + i];
                if let Some(j) = row.iter().zip(expected).position(|(a, b)| a != b) {
                    let (a, b) = (f64::from_bits(row[j]), f64::from_bits(expected[j]));
                    let at = range.start + i;
                    return wrong(format!(
                        "row {at}, element {j}: {a:e} in rows {range:?}, {b:e} among all {BATCH}"
                    ));
                }
            }
        }
        Ok(())
    }
}

const BATCH: usize = 37;

fn rows(t: &mut Table) {
    let weight = |d, dims: &[usize]| TensorType::new(d, dims);
    for d in FLOATS {
        let cases: [(&str, usize, Vec<TensorType>, fn(&Tensor, &[Tensor]) -> Tensor); 10] = [
            ("linear", 131, vec![weight(d, &[67, 131]), weight(d, &[67])], |x, w| {
                x.linear(&w[0], Some(&w[1]), Some(Activation::Silu))
            }),
            ("matmul", 259, vec![weight(d, &[259, 33])], |x, w| x.matmul(&w[0])),
            ("ragged_dot", 131, vec![weight(d, &[5, 33, 131])], |x, w| {
                let [_, groups] = x.narrow(1, 0, 5).top_k(2);
                x.ragged_dot(&w[0], &groups)
            }),
            ("softmax", 131, vec![], |x, _| x.softmax()),
            ("rms_norm", 259, vec![weight(d, &[259])], |x, w| x.rms_norm(&w[0], 1e-5)),
            ("layer_norm", 259, vec![weight(d, &[259]), weight(d, &[259])], |x, w| {
                x.layer_norm(&w[0], &w[1], 1e-5)
            }),
            ("reduce_sum", 1031, vec![], |x, _| x.sum([1])),
            ("elementwise", 13, vec![], |x, _| x.activate(Activation::GeluErf) * 0.5),
            ("cumsum", 67, vec![], |x, _| x.cumsum(1)),
            ("attention", 64, vec![weight(d, &[1, 2, 41, 32]), weight(d, &[1, 2, 41, 32])], |x, w| {
                let q = x.reshape([1, x.dim(0), 2, 32]).transpose([0, 2, 1, 3]);
                let y = q.attention(&w[0], &w[1], &[], AttentionSpec::full(0.2));
                y.transpose([0, 2, 1, 3]).reshape([x.dim(0), 64])
            }),
        ];
        for (op, width, weights, f) in cases {
            let rows = Rows { dtype: d, width, weights, f };
            t.promise(L3, "rows_alone", format!("{op}/{d}"), move |s| rows.check(s));
        }
        for q in QUANTIZED {
            let rows = Rows {
                dtype: d,
                width: 512,
                weights: vec![weight(q, &[19, 512])],
                f: |x, w| x.linear(&w[0], None, None),
            };
            t.promise(L3, "rows_alone", format!("quantized_dot/{d}-{q}"), move |s| rows.check(s));
        }
    }
}

/// A block forward and backward, of which every output must repeat.
fn repeated(s: &Subject) -> Result<(), Fault> {
    let build = || -> Result<(percept_graph::Graph, Vec<HostTensor>), GraphError> {
        let t = Trace::new("repeat");
        let x = t.data("x", DType::F32, [33, 64]);
        let (w, n) = (t.parameter("w", DType::F32, [192, 64]), t.parameter("n", DType::F32, [64]));
        let table = t.parameter("table", DType::F32, [17, 64]);
        let ids = t.data("ids", DType::I32, [33]);
        let h = (x.rms_norm(&n, 1e-5) + table.embedding(&ids, DType::F32)).linear(&w, None, None);
        let part =
            |i: usize| h.narrow(1, 64 * i, 64 * (i + 1)).reshape([1, 33, 2, 32]).transpose([0, 2, 1, 3]);
        let y = part(0).attention(&part(1), &part(2), &[], AttentionSpec::causal(0.2));
        let y = y.transpose([0, 2, 1, 3]).reshape([33, 64]) + &x;
        let loss = (&y * &y).mean([0, 1]);
        t.output("y", &y);
        for (i, g) in grad(&loss, &[&x, &w, &n, &table]).iter().enumerate() {
            t.output(format!("g{i}"), g);
        }
        let seed = t.input("seed", Role::Scalar, TensorType::new(DType::U32, [2]));
        t.output("uniform", &seed.random_uniform(3, [1025]));
        let [top, order] = y.top_k(7);
        t.output("top", &top);
        t.output("order", &order);
        let graph = t.finish()?;
        let mut r = Random::named("repeat");
        let inputs = graph.inputs().iter().map(|i| match i.name.as_str() {
            "ids" => r.tensor(graph.ty(i.value), Fill::Between(0, 17)),
            _ => r.tensor(graph.ty(i.value), Fill::Normal),
        });
        let inputs = inputs.collect();
        Ok((graph, inputs))
    };
    let (graph, inputs) = build()?;
    let mut first: Option<Vec<Vec<u8>>> = None;
    for attempt in 0..3 {
        let exe = s.device.compile(&graph, &s.options())?;
        for run in 0..3 {
            let args = inputs.iter().map(|t| s.device.upload(t.ty(), t.bytes()).map(Arg::Donate));
            let out = exe.run(args.collect::<Result<_, _>>()?)?;
            let bytes = out.iter().map(|b| s.device.read(b)).collect::<Result<Vec<_>, _>>()?;
            let Some(first) = &first else {
                first = Some(bytes);
                continue;
            };
            for (o, (a, b)) in graph.outputs().iter().zip(bytes.iter().zip(first)) {
                hold(a == b, || {
                    format!("'{}' of run {run}, compilation {attempt}, differs from the first run", o.name)
                })?;
            }
        }
    }
    Ok(())
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    rows(t);
    t.promise(L3, "same_bits_twice", "block-and-gradients", repeated);
    t.promise(L3, "same_bits_twice", "scatter-add-collisions", |s| {
        let t = Trace::new("collisions");
        let ids = t.data("ids", DType::I32, [257]);
        let u = t.data("u", DType::F32, [257, 5]);
        let zero = t.full(DType::F32, [3, 5], 0.0);
        let c = Composite::CumSum { axis: 0 };
        t.output("y", &zero.scatter(percept_graph::ScatterKind::Add, &ids, &u, 0));
        t.output("sums", &t.op(Op::Composite(c), &[&u]));
        let exe = s.device.compile(&t.finish()?, &s.options())?;
        let mut r = Random::named("collisions");
        let ids = r.tensor(&TensorType::new(DType::I32, [257]), Fill::Between(0, 3));
        let u = r.tensor(&TensorType::new(DType::F32, [257, 5]), Fill::Normal);
        let mut first = None;
        for run in 0..10 {
            let args = [&ids, &u].map(|t| s.device.upload(t.ty(), t.bytes()).map(Arg::Donate));
            let out = exe.run(args.into_iter().collect::<Result<_, _>>()?)?;
            let bytes = out.iter().map(|b| s.device.read(b)).collect::<Result<Vec<_>, _>>()?;
            let first = first.get_or_insert_with(|| bytes.clone());
            hold(*first == bytes, || format!("run {run} differs from the first"))?;
        }
        Ok(())
    });
}
