//! Gradients against central differences on the f64 reference, over the table of cases that every device is held to.

use std::collections::{BTreeSet, HashMap};

use percept_graph::passes::eliminate_dead_code;
use percept_graph::reference::{DEFAULT_MAX_ELEMENTS, ExactTensor, evaluate_exact};
use percept_graph::{
    Binary, Compare, Composite, DType, GradientCase, Graph, HostTensor, Op, ReduceKind, Tensor, Trace, Unary,
    grad, grad_graph, gradient_cases,
};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Step of the central differences; the reference is f64, so that what is left is about STEP^2 times a third
/// derivative.
const STEP: f64 = 1.0 / 8192.0;

fn exact(case: &GradientCase) -> Vec<ExactTensor> {
    case.inputs.iter().map(ExactTensor::from).collect()
}

/// The gradients by the graph, and the case's differentiated inputs' indices.
fn analytic(case: &GradientCase) -> Vec<Vec<f64>> {
    let wrt: Vec<&str> = case.wrt.iter().map(String::as_str).collect();
    let graph = grad_graph(&case.graph, "loss", &wrt).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let out = evaluate_exact(&graph, &exact(case), DEFAULT_MAX_ELEMENTS)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    out[1..].iter().map(|t| t.values.clone()).collect()
}

fn numeric(case: &GradientCase, input: usize) -> Vec<f64> {
    let mut inputs = exact(case);
    let mut loss = |i: usize, value: f64| {
        let before = std::mem::replace(&mut inputs[input].values[i], value);
        let out = evaluate_exact(&case.graph, &inputs, DEFAULT_MAX_ELEMENTS).unwrap();
        inputs[input].values[i] = before;
        out[0].values[0]
    };
    let values = case.inputs[input].values();
    let slope = |(i, v): (usize, &f64)| (loss(i, v + STEP) - loss(i, v - STEP)) / (2.0 * STEP);
    values.iter().enumerate().map(slope).collect()
}

/// The largest error, relative to the value or to a thousandth of the tensor's largest.
fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let floor = 1e-3 * want.iter().fold(1e-3f64, |m, w| m.max(w.abs()));
    let off = got.iter().zip(want).map(|(g, w)| (g - w).abs() / w.abs().max(floor));
    off.fold(0.0, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) })
}

#[test]
fn gradients_agree_with_central_differences() {
    let mut wrong = Vec::new();
    for case in gradient_cases(DType::F32).unwrap() {
        for (name, gradient) in case.wrt.iter().zip(analytic(&case)) {
            let want = numeric(&case, case.graph.input_index(name).unwrap());
            let e = error(&gradient, &want);
            if e >= 1e-5 {
                wrong.push(format!("{} grad.{name}: {e:e}\n  got  {gradient:?}\n  want {want:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Gradients are graphs of the same operations, so they have gradients: those of a weighted sum of them all. Where a
/// gradient does not depend on an input any more, differences must see nothing either.
#[test]
fn second_derivatives_agree_with_central_differences() {
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for case in gradient_cases(DType::F32).unwrap() {
        let trace = Trace::resume(case.graph.clone());
        let value =
            |name: &str| trace.value(case.graph.inputs()[case.graph.input_index(name).unwrap()].value);
        let wrt: Vec<Tensor> = case.wrt.iter().map(|n| value(n)).collect();
        let loss = trace.value(case.graph.outputs()[0].value);
        let sums = grad(&loss, &wrt.iter().collect::<Vec<_>>()).into_iter().map(|g| {
            let n = g.ty().numel();
            let weights = (trace.iota(DType::F32, [n], 0) * 0.7).sin() + 0.3;
            (g.reshape([n]) * weights).sum([0])
        });
        trace.output("slope", &sums.reduce(|a, b| a + b).unwrap());
        let slope = trace.finish().unwrap();
        let second = GradientCase { graph: only(&slope, "slope"), ..case.clone() };
        for name in &case.wrt {
            let want = numeric(&second, case.graph.input_index(name).unwrap());
            let got = match grad_graph(&second.graph, "loss", &[name]) {
                Ok(_) => analytic(&GradientCase { wrt: vec![name.clone()], ..second.clone() }).remove(0),
                Err(e) if e.to_string().contains("does not depend") => vec![0.0; want.len()],
                Err(e) => panic!("{}: {e}", case.name),
            };
            checked += got.iter().any(|&g| g != 0.0) as usize;
            let e = error(&got, &want);
            if e >= 1e-5 {
                wrong.push(format!("{} grad.{name}: {e:e}\n  got  {got:?}\n  want {want:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 100, "{checked}");
}

/// The graph with one output, as `loss`.
fn only(graph: &Graph, output: &str) -> Graph {
    let mut g = Graph::new(graph.name());
    let mut map = HashMap::new();
    for i in graph.inputs() {
        map.insert(i.value, g.add_input(&i.name, i.role, graph.ty(i.value).clone()).unwrap());
    }
    for n in graph.nodes() {
        let inputs: Vec<_> = n.inputs.iter().map(|v| map[v]).collect();
        let outputs = g.add(n.op.clone(), &inputs, &n.path).unwrap();
        map.extend(n.outputs.iter().copied().zip(outputs));
    }
    g.add_output("loss", map[&graph.outputs()[graph.output_index(output).unwrap()].value], None).unwrap();
    eliminate_dead_code(&g).unwrap()
}

/// Half precision rounds in the graph where decompositions widen and narrow: close to the f32 graph at the same point.
#[test]
fn gradients_of_half_precision_graphs_have_their_types_and_values() {
    let single: HashMap<String, GradientCase> =
        gradient_cases(DType::F32).unwrap().into_iter().map(|c| (c.name.clone(), c)).collect();
    for dtype in [DType::F16, DType::BF16] {
        for case in gradient_cases(dtype).unwrap() {
            let mut twin = single[&case.name].clone();
            twin.inputs = case
                .inputs
                .iter()
                .zip(&twin.inputs)
                .map(|(half, x)| match x.ty().dtype {
                    d if d.is_quantized() => x.clone(),
                    _ => HostTensor::from_f64(x.ty().clone(), &half.values()).unwrap(),
                })
                .collect();
            for ((name, got), want) in case.wrt.iter().zip(analytic(&case)).zip(analytic(&twin)) {
                let largest = want.iter().fold(0.1f64, |m, w| m.max(w.abs()));
                for (g, w) in got.iter().zip(&want) {
                    let off = (g - w).abs() / largest;
                    assert!(off < 0.03, "{} {dtype} grad.{name}: {got:?}, in f32 {want:?}", case.name);
                }
            }
        }
    }
}

/// What has no derivative: integer and truth values, and what only makes or decodes numbers.
const WITHOUT_GRADIENT: [&str; 21] = [
    "constant",
    "iota",
    "compare_eq",
    "compare_ne",
    "compare_lt",
    "compare_le",
    "compare_gt",
    "compare_ge",
    "arg_reduce",
    "reduce_and",
    "reduce_or",
    "and",
    "or",
    "xor",
    "shl",
    "shr",
    "not",
    "is_finite",
    "dequantize",
    "random_bits",
    // Its gradient is the exact product's, which differences of rounded values are not.
    "int8_dot",
];

/// The names of an enum's variants as serde sees them, so that a new one cannot be forgotten here.
fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Catch;
    #[derive(Debug)]
    struct Caught(&'static [&'static str]);
    impl std::fmt::Display for Caught {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.0)
        }
    }
    impl std::error::Error for Caught {}
    impl Error for Caught {
        fn custom<M: std::fmt::Display>(_: M) -> Self {
            Caught(&[])
        }
    }
    impl<'de> Deserializer<'de> for Catch {
        type Error = Caught;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Caught> {
            Err(Caught(&[]))
        }
        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Caught> {
            Err(Caught(variants))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }
    match T::deserialize(Catch) {
        Err(Caught(v)) => v,
        Ok(_) => &[],
    }
}

#[test]
fn every_operation_is_in_the_table_or_has_no_derivative() {
    let prefixed = |prefix: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|n| format!("{prefix}{n}")).collect()
    };
    let grouped = ["unary", "binary", "compare", "reduce", "composite"];
    let mut all: BTreeSet<String> =
        variants::<Op>().iter().filter(|n| !grouped.contains(n)).map(|n| n.to_string()).collect();
    all.extend(prefixed("", variants::<Unary>()));
    all.extend(prefixed("", variants::<Binary>()));
    all.extend(prefixed("compare_", variants::<Compare>()));
    all.extend(prefixed("reduce_", variants::<ReduceKind>()));
    all.extend(prefixed("", variants::<Composite>()));
    assert!(all.len() > 80, "{}", all.len());

    // An operation is covered when its result, not just its presence, is differentiated: by the case named after it.
    let cases = gradient_cases(DType::F32).unwrap();
    let covered: BTreeSet<String> = cases
        .iter()
        .filter(|c| {
            let name = c.name.split('/').next().unwrap_or_default();
            c.graph.nodes().iter().any(|n| n.op.name() == name)
        })
        .map(|c| c.name.split('/').next().unwrap_or_default().to_string())
        .collect();
    for name in &all {
        let without = WITHOUT_GRADIENT.contains(&name.as_str());
        assert!(
            covered.contains(name) != without,
            "{name}: needs a case, or a place among those without a gradient"
        );
    }
}

/// The gradient of f at x, where differences do not exist.
fn at(x: &[f64], f: impl FnOnce(&Tensor) -> Tensor) -> Vec<f64> {
    let t = Trace::new("kink");
    let input = t.data("x", DType::F32, [x.len()]);
    let y = f(&input);
    t.output("loss", &y.sum((0..y.rank()).collect::<Vec<_>>()));
    let graph = grad_graph(&t.finish().unwrap(), "loss", &["x"]).unwrap();
    let input = ExactTensor { ty: graph.ty(graph.inputs()[0].value).clone(), values: x.to_vec() };
    evaluate_exact(&graph, &[input], DEFAULT_MAX_ELEMENTS).unwrap()[1].values.clone()
}

#[test]
fn the_table_is_of_floats() {
    assert!(gradient_cases(DType::I32).is_err());
    assert!(gradient_cases(DType::Q8_0).is_err());
}

#[test]
fn kinks_have_the_documented_gradients() {
    let ties = [1.0, 2.0, 2.0, -1.0];
    assert_eq!(at(&ties, |x| x.max([0])), [0.0, 0.5, 0.5, 0.0]);
    assert_eq!(at(&[1.0, 0.0, 0.0, 0.0], |x| x.min([0])), [0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
    assert_eq!(at(&ties, |x| x.maximum(&x.like(2.0))), [0.0, 0.5, 0.5, 0.0]);
    assert_eq!(at(&ties, |x| x.minimum(x)), [1.0; 4]);
    assert_eq!(at(&[0.0, -0.0, 3.0], |x| x.abs()), [0.0, 0.0, 1.0]);
    assert_eq!(at(&[0.0, -1.0, 3.0], |x| x.activate(percept_graph::Activation::Relu)), [0.0, 0.0, 1.0]);
    assert_eq!(at(&[-1.0, 0.0, 1.0, 2.0], |x| x.clamp(-1.0, 1.0)), [1.0, 1.0, 1.0, 0.0]);
    assert_eq!(at(&[2.0, 2.5], |x| x.floor() + x.round() + x.ceil() + x.sign()), [0.0, 0.0]);
    assert_eq!(at(&[0.0, 2.0], |x| x.pow(&x.like(2.0))), [0.0, 4.0]);
    assert_eq!(at(&[0.0, 2.0], |x| x.pow(&x.like(0.0))), [0.0, 0.0]);
    // Equal keys of a stable sort keep their order, and so do their gradients.
    assert_eq!(at(&[2.0, 1.0, 2.0], |x| x.sort(0, true, 1)[0].clone()), [1.0, 0.0, 0.0]);
}
