//! The gradients of every differentiable operation: the graph's own table, which is held to central
//! differences there and to the reference here.

use percept_graph::{DType, GradientCase, gradient_cases};

use super::super::case::{Fault, Level};
use super::super::problem::Build;
use super::super::table::Table;
use super::super::tolerance::Class;

/// No sum in the table's small shapes is longer, but those over the blocks of quantized weights.
const TERMS: usize = 256;

pub fn add(t: &mut Table) {
    match gradient_cases(DType::F32) {
        Ok(cases) => cases.into_iter().for_each(|case| one(t, case)),
        Err(e) => {
            let why = e.to_string();
            t.promise(Level::L3, "grad", "table", move |_| Err(Fault::Wrong(why.clone())));
        }
    }
}

fn one(t: &mut Table, case: GradientCase) {
    let name = case.name.replace([' ', ','], "-").to_lowercase();
    let (op, variant) = name.split_once('/').unwrap_or((&name, "plain"));
    t.gradient(op, format!("table-{variant}"), TERMS, move |b: &mut Build| {
        let roles: Vec<_> = case.graph.inputs().iter().map(|i| i.role).collect();
        let x: Vec<_> =
            roles.into_iter().zip(&case.inputs).map(|(role, v)| b.given(role, v.clone())).collect();
        for y in b.trace.inline(&case.graph, &x.iter().collect::<Vec<_>>()) {
            b.output(&y, Class::Composite { terms: TERMS });
        }
    });
}
