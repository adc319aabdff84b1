//! The readable text form of a graph, printed by `Display` and read by `FromStr`.
//!
//! ```text
//! graph "name"
//! %0:f32[2,3] = input "x" data
//! %1:f32[2,3] = unary(exp) %0  ; layers.0.mlp
//! output "y" %1
//! output "cache" %5 replaces "cache"
//! ```
//! A line is one input, node or output; `;` starts a comment, which for nodes is the module path. Operations
//! are written in RON (<https://docs.rs/ron>), floats with enough digits to come back exactly.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Role, ValueId};
use crate::op::Op;
use crate::tensor_type::TensorType;

/// Text that is not a graph.
#[derive(Debug, Clone, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// What was wrong there.
    pub why: String,
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {:?}", self.name())?;
        // In the order of their values, so that parsing numbers them alike.
        let mut inputs = self.inputs().iter().peekable();
        let mut input_lines = |f: &mut fmt::Formatter<'_>, before: Option<ValueId>| -> fmt::Result {
            while let Some(i) = inputs.next_if(|i| before.is_none_or(|v| i.value < v)) {
                writeln!(f, "%{}:{} = input {:?} {}", i.value.0, self.ty(i.value), i.name, ron(&i.role)?)?;
            }
            Ok(())
        };
        for n in self.nodes() {
            input_lines(f, n.outputs.first().copied())?;
            let mut line = String::new();
            for (i, &v) in n.outputs.iter().enumerate() {
                write!(line, "{}%{}:{}", if i > 0 { ", " } else { "" }, v.0, self.ty(v))?;
            }
            write!(line, " = {}", ron(&n.op)?)?;
            for (i, v) in n.inputs.iter().enumerate() {
                write!(line, "{}%{}", if i > 0 { ", " } else { " " }, v.0)?;
            }
            match n.path.as_ref() {
                "" => writeln!(f, "{line}")?,
                path => writeln!(f, "{line}  ; {path}")?,
            }
        }
        input_lines(f, None)?;
        for o in self.outputs() {
            write!(f, "output {:?} %{}", o.name, o.value.0)?;
            match o.alias {
                Some(i) => writeln!(f, " replaces {:?}", self.inputs()[i].name)?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn ron<T: Serialize>(value: &T) -> Result<String, fmt::Error> {
    ron::to_string(value).map_err(|_| fmt::Error)
}

impl FromStr for Graph {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader { graph: Graph::new(""), names: HashMap::new(), named: false };
        for (i, line) in text.lines().enumerate() {
            reader.line(line.trim()).map_err(|why| ParseError { line: i + 1, why })?;
        }
        if !reader.named {
            return Err(ParseError { line: 1, why: "a graph starts with: graph \"name\"".into() });
        }
        Ok(reader.graph)
    }
}

struct Reader {
    graph: Graph,
    names: HashMap<String, ValueId>,
    named: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with(';') {
            return Ok(());
        }
        if !self.named {
            let rest = line.strip_prefix("graph ").ok_or("a graph starts with: graph \"name\"")?;
            self.graph = Graph::new(quoted(rest)?.0);
            self.named = true;
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("output ") {
            return self.output(rest);
        }
        let (left, right) = line.split_once(" = ").ok_or("expected '%value:type = operation'")?;
        let results = split_results(left)?;
        if let Some(rest) = right.strip_prefix("input ") {
            return self.input(results, rest);
        }
        self.node(results, right)
    }

    fn input(&mut self, results: Vec<(String, TensorType)>, rest: &str) -> Result<(), String> {
        let [(name, ty)] = results.try_into().map_err(|_| "an input has one value")?;
        let (label, rest) = quoted(rest)?;
        let (role, _) = comment(rest);
        let role: Role = ron::from_str(role.trim()).map_err(|_| {
            format!("'{}' is not a role: parameter, state, data, scalar, extent", role.trim())
        })?;
        let id = self.graph.add_input(label, role, ty).map_err(|e| e.to_string())?;
        self.define(name, id)
    }

    fn node(&mut self, results: Vec<(String, TensorType)>, right: &str) -> Result<(), String> {
        let split = op_end(right);
        let op: Op = ron::from_str(&right[..split]).map_err(|e| format!("'{}': {e}", &right[..split]))?;
        let (operands, path) = comment(&right[split..]);
        let inputs = operands
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(|s| self.names.get(s).copied().ok_or_else(|| format!("{s} is not defined above")))
            .collect::<Result<Vec<_>, _>>()?;
        let ids = self.graph.add(op, &inputs, &Arc::from(path)).map_err(|e| e.to_string())?;
        let inferred = self.graph.types(&ids);
        let written: Vec<_> = results.iter().map(|(_, t)| t.clone()).collect();
        if inferred != written {
            let list = |t: &[TensorType]| t.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
            return Err(format!("the operation gives {}, the text says {}", list(&inferred), list(&written)));
        }
        results.into_iter().zip(ids).try_for_each(|((name, _), id)| self.define(name, id))
    }

    fn output(&mut self, rest: &str) -> Result<(), String> {
        let (label, rest) = quoted(rest)?;
        let (rest, _) = comment(rest);
        let (value, alias) = match rest.split_once(" replaces ") {
            Some((value, input)) => {
                let input = quoted(input)?.0;
                let index = self.graph.input_index(&input).ok_or_else(|| format!("no input '{input}'"))?;
                (value.trim(), Some(index))
            }
            None => (rest.trim(), None),
        };
        let id = *self.names.get(value).ok_or_else(|| format!("{value} is not defined above"))?;
        self.graph.add_output(label, id, alias).map_err(|e| e.to_string())
    }

    fn define(&mut self, name: String, id: ValueId) -> Result<(), String> {
        match self.names.insert(name.clone(), id) {
            None => Ok(()),
            Some(_) => Err(format!("{name} is defined twice")),
        }
    }
}

/// `%1:f32[2,3], %2:i32[]` as names and types.
fn split_results(left: &str) -> Result<Vec<(String, TensorType)>, String> {
    left.split(", ")
        .map(|part| {
            let (name, ty) = part.split_once(':').ok_or_else(|| format!("'{part}' is not %value:type"))?;
            let ty = ty.trim().parse::<TensorType>().map_err(|e| e.to_string())?;
            if !name.trim().starts_with('%') {
                return Err(format!("'{name}' does not start with %"));
            }
            Ok((name.trim().to_string(), ty))
        })
        .collect()
}

/// A leading quoted string and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let text = text.trim_start();
    let end = string_end(text).ok_or_else(|| format!("expected a quoted name at '{text}'"))?;
    let name: String = ron::from_str(&text[..end]).map_err(|e| format!("{}: {e}", &text[..end]))?;
    Ok((name, &text[end..]))
}

/// One past the closing quote of a string at the start of the text.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            '"' if i == 0 => {}
            _ if i == 0 => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// What comes before a comment, and the comment.
fn comment(text: &str) -> (&str, &str) {
    text.split_once(';').map_or((text, ""), |(a, b)| (a, b.trim()))
}

/// Where an operation's RON ends: at the first space outside parentheses and strings.
fn op_end(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => at += string_end(&text[at..]).map_or(text.len() - at, |e| e - 1),
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => return at,
            _ => {}
        }
        at += c.len_utf8();
        if at >= text.len() {
            break;
        }
    }
    text.len()
}

impl Serialize for Graph {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionSpec, DType, Trace};

    fn sample() -> Graph {
        let t = Trace::new("a \"quoted\" name");
        let x = t.data("x", DType::F32, [2, 3]);
        let cache = t.input("cache", Role::State, TensorType::new(DType::F32, [1, 1, 8, 4]));
        let new = t.data("new", DType::F32, [1, 1, 2, 4]);
        let pos = t.input("pos", Role::Scalar, TensorType::new(DType::I32, [1]));
        let scope = t.scope("layers.0");
        let y = (x.exp() * -0.1 + f64::NEG_INFINITY).softmax() + t.data("late", DType::F32, [3]);
        let [values, _] = y.top_k(2);
        let kv = cache.kv_append(&new, &pos, None);
        let spec = AttentionSpec { offset: true, window: Some(3), ..AttentionSpec::causal(0.5) };
        let out = new.attention(&kv, &kv, &[&pos], spec);
        drop(scope);
        t.output("values", &values);
        t.output("out", &out);
        t.output_in_place("cache", &kv, &cache);
        t.finish().unwrap()
    }

    #[test]
    fn printing_and_parsing_are_inverse() {
        let g = sample();
        let text = g.to_string();
        let back: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(back, g, "{text}");
        assert_eq!(back.to_string(), text);
    }

    #[test]
    fn fused_bodies_nest() {
        let body = {
            let t = Trace::new("body");
            let x = t.data("0", DType::F32, [3]);
            t.output("0", &x.exp());
            t.finish().unwrap()
        };
        let mut g = Graph::new("g");
        let x = g.add_input("x", Role::Data, TensorType::new(DType::F32, [3])).unwrap();
        let y = g.add(Op::Fused(Arc::new(body)), &[x], &"".into()).unwrap();
        g.add_output("y", y[0], None).unwrap();
        assert_eq!(g.to_string().parse::<Graph>().unwrap(), g);
    }

    #[test]
    fn errors_name_the_line_and_the_fault() {
        for (text, line, what) in [
            ("hello", 1, "graph"),
            ("graph \"g\"\n%0:f32[2] = input \"x\" dat", 2, "role"),
            ("graph \"g\"\n%0:f32[2] = input \"x\" data\n%1:f32[2] = unary(exq) %0", 3, "exq"),
            ("graph \"g\"\n%0:f32[2] = input \"x\" data\n%1:f32[3] = unary(exp) %0", 3, "f32[3]"),
            ("graph \"g\"\n%1:f32[3] = unary(exp) %0", 2, "%0 is not defined"),
            ("graph \"g\"\n%0:f32[2] = input \"x", 2, "quoted"),
            ("graph \"g\"\noutput \"y\" %7", 2, "%7"),
        ] {
            let e = text.parse::<Graph>().unwrap_err();
            assert_eq!(e.line, line, "{text}: {e}");
            assert!(e.to_string().contains(what), "{text}: {e}");
        }
    }
}
