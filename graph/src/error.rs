//! Errors of building and reading graphs.

use crate::tensor_type::TensorType;

/// Why an operation could not be added to a graph.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{op}{}: {why}", within(path), listed(operands))]
pub struct GraphError {
    /// The module path, such as `model.layers.3.attn`; empty outside any scope.
    pub path: String,
    /// The name of the operation that failed.
    pub op: String,
    /// Types of its operands.
    pub operands: Vec<TensorType>,
    /// What was wrong and what would be right.
    pub why: String,
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("in {path}: ") }
}

fn listed(operands: &[TensorType]) -> String {
    let types: Vec<String> = operands.iter().map(|t| t.to_string()).collect();
    if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) }
}

/// Result of graph construction.
pub type Result<T, E = GraphError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    #[test]
    fn an_error_says_where_and_lists_operands_that_are_there() {
        let error = |path: &str, operands: Vec<TensorType>| {
            let (op, why) = ("dot".to_string(), "no".to_string());
            GraphError { path: path.into(), op, operands, why }.to_string()
        };
        assert_eq!(error("", Vec::new()), "dot: no");
        let types = vec![TensorType::new(DType::F32, [2, 3]), TensorType::new(DType::F16, [3])];
        assert_eq!(error("layers.1", types), "in layers.1: dot(f32[2,3], f16[3]): no");
    }
}
