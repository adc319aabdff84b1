//! What a model computes: the graph, tracing, autodiff, passes and the reference meaning of every op.
//!
//! Model code runs over [`Tensor`] handles and records a [`Graph`]; everything after that is a function from
//! graph to graph. Nothing here does I/O or depends on a device.

mod autodiff;
mod composite;
mod decompose;
mod dtype;
mod error;
mod graph;
mod host_tensor;
mod infer;
mod infer_composite;
mod op;
pub mod passes;
mod quant;
mod quantize;
mod recurrent;
pub mod reference;
mod tensor;
mod tensor_type;
mod text;
mod trace;
mod unary;

pub use autodiff::cases::{GradientCase, gradient_cases};
pub use autodiff::{grad, grad_graph};
pub use composite::{
    Activation, AttentionSpec, Composite, DELTA_CHUNK, INT8_GROUP, INT8_LEAST, Interpolation, PoolKind,
};
pub use decompose::decompose;
pub use dtype::{DType, UnknownDType};
pub use error::{GraphError, Result};
pub use graph::{Graph, Input, Node, Output, Role, Source, Value, ValueId};
pub use host_tensor::{HostTensor, HostTensorError};
pub use infer::infer;
pub use op::{ArgKind, Binary, Compare, DotSpec, Op, OpDesc, ReduceKind, ScatterKind};
pub use quant::dequantize;
pub use quantize::quantize;
pub use recurrent::{DeltaRows, StateRows};
pub use tensor_type::{BadTensorType, Literal, LiteralData, TensorType, decode, encode, round_to};
pub use text::ParseError;
pub use trace::{Scope, Tensor, Trace};
pub use unary::{Accuracy, Definition, Domain, Unary};
