//! What can be written in which style.

use percept_graph::{Binary, Composite, DType, Op, OpDesc, Unary};

use crate::style::Style;

/// Whether an operation can be written whole, or why not.
///
/// # Errors
/// The reason, naming what the style lacks.
pub fn supports(desc: &OpDesc<'_>, style: Style) -> Result<(), String> {
    let needs = |opset: i64, what: &str| {
        if style.opset >= opset {
            return Ok(());
        }
        Err(format!("{what} came with operator set {opset}, and the model is written in {}", style.opset))
    };
    let input = |i: usize| desc.inputs.get(i).map(|t| t.dtype);
    match desc.op {
        Op::Binary(Binary::And | Binary::Or | Binary::Xor) if input(0) != Some(DType::Bool) => {
            needs(18, "bitwise logic on integers")
        }
        Op::Unary(Unary::Not) if input(0) != Some(DType::Bool) => needs(18, "bitwise logic on integers"),
        Op::Bitcast { to } => match input(0) {
            Some(from) if from == *to || from.is_int() && to.is_int() => Ok(()),
            _ => needs(26, "reinterpreting the bits of floats"),
        },
        Op::Composite(c) => composite(c, desc),
        _ => Ok(()),
    }
}

fn composite(c: &Composite, desc: &OpDesc<'_>) -> Result<(), String> {
    match c {
        Composite::Linear { .. }
        | Composite::QuantizedDot { .. }
        | Composite::Softmax
        | Composite::LogSoftmax
        | Composite::RmsNorm { .. }
        | Composite::LayerNorm { .. }
        | Composite::Rope { .. }
        | Composite::Attention(_)
        | Composite::KvAppend { .. }
        | Composite::Activate(_)
        | Composite::GatedActivate(_)
        | Composite::Embedding { .. }
        | Composite::Conv1d { .. }
        | Composite::CumSum { .. } => Ok(()),
        Composite::Pool { window, .. } if (1..=3).contains(&window.len()) => Ok(()),
        Composite::Pool { window, .. } => {
            Err(format!("pooling has one to three dimensions in ONNX, not {}", window.len()))
        }
        _ => {
            let name = desc.op.name();
            Err(format!("ONNX has no operator with the meaning of {name}"))
        }
    }
}
