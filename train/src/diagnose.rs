//! Where a value that is no finite number comes from.

use percept_graph::{DType, Graph, Trace};

use crate::error::Result;

/// One output a node: the module and the operation.
pub type Places = Vec<(String, String)>;

/// A graph that says of every float that a step computes whether all of it is finite, in the order of
/// computation: as outputs f32[] that are 1 where it is. Gives the module and the operation of each.
///
/// # Errors
/// When the graph cannot be put together.
pub fn graph(step: &Graph) -> Result<(Graph, Places)> {
    let mut graph = step.clone();
    graph.retain_outputs(|_| false);
    let nodes: Vec<_> = graph.nodes().to_vec();
    let t = Trace::resume(graph);
    let mut places = Vec::new();
    for node in &nodes {
        // Fully masked rows have a logarithm of a sum of nothing, which is no fault.
        let Some(first) = node.outputs.first().map(|v| t.value(*v)) else { continue };
        if !first.dtype().is_float() || node.inputs.is_empty() {
            continue;
        }
        let axes: Vec<usize> = (0..first.rank()).collect();
        let finite = first.is_finite().cast(DType::F32).min(axes);
        let name = format!("finite.{}", places.len());
        t.output(&name, &finite);
        let path = if node.path.is_empty() { "the input".to_string() } else { node.path.to_string() };
        places.push((name, format!("{path} ({})", node.op.name())));
    }
    Ok((t.finish()?, places))
}

/// The first of the places where a value is not finite.
///
/// # Errors
/// When an output cannot be read.
pub fn first(places: &Places, mut read: impl FnMut(&str) -> Result<f64>) -> Result<Option<String>> {
    for (name, place) in places {
        if read(name)? != 1.0 {
            return Ok(Some(place.clone()));
        }
    }
    Ok(None)
}
