//! Graphs as the text of StableHLO modules (<https://openxla.org/stablehlo/spec>), with the graph's own meaning where the
//! specification leaves a choice or chooses otherwise.
//!
//! Functions of half-precision operands are computed in f32 and rounded once. A quantized weight is an argument of
//! bytes, which emitted bit operations decode.

mod arithmetic;
mod constants;
mod indexing;
mod quantized;
mod reduction;
mod writer;

use percept_graph::{DType, Graph, Node, Op, OpDesc, TensorType};

use writer::{Element, Type, Value, Writer};

/// An operation that has no StableHLO form.
#[derive(Debug, Clone)]
pub struct NotEmitted {
    /// The operation's name.
    pub op: String,
    /// Its module path.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Whether an operation can be emitted for these types, or why not.
pub fn supports(op: &OpDesc<'_>) -> Result<(), String> {
    match op.op {
        Op::Composite(_) | Op::Fused(_) => Err("it is emitted as the operations that it consists of".into()),
        _ => Ok(()),
    }
}

/// The extents under which a value is passed: those of its type, or of its bytes when it is quantized.
pub fn storage_dims(ty: &TensorType) -> Vec<usize> {
    let mut dims = ty.dims.clone();
    if let Some(last) = dims.last_mut().filter(|_| ty.dtype.is_quantized()) {
        *last = *last / ty.dtype.block_len() * ty.dtype.block_bytes();
    }
    dims
}

/// The type under which a value is passed.
fn storage(ty: &TensorType) -> Type {
    Type::new(Element::of(ty.dtype), storage_dims(ty))
}

/// A module whose function `main` takes the graph's inputs and gives its outputs, in order. An input that an output
/// aliases has the attribute `tf.aliasing_output`.
///
/// # Errors
/// When the graph has an operation that [`supports`] refuses.
pub fn emit(graph: &Graph) -> Result<String, NotEmitted> {
    let mut writer = Writer::default();
    let mut values: Vec<Option<Value>> = vec![None; graph.values().len()];
    let mut parameters = Vec::new();
    for (i, input) in graph.inputs().iter().enumerate() {
        let ty = storage(graph.ty(input.value));
        let aliased = graph.outputs().iter().position(|o| o.alias == Some(i));
        let attribute = aliased.map_or(String::new(), |o| format!(" {{tf.aliasing_output = {o} : i32}}"));
        parameters.push(format!("%arg{i}: {ty}{attribute}"));
        values[input.value.index()] = Some(Value::named(format!("%arg{i}"), ty));
    }
    for node in graph.nodes() {
        let refused = |why: String| NotEmitted { op: node.op.name(), path: node.path.to_string(), why };
        let operands: Vec<Value> = node.inputs.iter().filter_map(|v| values[v.index()].clone()).collect();
        let results = self::node(&mut writer, graph, node, &operands).map_err(refused)?;
        for (v, value) in node.outputs.iter().zip(results) {
            values[v.index()] = Some(value);
        }
    }
    let outputs: Vec<Value> =
        graph.outputs().iter().filter_map(|o| values[o.value.index()].clone()).collect();
    let types: Vec<String> = outputs.iter().map(|o| o.ty.to_string()).collect();
    let names: Vec<&str> = outputs.iter().map(|o| o.name.as_ref()).collect();
    let returned = if names.is_empty() {
        "return".to_string()
    } else {
        format!("return {} : {}", names.join(", "), types.join(", "))
    };
    Ok(format!(
        "module @{} {{\n  func.func public @main({}) -> ({}) {{\n{}    {returned}\n  }}\n}}\n",
        symbol(graph.name()),
        parameters.join(", "),
        types.join(", "),
        writer.finish()
    ))
}

/// A module whose function `main` takes each replica's tensor and gives the sum of all.
pub fn all_reduce(ty: &TensorType, replicas: usize) -> String {
    let mut writer = Writer::default();
    let (ty, scalar) = (storage(ty), Type::scalar(Element::of(ty.dtype)));
    let group: Vec<usize> = (0..replicas).collect();
    let head = format!(
        "\"stablehlo.all_reduce\"(%arg0) <{{replica_groups = dense<[{group:?}]> : tensor<1x{replicas}xi64>}}>"
    );
    let add = |w: &mut Writer, p: &[Value]| vec![w.binary("add", &p[0], &p[1])];
    let tail = format!(": ({ty}) -> {ty}");
    let sums = writer.region(head, &[scalar.clone(), scalar], add, tail, &[ty.clone()]);
    let name = &sums[0].name;
    format!(
        "module @all_reduce {{\n  func.func public @main(%arg0: {ty}) -> {ty} {{\n{}    return {name} : {ty}\n  }}\n}}\n",
        writer.finish()
    )
}

/// A graph's name as a symbol of MLIR.
fn symbol(name: &str) -> String {
    let kept: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if kept.starts_with(|c: char| c.is_ascii_alphabetic()) { kept } else { format!("graph_{kept}") }
}

/// The results of one node.
fn node(w: &mut Writer, graph: &Graph, node: &Node, x: &[Value]) -> Result<Vec<Value>, String> {
    let outputs = graph.types(&node.outputs);
    // Some operations take no empty operands or windows; whatever makes nothing is nothing.
    if outputs.iter().all(|ty| ty.numel() == 0) {
        return Ok(outputs.iter().map(|ty| w.empty(storage(ty))).collect());
    }
    let inputs = graph.types(&node.inputs);
    let from = || inputs.first().map_or(DType::F32, |ty| ty.dtype);
    let out = &outputs[0];
    let one = match &node.op {
        Op::Constant(literal) => w.literal(literal),
        Op::Iota { ty, axis } => {
            let counted = w.iota(&ty.dims, *axis);
            arithmetic::cast(w, &counted, DType::I32, ty.dtype)
        }
        Op::Cast { to } => arithmetic::cast(w, &x[0], from(), *to),
        Op::Bitcast { to } => w.bitcast(&x[0], Element::of(*to), out.dims.clone()),
        Op::Reshape { dims } => w.reshape(&x[0], dims),
        Op::Transpose { perm } => w.transpose(&x[0], perm),
        Op::Broadcast { dims, axes } => w.broadcast(&x[0], dims, axes),
        Op::Slice { start, limit, stride } => w.slice(&x[0], start, limit, stride),
        Op::Pad { low, high, interior } => w.pad(&x[0], &x[1], low, high, interior, &out.dims),
        Op::Concat { axis } => w.concat(x, *axis),
        Op::DynamicSlice { sizes } => indexing::dynamic_slice(w, &x[0], &x[1..], sizes),
        Op::DynamicUpdateSlice => indexing::dynamic_update_slice(w, &x[0], &x[1], &x[2..]),
        Op::Unary(kind) => arithmetic::unary(w, *kind, &x[0]),
        Op::Binary(kind) => arithmetic::binary(w, *kind, &x[0], &x[1]),
        Op::Compare(kind) => w.compare(arithmetic::direction(*kind), &x[0], &x[1]),
        Op::Select => w.select(&x[0], &x[1], &x[2]),
        Op::Clamp => arithmetic::clamp(w, &x[0], &x[1], &x[2]),
        Op::Reduce { kind, axes, .. } => reduction::reduce(w, *kind, &x[0], axes),
        Op::ArgReduce { kind, axis } => reduction::arg_reduce(w, *kind, &x[0], *axis),
        Op::Dot(spec) => reduction::dot(w, spec, &x[0], &x[1], out),
        Op::Gather { axis } => indexing::gather(w, &x[0], &x[1], *axis),
        Op::Scatter { axis, kind } => indexing::scatter(w, *kind, &x[0], &x[1], &x[2], *axis),
        Op::Sort { axis, descending, limit } => {
            return Ok(indexing::sort(w, &x[0], *axis, *descending, *limit));
        }
        Op::Dequantize { to } => {
            let wide = quantized::dequantize(w, &x[0], &inputs[0])?;
            arithmetic::cast(w, &wide, DType::F32, *to)
        }
        Op::Barrier => return Ok(x.iter().map(|x| w.barrier(x)).collect()),
        Op::Composite(_) | Op::Fused(_) => {
            return Err("it is emitted as the operations that it consists of".into());
        }
    };
    Ok(vec![one])
}
