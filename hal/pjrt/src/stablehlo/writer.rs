//! Lines of StableHLO, one operation each.

use std::fmt::{self, Write as _};
use std::rc::Rc;

use percept_graph::DType;

/// The element types that are emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    BF16,
    I32,
    U32,
    U8,
    I8,
    I1,
}

impl Element {
    /// That of a dtype; quantized blocks are bytes.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Element::F32,
            DType::F16 => Element::F16,
            DType::BF16 => Element::BF16,
            DType::I32 => Element::I32,
            DType::U32 => Element::U32,
            DType::Bool => Element::I1,
            _ => Element::U8,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::BF16 => "bf16",
            Element::I32 => "i32",
            Element::U32 => "ui32",
            Element::U8 => "ui8",
            Element::I8 => "i8",
            Element::I1 => "i1",
        }
    }

    pub fn is_half(self) -> bool {
        matches!(self, Element::F16 | Element::BF16)
    }

    pub fn is_float(self) -> bool {
        self == Element::F32 || self.is_half()
    }
}

/// A tensor type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    pub element: Element,
    pub dims: Vec<usize>,
}

impl Type {
    pub fn new(element: Element, dims: impl Into<Vec<usize>>) -> Self {
        Self { element, dims: dims.into() }
    }

    pub fn scalar(element: Element) -> Self {
        Self::new(element, [])
    }

    pub fn numel(&self) -> usize {
        self.dims.iter().product()
    }

    fn with(&self, element: Element) -> Self {
        Self::new(element, self.dims.clone())
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        self.dims.iter().try_for_each(|d| write!(f, "{d}x"))?;
        write!(f, "{}>", self.element.name())
    }
}

/// A value with its name in the text.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub name: Rc<str>,
    pub ty: Type,
}

impl Value {
    pub fn named(name: String, ty: Type) -> Self {
        Self { name: name.into(), ty }
    }

    pub fn dims(&self) -> &[usize] {
        &self.ty.dims
    }

    pub fn rank(&self) -> usize {
        self.ty.dims.len()
    }
}

/// Writes operations in order.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    next: usize,
}

impl Writer {
    pub fn finish(self) -> String {
        self.text
    }

    /// An operation with one result: `text` is what stands after the equals sign.
    pub fn line(&mut self, ty: Type, text: impl fmt::Display) -> Value {
        let name = self.fresh();
        let _ = writeln!(self.text, "    {name} = {text}");
        Value::named(name, ty)
    }

    fn fresh(&mut self) -> String {
        let name = format!("%{}", self.next);
        self.next += 1;
        name
    }

    /// An operation with a function of scalars: `head` stands before it, `tail` behind. `body` makes the results from
    /// the function's parameters, which have the types of `parameters`.
    pub fn region(
        &mut self,
        head: impl fmt::Display,
        parameters: &[Type],
        body: impl FnOnce(&mut Self, &[Value]) -> Vec<Value>,
        tail: impl fmt::Display,
        results: &[Type],
    ) -> Vec<Value> {
        let name = self.fresh();
        let count = if results.len() > 1 { format!(":{}", results.len()) } else { String::new() };
        let inner: Vec<Value> = parameters.iter().map(|ty| Value::named(self.fresh(), ty.clone())).collect();
        let declared: Vec<String> = inner.iter().map(|v| format!("{}: {}", v.name, v.ty)).collect();
        let _ = writeln!(self.text, "    {name}{count} = {head} ({{\n    ^bb0({}):", declared.join(", "));
        let made = body(self, &inner);
        let names: Vec<&str> = made.iter().map(|v| v.name.as_ref()).collect();
        let types: Vec<String> = made.iter().map(|v| v.ty.to_string()).collect();
        let _ = writeln!(self.text, "    stablehlo.return {} : {}", names.join(", "), types.join(", "));
        let _ = writeln!(self.text, "    }}) {tail}");
        let result = |(i, ty): (usize, &Type)| {
            let name = if results.len() > 1 { format!("{name}#{i}") } else { name.clone() };
            Value::named(name, ty.clone())
        };
        results.iter().enumerate().map(result).collect()
    }

    /// A function of one operand with a result of its type.
    pub fn unary(&mut self, op: &str, x: &Value) -> Value {
        self.line(x.ty.clone(), format_args!("{op} {} : {}", x.name, x.ty))
    }

    /// The same with a result of another element type.
    pub fn unary_to(&mut self, op: &str, x: &Value, element: Element) -> Value {
        let ty = x.ty.with(element);
        self.line(ty.clone(), format_args!("{op} {} : ({}) -> {ty}", x.name, x.ty))
    }

    /// A function of two operands of one type.
    pub fn binary(&mut self, op: &str, a: &Value, b: &Value) -> Value {
        self.line(a.ty.clone(), format_args!("stablehlo.{op} {}, {} : {}", a.name, b.name, a.ty))
    }

    pub fn compare(&mut self, direction: &str, a: &Value, b: &Value) -> Value {
        let kind = match a.ty.element {
            e if e.is_float() => "FLOAT",
            Element::I32 | Element::I8 => "SIGNED",
            _ => "UNSIGNED",
        };
        let ty = a.ty.with(Element::I1);
        let (a_ty, b_ty) = (&a.ty, &b.ty);
        self.line(
            ty.clone(),
            format_args!(
                "stablehlo.compare {direction}, {}, {}, {kind} : ({a_ty}, {b_ty}) -> {ty}",
                a.name, b.name
            ),
        )
    }

    pub fn select(&mut self, p: &Value, yes: &Value, no: &Value) -> Value {
        let text = format!("stablehlo.select {}, {}, {} : {}, {}", p.name, yes.name, no.name, p.ty, yes.ty);
        self.line(yes.ty.clone(), text)
    }

    /// Convert elements; the value itself when they are of this type.
    pub fn convert(&mut self, x: &Value, element: Element) -> Value {
        if x.ty.element == element { x.clone() } else { self.unary_to("stablehlo.convert", x, element) }
    }

    /// The same bits as elements of another type, the last dimension taking up a change of their size.
    pub fn bitcast(&mut self, x: &Value, element: Element, dims: impl Into<Vec<usize>>) -> Value {
        let ty = Type::new(element, dims);
        self.line(ty.clone(), format_args!("stablehlo.bitcast_convert {} : ({}) -> {ty}", x.name, x.ty))
    }

    pub fn iota(&mut self, dims: &[usize], axis: usize) -> Value {
        let ty = Type::new(Element::I32, dims);
        self.line(ty.clone(), format_args!("stablehlo.iota dim = {axis} : {ty}"))
    }

    pub fn reshape(&mut self, x: &Value, dims: &[usize]) -> Value {
        let ty = Type::new(x.ty.element, dims);
        self.line(ty.clone(), format_args!("stablehlo.reshape {} : ({}) -> {ty}", x.name, x.ty))
    }

    pub fn transpose(&mut self, x: &Value, perm: &[usize]) -> Value {
        let dims: Vec<usize> = perm.iter().map(|p| x.dims()[*p]).collect();
        let ty = Type::new(x.ty.element, dims);
        let text = format!("stablehlo.transpose {}, dims = {perm:?} : ({}) -> {ty}", x.name, x.ty);
        self.line(ty, text)
    }

    pub fn broadcast(&mut self, x: &Value, dims: &[usize], axes: &[usize]) -> Value {
        let ty = Type::new(x.ty.element, dims);
        let text = format!("stablehlo.broadcast_in_dim {}, dims = {axes:?} : ({}) -> {ty}", x.name, x.ty);
        self.line(ty, text)
    }

    pub fn slice(&mut self, x: &Value, start: &[usize], limit: &[usize], stride: &[usize]) -> Value {
        let parts = start.iter().zip(limit).zip(stride);
        let (ranges, dims): (Vec<String>, Vec<usize>) =
            parts.map(|((s, l), t)| (format!("{s}:{l}:{t}"), (l - s).div_ceil(*t))).unzip();
        let ty = Type::new(x.ty.element, dims);
        let text = format!("stablehlo.slice {} [{}] : ({}) -> {ty}", x.name, ranges.join(", "), x.ty);
        self.line(ty, text)
    }

    /// Columns `start .. limit` of the last dimension.
    pub fn columns(&mut self, x: &Value, start: usize, limit: usize) -> Value {
        let (mut starts, mut limits) = (vec![0; x.rank()], x.dims().to_vec());
        if let (Some(first), Some(last)) = (starts.last_mut(), limits.last_mut()) {
            (*first, *last) = (start, limit);
        }
        self.slice(x, &starts, &limits, &vec![1; x.rank()])
    }

    pub fn pad(
        &mut self,
        x: &Value,
        value: &Value,
        low: &[usize],
        high: &[usize],
        interior: &[usize],
        dims: &[usize],
    ) -> Value {
        let ty = Type::new(x.ty.element, dims);
        let text = format!(
            "stablehlo.pad {}, {}, low = {low:?}, high = {high:?}, interior = {interior:?} : ({}, {}) -> {ty}",
            x.name, value.name, x.ty, value.ty
        );
        self.line(ty, text)
    }

    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Value {
        let mut ty = parts[0].ty.clone();
        ty.dims[axis] = parts.iter().map(|p| p.dims()[axis]).sum();
        let text =
            format!("stablehlo.concatenate {}, dim = {axis} : ({}) -> {ty}", names(parts), types(parts));
        self.line(ty, text)
    }

    pub fn barrier(&mut self, x: &Value) -> Value {
        self.unary("stablehlo.optimization_barrier", x)
    }
}

/// The names of values, for an operand list.
pub(super) fn names(values: &[Value]) -> String {
    values.iter().map(|v| v.name.as_ref()).collect::<Vec<_>>().join(", ")
}

/// The types of values, for a signature.
pub(super) fn types(values: &[Value]) -> String {
    values.iter().map(|v| v.ty.to_string()).collect::<Vec<_>>().join(", ")
}
