//! Composites on the f64 reference against PyTorch's values (`golden/make.py` writes `golden/torch.json`).

use std::collections::BTreeSet;

use percept_graph::reference::{DEFAULT_MAX_ELEMENTS, ExactTensor, evaluate_exact};
use percept_graph::{Graph, Op};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    made_with: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    graph: String,
    inputs: Vec<Vec<Number>>,
    outputs: Vec<Vec<Number>>,
}

/// Infinities are strings, for JSON has none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Other(String),
}

fn values(numbers: &[Number]) -> Vec<f64> {
    let value = |n: &Number| match n {
        Number::Finite(v) => *v,
        Number::Other(text) => text.parse().unwrap(),
    };
    numbers.iter().map(value).collect()
}

/// The constants of a decomposition are f32, so that the last digits of f64 differ: relative to the value and to a
/// hundredth of the tensor's largest.
fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().filter(|w| w.is_finite()).fold(0.0f64, |m, w| m.max(w.abs()));
    let off = |(g, w): (&f64, &f64)| match g == w {
        true => 0.0,
        false => (g - w).abs() / (w.abs() + 0.01 * largest),
    };
    got.iter().zip(want).map(off).fold(0.0, |m, e| if e.is_nan() { f64::INFINITY } else { m.max(e) })
}

#[test]
fn composites_agree_with_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("../golden/torch.json")).unwrap();
    let mut composites = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let graph: Graph = case.graph.parse().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        composites.extend(graph.nodes().iter().map(|n| n.op.name()));
        assert!(graph.nodes().iter().all(|n| matches!(n.op, Op::Composite(_))), "{}", case.name);
        let inputs: Vec<ExactTensor> = graph
            .inputs()
            .iter()
            .zip(&case.inputs)
            .map(|(i, v)| ExactTensor { ty: graph.ty(i.value).clone(), values: values(v) })
            .collect();
        let got = evaluate_exact(&graph, &inputs, DEFAULT_MAX_ELEMENTS)
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(got.len(), case.outputs.len(), "{}", case.name);
        for (i, (got, want)) in got.iter().zip(&case.outputs).enumerate() {
            let (want, e) = (values(want), error(&got.values, &values(want)));
            if e >= 1e-6 {
                wrong.push(format!(
                    "{} result {i}: {e:e}\n  got  {:?}\n  want {want:?}",
                    case.name, got.values
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ from {}\n{}", wrong.len(), golden.made_with, wrong.join("\n"));
    assert_eq!(composites.len(), 21, "{composites:?}");
}
