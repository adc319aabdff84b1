//! Elementwise regions: one op, or a fused body, over one index space, with operands read through strided
//! views.
//!
//! A kernel's text follows from the structure alone: which ops, which dtypes, which operands are read in
//! order, as a scalar or through strides. Extents, strides and constants are parameters. An invocation
//! computes four consecutive elements; where the innermost extent is a multiple of four ("quads"), they are
//! read and written as vectors and the index arithmetic is done once.

mod expression;

use std::collections::HashMap;
use std::fmt::Write;

use percept_graph::{DType, Graph, Op, OpDesc, TensorType, ValueId};

pub(crate) use expression::activation;

use crate::caps::Caps;
use crate::geometry::{Views, broadcast_strides, count, strides};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Launch, Slot, Unsupported};
use crate::storage::{per_word, scalar};

const WORKGROUP: usize = 64;

/// How an operand element is found and read.
pub(crate) struct Operand {
    /// Its buffer; none for a region that computes from the index itself.
    pub slot: Option<Slot>,
    pub dtype: DType,
    /// Strides over the region's index space.
    pub strides: Vec<i64>,
    pub offset: i64,
}

impl Operand {
    /// An operand read in order.
    pub fn dense(slot: Slot, ty: &TensorType) -> Self {
        Self { slot: Some(slot), dtype: ty.dtype, strides: strides(&ty.dims), offset: 0 }
    }
}

/// An elementwise region: `statements` define locals from `a0, a1, ..` (the operands' elements) and `p.c0,
/// ..` (the constants), and `results` are expressions of them.
pub(crate) struct Region {
    pub name: &'static str,
    pub dims: Vec<usize>,
    pub operands: Vec<Operand>,
    pub constants: Vec<(DType, f64)>,
    pub statements: String,
    pub results: Vec<(Slot, DType, String)>,
}

/// A single elementwise op.
pub(crate) fn lower_op(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let operands: Vec<Operand> =
        desc.inputs.iter().enumerate().map(|(i, ty)| Operand::dense(Slot::Input(i), ty)).collect();
    let args: Vec<(String, DType)> =
        operands.iter().enumerate().map(|(i, o)| (format!("a{i}"), o.dtype)).collect();
    let out = &desc.outputs[0];
    let result = expression::expression(desc.op, &args, out.dtype)?;
    let region = Region {
        name: "elementwise",
        dims: out.dims.clone(),
        operands,
        constants: Vec::new(),
        statements: String::new(),
        results: vec![(Slot::Output(0), out.dtype, result)],
    };
    region.program(caps)
}

/// A fused region.
pub(crate) fn lower_fused(
    body: &Graph,
    desc: &OpDesc<'_>,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let dims = desc.outputs.first().map(|t| t.dims.clone()).unwrap_or_default();
    if desc.outputs.iter().any(|t| t.dims != dims) {
        return Err(Unsupported::new("the results of a fused region differ in shape"));
    }
    let mut lowering =
        BodyLowering { body, dims, operands: Vec::new(), constants: Vec::new(), views: HashMap::new() };
    let mut statements = String::new();
    for (i, node) in body.nodes().iter().enumerate() {
        let value = node.outputs[0];
        if let Some(view) = lowering.view(node)? {
            lowering.views.insert(value, view);
            continue;
        }
        let args: Vec<(String, DType)> = node
            .inputs
            .iter()
            .map(|&v| Ok((lowering.argument(v)?, body.ty(v).dtype)))
            .collect::<Result<_, Unsupported>>()?;
        let dtype = body.ty(value).dtype;
        let text = expression::expression(&node.op, &args, dtype)?;
        let _ = writeln!(statements, "    let v{i}: {} = {text};", scalar(dtype)?);
        lowering.views.insert(value, View::Local(format!("v{i}")));
    }
    let mut results = Vec::new();
    for (i, output) in body.outputs().iter().enumerate() {
        let text = lowering.argument(output.value)?;
        results.push((Slot::Output(i), body.ty(output.value).dtype, text));
    }
    let BodyLowering { dims, operands, constants, .. } = lowering;
    Region { name: "fused", dims, operands, constants, statements, results }.program(caps)
}

/// What a value of a fused body is to the statements after it.
#[derive(Clone)]
enum View {
    /// A local variable.
    Local(String),
    /// An operand of the region seen under these strides, not read yet.
    Operand { input: usize, dims: Vec<usize>, strides: Vec<i64> },
    /// A constant.
    Constant(DType, f64),
}

struct BodyLowering<'a> {
    body: &'a Graph,
    dims: Vec<usize>,
    operands: Vec<Operand>,
    constants: Vec<(DType, f64)>,
    views: HashMap<ValueId, View>,
}

impl BodyLowering<'_> {
    fn lookup(&self, value: ValueId) -> Result<View, Unsupported> {
        if let Some(view) = self.views.get(&value) {
            return Ok(view.clone());
        }
        let input = self.body.inputs().iter().position(|i| i.value == value);
        let input = input.ok_or_else(|| Unsupported::new("a fused body uses a value before it is made"))?;
        let dims = self.body.ty(value).dims.clone();
        Ok(View::Operand { input, strides: strides(&dims), dims })
    }

    /// Nodes that only say how an operand is seen.
    fn view(&self, node: &percept_graph::Node) -> Result<Option<View>, Unsupported> {
        match &node.op {
            Op::Constant(literal) => match literal.as_splat() {
                Some(v) => Ok(Some(View::Constant(literal.ty.dtype, v))),
                None => Err(Unsupported::new("a fused body holds a constant of many values")),
            },
            Op::Broadcast { dims, axes } => match self.lookup(node.inputs[0])? {
                View::Operand { input, dims: from, strides: old } => {
                    let mut strides = vec![0; dims.len()];
                    for (i, &axis) in axes.iter().enumerate() {
                        if from[i] == dims[axis] && from[i] != 1 {
                            strides[axis] = old[i];
                        }
                    }
                    Ok(Some(View::Operand { input, dims: dims.clone(), strides }))
                }
                View::Local(_) => Err(Unsupported::new("a fused body broadcasts a computed value")),
                constant => Ok(Some(constant)),
            },
            _ => Ok(None),
        }
    }

    /// The expression that reads a value: a local, an operand's element or a constant's parameter.
    fn argument(&mut self, value: ValueId) -> Result<String, Unsupported> {
        match self.lookup(value)? {
            View::Local(name) => Ok(name),
            View::Constant(dtype, v) => {
                let same = |c: &(DType, f64)| c.0 == dtype && c.1.to_bits() == v.to_bits();
                let at = self.constants.iter().position(same).unwrap_or_else(|| {
                    self.constants.push((dtype, v));
                    self.constants.len() - 1
                });
                Ok(format!("p.c{at}"))
            }
            View::Operand { input, dims, mut strides } => {
                if dims != self.dims {
                    // An operand of one element may stand for the whole shape without a broadcast.
                    if count(&dims)? != 1 {
                        return Err(Unsupported::new(format!(
                            "a fused body reads an operand of shape {dims:?} over {:?}",
                            self.dims
                        )));
                    }
                    strides = vec![0; self.dims.len()];
                }
                let slot = Some(Slot::Input(input));
                let dtype = self.body.ty(self.body.inputs()[input].value).dtype;
                let found = self.operands.iter().position(|o| o.slot == slot && o.strides == strides);
                let at = found.unwrap_or_else(|| {
                    self.operands.push(Operand { slot, dtype, strides, offset: 0 });
                    self.operands.len() - 1
                });
                Ok(format!("a{at}"))
            }
        }
    }
}

/// How the four elements of an invocation read one operand.
enum Read {
    /// One vector.
    Vector,
    /// The same element everywhere.
    Scalar,
    /// Four elements from an index found once, `stride` apart.
    Quad { stride: &'static str },
    /// An index for each element.
    Each,
    /// The index itself is the value.
    Index,
}

impl Region {
    /// The region as a program of one launch.
    pub fn program(&self, caps: &Caps) -> Result<KernelProgram, Unsupported> {
        let mut program = KernelProgram::default();
        program.launches.extend(self.launch(caps)?);
        Ok(program)
    }

    /// The launch, or none for an empty index space.
    pub fn launch(&self, caps: &Caps) -> Result<Option<Launch>, Unsupported> {
        let n = count(&self.dims)?;
        if n == 0 {
            return Ok(None);
        }
        let all: Vec<Vec<i64>> = self.operands.iter().map(|o| o.strides.clone()).collect();
        let views = Views::new(&self.dims, &all);
        let views = views.with_offsets(self.operands.iter().map(|o| o.offset).collect());
        let quads = n % 4 == 0 && views.dims.last().is_none_or(|d| d % 4 == 0);

        let mut k = Kernel::new(self.name, "");
        k.tag(if quads { "quads" } else { "singles" });
        let mut slots: Vec<Slot> = Vec::new();
        let mut reads = Vec::new();
        let mut names = Vec::new();
        let mut strided = Views { dims: views.dims.clone(), strides: Vec::new(), offsets: Vec::new() };
        for (i, operand) in self.operands.iter().enumerate() {
            let read = match operand.slot {
                None => Read::Index,
                _ if views.is_scalar(i) => Read::Scalar,
                _ if quads && views.is_contiguous(i) => Read::Vector,
                _ if quads && views.strides[i].last() == Some(&1) => Read::Quad { stride: "1u" },
                _ if quads && views.strides[i].last() == Some(&0) => Read::Quad { stride: "0u" },
                _ => Read::Each,
            };
            if let Some(slot) = operand.slot {
                // Two views of one buffer share its binding when they read it alike.
                let known = slots.iter().position(|&s| s == slot);
                if known.is_some() || !matches!(read, Read::Vector) {
                    if known.is_none() {
                        k.input(&format!("x{}", slots.len()), slot, operand.dtype)?;
                        slots.push(slot);
                    }
                } else if self.operands.iter().filter(|o| o.slot == Some(slot)).count() > 1 {
                    k.input(&format!("x{}", slots.len()), slot, operand.dtype)?;
                    slots.push(slot);
                } else {
                    k.vectors(&format!("x{}", slots.len()), slot, operand.dtype)?;
                    slots.push(slot);
                }
            }
            if matches!(read, Read::Each | Read::Quad { .. } | Read::Index)
                && !(matches!(read, Read::Each) && views.is_contiguous(i))
            {
                strided.strides.push(views.strides[i].clone());
                strided.offsets.push(views.offsets[i]);
                names.push(format!("index{i}"));
            }
            reads.push(read);
        }
        for (i, (slot, dtype, _)) in self.results.iter().enumerate() {
            if quads {
                k.vectors(&format!("y{i}"), *slot, *dtype)?
            } else {
                k.output(&format!("y{i}"), *slot, *dtype)?
            };
        }
        k.param("n", n);
        for (i, &(dtype, v)) in self.constants.iter().enumerate() {
            let name = format!("c{i}");
            match scalar(dtype)? {
                "f32" => k.param_f32(&name, v),
                "i32" => k.param_i32(&name, v as i64),
                _ => k.param(&name, v as usize),
            };
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        k.views(&names, &strided);
        k.append(&self.element_function()?);
        k.append(&self.main(quads, &reads, &slots, &views)?);
        k.launch(n.div_ceil(4 * WORKGROUP), caps).map(Some)
    }

    /// `element(a0, a1, ..)`: the results for one element.
    fn element_function(&self) -> Result<String, Unsupported> {
        let mut text = String::from("struct Element {\n");
        for (i, (_, dtype, _)) in self.results.iter().enumerate() {
            let _ = writeln!(text, "    r{i}: {},", scalar(*dtype)?);
        }
        text += "}\nfn element(";
        for (i, operand) in self.operands.iter().enumerate() {
            let ty = if operand.slot.is_some() { scalar(operand.dtype)? } else { "u32" };
            let _ = write!(text, "a{i}: {ty}, ");
        }
        let results: Vec<&str> = self.results.iter().map(|(_, _, e)| e.as_str()).collect();
        let _ = write!(
            text,
            ") -> Element {{\n{}    return Element({});\n}}\n",
            self.statements,
            results.join(", ")
        );
        Ok(text)
    }

    /// The entry point: four elements read, computed and written.
    fn main(
        &self,
        quads: bool,
        reads: &[Read],
        slots: &[Slot],
        views: &Views,
    ) -> Result<String, Unsupported> {
        let mut text = String::from(
            "@compute @workgroup_size(64)\nfn main(\n    @builtin(workgroup_id) group: vec3<u32>,\n    \
             @builtin(num_workgroups) groups: vec3<u32>,\n    @builtin(local_invocation_index) lane: u32,\n) {\n    \
             let quad = linear_group(group, groups) * 64u + lane;\n    let first = quad * 4u;\n    \
             if first >= p.n {\n        return;\n    }\n",
        );
        let mut arguments = vec![String::new(); 4];
        for (i, (operand, read)) in self.operands.iter().zip(reads).enumerate() {
            let binding = operand.slot.and_then(|s| slots.iter().position(|&o| o == s)).unwrap_or_default();
            let shared = self.operands.iter().filter(|o| o.slot == operand.slot).count() > 1;
            match read {
                Read::Vector if !shared => {
                    let _ = writeln!(text, "    let in{i} = load4_x{binding}(quad);");
                }
                Read::Scalar => {
                    let _ = writeln!(text, "    let in{i} = load_x{binding}(0u);");
                }
                Read::Quad { .. } => {
                    let _ = writeln!(text, "    let at{i} = index{i}(first);");
                    if matches!(read, Read::Quad { stride: "0u" }) {
                        let _ = writeln!(text, "    let in{i} = load_x{binding}(at{i});");
                    }
                }
                _ => {}
            }
            for (e, argument) in arguments.iter_mut().enumerate() {
                let at = if quads { format!("first + {e}u") } else { format!("min(first + {e}u, p.n - 1u)") };
                let _ = match read {
                    Read::Vector if shared => write!(argument, "load_x{binding}({at}), "),
                    Read::Vector => write!(argument, "in{i}[{e}], "),
                    Read::Scalar | Read::Quad { stride: "0u" } => write!(argument, "in{i}, "),
                    Read::Quad { .. } => write!(argument, "load_x{binding}(at{i} + {e}u), "),
                    Read::Each if views.is_contiguous(i) => write!(argument, "load_x{binding}({at}), "),
                    Read::Each => write!(argument, "load_x{binding}(index{i}({at})), "),
                    Read::Index => write!(argument, "index{i}({at}), "),
                };
            }
        }
        for (e, argument) in arguments.iter().enumerate() {
            let _ = writeln!(text, "    let e{e} = element({argument});");
        }
        for (i, (_, dtype, _)) in self.results.iter().enumerate() {
            if quads {
                let ty = scalar(*dtype)?;
                let _ =
                    writeln!(text, "    store4_y{i}(quad, vec4<{ty}>(e0.r{i}, e1.r{i}, e2.r{i}, e3.r{i}));");
            } else if per_word(*dtype) == 2 {
                let _ = writeln!(text, "    store_y{i}(2u * quad, e0.r{i}, e1.r{i});");
                let _ = writeln!(
                    text,
                    "    if first + 2u < p.n {{ store_y{i}(2u * quad + 1u, e2.r{i}, e3.r{i}); }}"
                );
            } else {
                let _ = writeln!(text, "    store_y{i}(first, e0.r{i});");
                for e in 1..4 {
                    let _ = writeln!(
                        text,
                        "    if first + {e}u < p.n {{ store_y{i}(first + {e}u, e{e}.r{i}); }}"
                    );
                }
            }
        }
        text += "}\n";
        Ok(text)
    }
}

/// The view of a broadcast operand.
pub(crate) fn broadcast_operand(slot: Slot, ty: &TensorType, axes: &[usize], dims: &[usize]) -> Operand {
    Operand { slot: Some(slot), dtype: ty.dtype, strides: broadcast_strides(&ty.dims, axes, dims), offset: 0 }
}
