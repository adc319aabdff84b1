//! Errors of building and reading graphs.

use crate::tensor_type::TensorType;

/// Why an operation could not be added to a graph.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{op}({operands}): {why}", if path.is_empty() { String::new() } else { format!("in {path}: ") },
    operands = operands.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", "))]
pub struct GraphError {
    /// The module path, such as `model.layers.3.attn`; empty outside any scope.
    pub path: String,
    /// The operation's name.
    pub op: String,
    /// Types of its operands.
    pub operands: Vec<TensorType>,
    /// What was wrong and what would be right.
    pub why: String,
}

/// Result of graph construction.
pub type Result<T, E = GraphError> = std::result::Result<T, E>;
