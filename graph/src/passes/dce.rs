//! Dead code elimination: nodes none of whose results reach an output go. Inputs stay, as they are the
//! graph's interface.

use crate::error::Result;
use crate::graph::Graph;
use crate::passes::rewrite::Rewrite;

/// Remove nodes that no output depends on.
pub fn eliminate_dead_code(graph: &Graph) -> Result<Graph> {
    let mut live = vec![false; graph.values().len()];
    graph.outputs().iter().for_each(|o| live[o.value.index()] = true);
    for node in graph.nodes().iter().rev() {
        if node.outputs.iter().any(|v| live[v.index()]) {
            node.inputs.iter().for_each(|v| live[v.index()] = true);
        }
    }
    let mut r = Rewrite::new(graph)?;
    for node in graph.nodes() {
        if node.outputs.iter().any(|v| live[v.index()]) {
            r.copy(node)?;
        }
    }
    r.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::assert_rewrites;

    #[test]
    fn unused_nodes_go_and_inputs_stay() {
        assert_rewrites(
            eliminate_dead_code,
            r#"graph "g"
            %0:f32[2,3] = input "x" data
            %1:f32[2] = input "unused" data
            %2:f32[2,3] = unary(exp) %0
            %3:f32[2,3] = unary(log) %2
            %4:f32[2,2], %5:i32[2,2] = sort(axis:1,descending:true,limit:2) %2
            %6:f32[2] = unary(neg) %1
            output "y" %4"#,
            r#"graph "g"
            %0:f32[2,3] = input "x" data
            %1:f32[2] = input "unused" data
            %2:f32[2,3] = unary(exp) %0
            %3:f32[2,2], %4:i32[2,2] = sort(axis:1,descending:true,limit:2) %2
            output "y" %3"#,
        );
    }
}
