//! An operation as C sees it, with everything that it points to.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::ptr::null;

use percept_graph::{Graph, Op, OpDesc, TensorType};

use crate::abi;
use crate::attributes::{Value, attributes};

/// A description of an operation. What it points to lives as long as it does: the heap memory of the lists below,
/// which are never changed once something points into them.
pub struct Described {
    root: Vec<abi::Op>,
    #[allow(dead_code, reason = "it keeps alive what the description points to")]
    kept: Kept,
}

#[derive(Default)]
struct Kept {
    texts: Vec<CString>,
    ints: Vec<Vec<i64>>,
    floats: Vec<Vec<f64>>,
    bytes: Vec<Vec<u8>>,
    words: Vec<Vec<u32>>,
    attributes: Vec<Vec<abi::Attribute>>,
    tensors: Vec<Vec<abi::Tensor>>,
    ops: Vec<Vec<abi::Op>>,
    nodes: Vec<Vec<abi::Node>>,
    regions: Vec<Vec<abi::Region>>,
}

impl Described {
    /// Describe an operation with its types.
    pub fn new(desc: &OpDesc<'_>) -> Self {
        let mut kept = Kept::default();
        let root = vec![kept.op(desc)];
        Self { root, kept }
    }

    /// The struct that C sees.
    pub fn op(&self) -> &abi::Op {
        &self.root[0]
    }
}

/// Tensors that C sees, with their extents.
pub struct Tensors {
    tensors: Vec<abi::Tensor>,
    #[allow(dead_code, reason = "it keeps alive what the tensors point to")]
    kept: Kept,
}

impl Tensors {
    /// Describe types.
    pub fn new(types: &[TensorType]) -> Self {
        let mut kept = Kept::default();
        let tensors = types.iter().map(|ty| kept.tensor(ty)).collect();
        Self { tensors, kept }
    }

    /// The structs that C sees.
    pub fn as_slice(&self) -> &[abi::Tensor] {
        &self.tensors
    }
}

/// Put a list away and point to it.
fn keep<T>(shelf: &mut Vec<Vec<T>>, items: Vec<T>) -> *const T {
    let at = if items.is_empty() { null() } else { items.as_ptr() };
    shelf.push(items);
    at
}

/// Text for C; what follows a zero byte, which no name here has, is left out.
pub fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

impl Kept {
    fn text(&mut self, text: &str) -> *const c_char {
        let text = c_text(text);
        let at = text.as_ptr();
        self.texts.push(text);
        at
    }

    fn tensor(&mut self, ty: &TensorType) -> abi::Tensor {
        let dims = ty.dims.iter().map(|&d| d as i64).collect();
        abi::Tensor {
            dtype: abi::dtype_number(ty.dtype),
            rank: ty.rank() as u32,
            dims: keep(&mut self.ints, dims),
            bytes: ty.bytes() as u64,
            ..abi::Tensor::zeroed()
        }
    }

    fn tensors(&mut self, types: &[TensorType]) -> *const abi::Tensor {
        let tensors = types.iter().map(|ty| self.tensor(ty)).collect();
        keep(&mut self.tensors, tensors)
    }

    fn attribute(&mut self, name: &str, value: Value) -> abi::Attribute {
        let mut attribute = abi::Attribute { name: self.text(name), ..abi::Attribute::zeroed() };
        match value {
            Value::Ints(values) => {
                (attribute.kind, attribute.count) = (abi::INTS, values.len() as u64);
                attribute.ints = keep(&mut self.ints, values);
            }
            Value::Floats(values) => {
                (attribute.kind, attribute.count) = (abi::FLOATS, values.len() as u64);
                attribute.floats = keep(&mut self.floats, values);
            }
            Value::Text(text) => {
                (attribute.kind, attribute.count) = (abi::TEXT, text.len() as u64);
                attribute.text = self.text(&text);
            }
            Value::Bytes(bytes) => {
                (attribute.kind, attribute.count) = (abi::BYTES, bytes.len() as u64);
                attribute.bytes = keep(&mut self.bytes, bytes);
            }
        }
        attribute
    }

    fn op(&mut self, desc: &OpDesc<'_>) -> abi::Op {
        let list: Vec<abi::Attribute> =
            attributes(desc.op).into_iter().map(|(name, value)| self.attribute(name, value)).collect();
        let region = match desc.op {
            Op::Fused(body) => self.region(body),
            _ => null(),
        };
        abi::Op {
            struct_size: abi::Op::SIZE,
            name: self.text(&desc.op.name()),
            attribute_count: list.len() as u64,
            attributes: keep(&mut self.attributes, list),
            inputs: self.tensors(desc.inputs),
            input_count: desc.inputs.len() as u64,
            outputs: self.tensors(desc.outputs),
            output_count: desc.outputs.len() as u64,
            text: self.text(&ron::to_string(desc.op).unwrap_or_default()),
            region,
        }
    }

    /// A region's values are numbered anew: the inputs first, then the results in order.
    fn region(&mut self, body: &Graph) -> *const abi::Region {
        let inputs = body.inputs().iter().map(|i| i.value);
        let results = body.nodes().iter().flat_map(|n| n.outputs.iter().copied());
        let numbers: HashMap<_, u32> = inputs.chain(results).zip(0..).collect();
        let number = |v: &percept_graph::ValueId| numbers.get(v).copied().unwrap_or(u32::MAX);
        let mut nodes = Vec::with_capacity(body.nodes().len());
        for node in body.nodes() {
            let op = body.describe(node, |desc| self.op(desc));
            let inputs = keep(&mut self.words, node.inputs.iter().map(number).collect());
            nodes.push(abi::Node { op: keep(&mut self.ops, vec![op]), inputs });
        }
        let outputs: Vec<u32> = body.outputs().iter().map(|o| number(&o.value)).collect();
        let region = abi::Region {
            struct_size: abi::Region::SIZE,
            input_count: body.inputs().len() as u64,
            node_count: nodes.len() as u64,
            nodes: keep(&mut self.nodes, nodes),
            output_count: outputs.len() as u64,
            outputs: keep(&mut self.words, outputs),
        };
        keep(&mut self.regions, vec![region])
    }
}
