//! Passes over gradient graphs: of every differentiable operation, the gradients stay what they were.

use percept_graph::passes::{PassOptions, mixed_precision, pipeline, rematerialize};
use percept_graph::reference::{DEFAULT_MAX_ELEMENTS, ExactTensor, evaluate_exact};
use percept_graph::{DType, GradientCase, Graph, Op, Tensor, Trace, grad, gradient_cases};

/// The case's gradients, its forward traced inside the module `body`.
fn gradients(case: &GradientCase) -> Graph {
    let t = Trace::new(&case.name);
    let inputs: Vec<Tensor> = case
        .graph
        .inputs()
        .iter()
        .map(|i| t.input(&i.name, i.role, case.graph.ty(i.value).clone()))
        .collect();
    let scope = t.scope("body");
    let loss = t.inline(&case.graph, &inputs.iter().collect::<Vec<_>>()).remove(0);
    drop(scope);
    let wrt: Vec<&Tensor> =
        case.wrt.iter().map(|n| &inputs[case.graph.input_index(n).expect("its own input")]).collect();
    for (name, g) in case.wrt.iter().zip(grad(&loss, &wrt)) {
        t.output(format!("grad.{name}"), &g);
    }
    t.finish().unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

fn values(graph: &Graph, case: &GradientCase) -> Vec<ExactTensor> {
    let inputs: Vec<ExactTensor> = case.inputs.iter().map(ExactTensor::from).collect();
    evaluate_exact(graph, &inputs, DEFAULT_MAX_ELEMENTS).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// Apply a pass to every case's gradients; each element stays within `tolerance` of its tensor's largest.
fn keeps_gradients(tolerance: f64, pass: impl Fn(&Graph) -> percept_graph::Result<Graph>) {
    for case in gradient_cases(DType::F32).unwrap() {
        let before = gradients(&case);
        let after = pass(&before).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for (got, want) in values(&after, &case).iter().zip(&values(&before, &case)) {
            assert_eq!(got.ty, want.ty, "{}", case.name);
            let largest = want.values.iter().fold(0.1f64, |m, w| m.max(w.abs()));
            for (g, w) in got.values.iter().zip(&want.values) {
                let off = (g - w).abs() / largest;
                assert!(
                    off <= tolerance,
                    "{}: got {:?}\nwant {:?}\n{after}",
                    case.name,
                    got.values,
                    want.values
                );
            }
        }
    }
}

#[test]
fn the_pipeline_keeps_gradients() {
    // Folded constants are rounded to f32.
    keeps_gradients(1e-6, |g| pipeline(g, &PassOptions::default()));
}

#[test]
fn rematerialisation_keeps_gradients() {
    keeps_gradients(0.0, |g| rematerialize(g, &["body"]));
    keeps_gradients(1e-6, |g| pipeline(&rematerialize(g, &["body"])?, &PassOptions::default()));
}

#[test]
fn mixed_precision_keeps_gradients_to_its_precision() {
    keeps_gradients(0.02, |g| mixed_precision(g, DType::F16));
    keeps_gradients(0.1, |g| mixed_precision(g, DType::BF16));
}

/// What was recorded beside the gradients and is not needed, such as the forward of a decomposition, goes.
#[test]
fn dead_results_of_rules_do_not_survive_the_pipeline() {
    let t = Trace::new("g");
    let (x, w) = (t.data("x", DType::F32, [2, 4]), t.parameter("w", DType::F32, [4, 4]));
    let loss = x.linear(&w, None, None).gated(percept_graph::Activation::Silu, &x).sum([0, 1]);
    t.output("grad.w", &grad(&loss, &[&w])[0]);
    let graph = pipeline(&t.finish().unwrap(), &PassOptions::default()).unwrap();
    let products = graph.nodes().iter().filter(|n| matches!(n.op, Op::Dot(_))).count();
    assert_eq!(products, 1, "{graph}");
    assert!(graph.nodes().len() <= 5, "{graph}");
}
