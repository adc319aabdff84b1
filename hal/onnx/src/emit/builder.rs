//! Nodes, names and constants in the making.

use std::collections::{HashMap, HashSet};

use percept_graph::{DType, Literal, LiteralData, TensorType, encode};

use super::Port;
use super::weight::{Part, WeightTensor};
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use crate::style::Style;

/// Element types of ONNX, with their numbers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Elem {
    F32 = 1,
    U8 = 2,
    I32 = 6,
    I64 = 7,
    Bool = 9,
    F16 = 10,
    U32 = 12,
    U64 = 13,
    BF16 = 16,
}

impl Elem {
    /// The type that holds a dense dtype; quantized ones have none and give bytes.
    pub const fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Elem::F32,
            DType::F16 => Elem::F16,
            DType::BF16 => Elem::BF16,
            DType::I32 => Elem::I32,
            DType::U32 => Elem::U32,
            DType::Bool => Elem::Bool,
            _ => Elem::U8,
        }
    }

    /// The type with this number.
    pub fn numbered(number: i32) -> Option<Self> {
        use Elem::{BF16, Bool, F16, F32, I32, I64, U8, U32, U64};
        [F32, U8, I32, I64, Bool, F16, U32, U64, BF16].into_iter().find(|e| *e as i32 == number)
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Elem::I64 | Elem::U64 => 8,
            Elem::F32 | Elem::I32 | Elem::U32 => 4,
            Elem::F16 | Elem::BF16 => 2,
            Elem::U8 | Elem::Bool => 1,
        }
    }

    /// f16 or bf16.
    pub const fn is_half(self) -> bool {
        matches!(self, Elem::F16 | Elem::BF16)
    }

    /// The type in which values of this one are computed with.
    pub const fn working(self) -> Self {
        match self {
            Elem::F16 | Elem::BF16 => Elem::F32,
            Elem::U8 | Elem::Bool => Elem::I32,
            other => other,
        }
    }
}

/// Where a value of the graph is in the model.
#[derive(Debug, Clone)]
pub enum Place {
    /// A tensor of the value's shape.
    Whole(String),
    /// A tensor of the same rank with extents of 1 where the value repeats it.
    Spread {
        /// The tensor.
        name: String,
        /// Its shape.
        dims: Vec<usize>,
    },
    /// The graph input with this index, which is a constant of the model.
    Weight(usize),
    /// Not computed: no result of it has elements.
    Missing,
}

/// Collects a model's nodes and constants.
pub struct Builder {
    pub style: Style,
    /// Prefix of node names: the module path and the operation.
    pub path: String,
    pub nodes: Vec<NodeProto>,
    pub constants: Vec<TensorProto>,
    pub weights: Vec<WeightTensor>,
    /// Names of the graph's inputs that are constants of the model, by their index.
    pub weight_names: HashMap<usize, String>,
    used: HashSet<String>,
    names: usize,
    known: HashMap<(Vec<i64>, i32, Vec<u8>), String>,
    casts: HashMap<(String, Elem), String>,
    outputs: HashMap<String, String>,
}

impl Builder {
    pub fn new(style: Style) -> Self {
        Self {
            style,
            path: String::new(),
            nodes: Vec::new(),
            constants: Vec::new(),
            weights: Vec::new(),
            weight_names: HashMap::new(),
            used: HashSet::new(),
            names: 0,
            known: HashMap::new(),
            casts: HashMap::new(),
            outputs: HashMap::new(),
        }
    }

    /// A name for an input, weight or output that nothing else has. The builder's own names start with a dot.
    pub fn unique(&mut self, name: &str) -> String {
        let reserved = name.is_empty() || name.starts_with('.');
        let mut candidate = if reserved { format!("_{name}") } else { name.into() };
        while !self.used.insert(candidate.clone()) {
            candidate.push_str(".out");
        }
        candidate
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!(".{}", self.names)
    }

    /// A node of a domain with any number of results.
    pub fn ops(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        results: usize,
    ) -> Vec<String> {
        let output: Vec<String> = (0..results).map(|_| self.fresh()).collect();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: output.clone(),
            name: format!("{}#{}", self.path, self.nodes.len()),
            op_type: op.into(),
            attribute,
            domain: domain.into(),
        });
        output
    }

    /// A node of ONNX's own domain with one result.
    pub fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.with(op, inputs, Vec::new())
    }

    /// The same with attributes.
    pub fn with(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.ops("", op, inputs, attributes, 1).swap_remove(0)
    }

    /// A constant from its bytes; equal ones are one.
    pub fn constant(&mut self, elem: Elem, dims: &[usize], raw: Vec<u8>) -> String {
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let key = (dims, elem as i32, raw);
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.fresh();
        let (dims, data_type, raw_data) = key.clone();
        self.constants.push(TensorProto {
            dims,
            data_type,
            raw_data,
            name: name.clone(),
            ..Default::default()
        });
        self.known.insert(key, name.clone());
        name
    }

    /// A scalar.
    pub fn scalar(&mut self, elem: Elem, value: f64) -> String {
        self.constant(elem, &[], bytes_of(elem, value))
    }

    /// A scalar f32.
    pub fn f32(&mut self, value: f64) -> String {
        self.scalar(Elem::F32, value)
    }

    /// A list of i64: a shape, axes, starts.
    pub fn list(&mut self, values: &[i64]) -> String {
        self.grid(&[values.len()], values)
    }

    /// Extents as a list.
    pub fn extents(&mut self, values: &[usize]) -> String {
        self.list(&values.iter().map(|&v| v as i64).collect::<Vec<_>>())
    }

    /// A tensor of i64.
    pub fn grid(&mut self, dims: &[usize], values: &[i64]) -> String {
        self.constant(Elem::I64, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor without elements.
    pub fn empty(&mut self, ty: &TensorType) -> String {
        self.constant(Elem::of(ty.dtype), &ty.dims, Vec::new())
    }

    /// A literal of the graph; one value everywhere stays one value.
    pub fn literal(&mut self, literal: &Literal) -> Place {
        let elem = Elem::of(literal.ty.dtype);
        match &literal.data {
            LiteralData::Splat(v) => {
                let dims = vec![1; literal.ty.rank()];
                let name = self.constant(elem, &dims, encode(literal.ty.dtype, *v));
                Place::Spread { name, dims }
            }
            LiteralData::Dense(bytes) => Place::Whole(self.constant(elem, &literal.ty.dims, bytes.to_vec())),
        }
    }

    /// 0, 1, 2 ... along an axis; the other dimensions repeat it.
    pub fn iota(&mut self, ty: &TensorType, axis: usize) -> Place {
        let mut dims = vec![1; ty.rank()];
        dims[axis] = ty.dims[axis];
        let raw = (0..ty.dims[axis]).flat_map(|i| encode(ty.dtype, i as f64)).collect();
        let name = self.constant(Elem::of(ty.dtype), &dims, raw);
        Place::Spread { name, dims }
    }

    /// A tensor for an input that is a constant of the model.
    pub fn weight(&mut self, input: usize, part: Part, ty: &TensorType) -> String {
        if let Some(known) = self.weights.iter().find(|w| w.input == input && w.part == part) {
            return known.name.clone();
        }
        let name = self.weight_names.get(&input).cloned().unwrap_or_default();
        let name = if part == Part::Dense { name } else { self.unique(&format!("{name}{}", part.suffix())) };
        self.weights.push(WeightTensor { name: name.clone(), input, part, ty: ty.clone() });
        name
    }

    /// Another element type. The conversion is that of static_cast in C: exact uses alone come here directly.
    pub fn cast(&mut self, name: &str, from: Elem, to: Elem) -> String {
        if from == to {
            return name.to_string();
        }
        let key = (name.to_string(), to);
        if let Some(known) = self.casts.get(&key) {
            return known.clone();
        }
        let cast = self.with("Cast", &[name], vec![AttributeProto::int("to", to as i64)]);
        self.casts.insert(key, cast.clone());
        cast
    }

    pub fn reshape(&mut self, name: &str, dims: &[usize]) -> String {
        if dims.iter().all(|&d| d == 1)
            && let Some(value) = self.constants.iter().find(|c| c.name == name)
            && let Some((elem, raw)) = Elem::numbered(value.data_type).zip(Some(value.raw_data.clone()))
        {
            return self.constant(elem, dims, raw);
        }
        let shape = self.extents(dims);
        self.op("Reshape", &[name, &shape])
    }

    pub fn transpose(&mut self, name: &str, perm: &[usize]) -> String {
        if perm.iter().copied().eq(0..perm.len()) {
            return name.to_string();
        }
        let perm = perm.iter().map(|&p| p as i64).collect();
        self.with("Transpose", &[name], vec![AttributeProto::ints("perm", perm)])
    }

    /// Repeat a tensor to a shape. Expand has no bf16.
    pub fn expand(&mut self, name: &str, ty: &TensorType) -> String {
        let elem = Elem::of(ty.dtype);
        let wide = if elem == Elem::BF16 { Elem::F32 } else { elem };
        let x = self.cast(name, elem, wide);
        let shape = self.extents(&ty.dims);
        let y = self.op("Expand", &[&x, &shape]);
        self.cast(&y, wide, elem)
    }

    /// The sum, maximum or other fold over axes, which disappear.
    pub fn fold(&mut self, op: &str, name: &str, axes: &[usize], keep: bool) -> String {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let keep = AttributeProto::int("keepdims", keep as i64);
        // Axes became an operand of ReduceSum in operator set 13, of the others in 18.
        if op == "ReduceSum" || self.style.opset >= 18 {
            let axes = self.list(&axes);
            return self.with(op, &[name, &axes], vec![keep]);
        }
        self.with(op, &[name], vec![keep, AttributeProto::ints("axes", axes)])
    }

    /// Give a value the name of an output.
    pub fn name_output(&mut self, value: &str, name: &str) {
        let value = self.outputs.get(value).map_or(value, String::as_str).to_string();
        let value = value.as_str();
        let made = value.starts_with('.') && self.nodes.iter().any(|n| n.output.iter().any(|o| o == value));
        if !made {
            // An input, a constant or a value that is an output already.
            let copy = self.op("Identity", &[value]);
            return self.name_output(&copy, name);
        }
        for n in &mut self.nodes {
            n.input
                .iter_mut()
                .chain(&mut n.output)
                .filter(|v| *v == value)
                .for_each(|v| *v = name.to_string());
        }
        self.outputs.insert(value.to_string(), name.to_string());
    }
}

impl Builder {
    /// Leave out what no output needs.
    pub fn drop_unused(&mut self, outputs: &[Port]) {
        let mut needed: HashSet<String> = outputs.iter().map(|p| p.name.clone()).collect();
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..).rev() {
            if node.output.iter().any(|o| needed.contains(o)) {
                needed.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.constants.retain(|c| needed.contains(&c.name));
        self.weights.retain(|w| needed.contains(&w.name));
    }
}

/// A value as little-endian bytes of an element type.
fn bytes_of(elem: Elem, value: f64) -> Vec<u8> {
    match elem {
        Elem::I64 => (value as i64).to_le_bytes().to_vec(),
        Elem::U64 => (value as u64).to_le_bytes().to_vec(),
        Elem::F32 => encode(DType::F32, value),
        Elem::F16 => encode(DType::F16, value),
        Elem::BF16 => encode(DType::BF16, value),
        Elem::I32 => encode(DType::I32, value),
        Elem::U32 => encode(DType::U32, value),
        Elem::U8 => encode(DType::U8, value),
        Elem::Bool => encode(DType::Bool, value),
    }
}
