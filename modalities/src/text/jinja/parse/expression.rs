//! From tokens to a tree: expressions.

use super::super::ast::{Arguments, Binary, Compare, Expr, Kind};
use super::super::fault::{Class, Result};
use super::super::lex::{Piece, syntax};
use super::super::{filters, tests};
use super::{DEEPEST, Parser};

impl Parser {
    /// A node above its children.
    fn node(&self, kind: Kind, line: u32) -> Result<Expr> {
        let height = 1 + tallest(&kind);
        if height > DEEPEST {
            return Err(syntax("the expression is nested too deeply", line));
        }
        Ok(Expr { kind, line, height })
    }

    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.deeper(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Expr> {
        let line = self.line();
        let refused = self.refused.clone();
        let mut then = self.or()?;
        while self.take_name("if") {
            // Filters that do not exist fail in a conditional only when they are used.
            self.refused = refused.clone();
            let soft = std::mem::replace(&mut self.soft, true);
            let test = Box::new(self.or()?);
            let otherwise = match self.take_name("else") {
                true => Some(Box::new(self.deeper(Self::conditional)?)),
                false => None,
            };
            self.soft = soft;
            then = self.node(Kind::If { test, then: Box::new(then), otherwise }, line)?;
        }
        Ok(then)
    }

    fn or(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.and()?;
        while self.take_name("or") {
            let right = Box::new(self.and()?);
            left = self.node(Kind::Or(Box::new(left), right), line)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.not()?;
        while self.take_name("and") {
            let right = Box::new(self.not()?);
            left = self.node(Kind::And(Box::new(left), right), line)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        let line = self.line();
        if self.take_name("not") {
            let inner = Box::new(self.deeper(Self::not)?);
            return self.node(Kind::Not(inner), line);
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr> {
        let line = self.line();
        let left = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.piece() {
                Piece::Op("==") => Compare::Eq,
                Piece::Op("!=") => Compare::Ne,
                Piece::Op("<") => Compare::Lt,
                Piece::Op("<=") => Compare::Le,
                Piece::Op(">") => Compare::Gt,
                Piece::Op(">=") => Compare::Ge,
                Piece::Name(name) if name == "in" => Compare::In,
                Piece::Name(name) if name == "not" && matches!(self.look(), Piece::Name(n) if n == "in") => {
                    self.skip();
                    Compare::NotIn
                }
                _ => break,
            };
            self.skip();
            rest.push((operator, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(left);
        }
        self.node(Kind::Compare(Box::new(left), rest), line)
    }

    fn sum(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.concat()?;
        loop {
            let operator = match self.piece() {
                Piece::Op("+") => Binary::Add,
                Piece::Op("-") => Binary::Sub,
                _ => return Ok(left),
            };
            self.skip();
            let right = Box::new(self.concat()?);
            left = self.node(Kind::Binary(operator, Box::new(left), right), line)?;
        }
    }

    fn concat(&mut self) -> Result<Expr> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take_op("~") {
            parts.push(self.product()?);
        }
        self.node(Kind::Concat(parts), line)
    }

    fn product(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.power()?;
        loop {
            let operator = match self.piece() {
                Piece::Op("*") => Binary::Mul,
                Piece::Op("/") => Binary::Div,
                Piece::Op("//") => Binary::FloorDiv,
                Piece::Op("%") => Binary::Mod,
                _ => return Ok(left),
            };
            self.skip();
            let right = Box::new(self.power()?);
            left = self.node(Kind::Binary(operator, Box::new(left), right), line)?;
        }
    }

    fn power(&mut self) -> Result<Expr> {
        let line = self.line();
        let mut left = self.unary(true)?;
        while self.take_op("**") {
            let right = Box::new(self.unary(true)?);
            left = self.node(Kind::Binary(Binary::Pow, Box::new(left), right), line)?;
        }
        Ok(left)
    }

    fn unary(&mut self, filters: bool) -> Result<Expr> {
        let line = self.line();
        let mut node = if self.take_op("-") {
            let inner = Box::new(self.deeper(|p| p.unary(false))?);
            self.node(Kind::Neg(inner), line)?
        } else if self.take_op("+") {
            let inner = Box::new(self.deeper(|p| p.unary(false))?);
            self.node(Kind::Pos(inner), line)?
        } else {
            self.primary()?
        };
        node = self.postfix(node)?;
        if !filters {
            return Ok(node);
        }
        loop {
            if self.is_op("|") {
                node = self.filter(Some(node), false)?.ok_or_else(|| self.unexpected("name"))?;
            } else if self.is_name("is") {
                node = self.test(node)?;
            } else if self.is_op("(") {
                node = self.call(node)?;
            } else {
                return Ok(node);
            }
        }
    }

    pub(super) fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        let piece = self.piece().clone();
        match piece {
            Piece::Name(name) => {
                self.skip();
                let kind = match name.as_str() {
                    "true" | "True" => Kind::Bool(true),
                    "false" | "False" => Kind::Bool(false),
                    "none" | "None" => Kind::None,
                    _ => {
                        let special = ["caller", "kwargs", "varargs"].into_iter().find(|s| *s == name);
                        if let (Some(special), Some(loads)) = (special, self.loads.last_mut()) {
                            loads.insert(special);
                        }
                        Kind::Name(self.number(&name))
                    }
                };
                self.node(kind, line)
            }
            Piece::Str(mut text) => {
                self.skip();
                while let Piece::Str(more) = self.piece() {
                    text.push_str(more);
                    self.skip();
                }
                self.node(Kind::Str(text), line)
            }
            Piece::Int(value) => {
                self.skip();
                self.node(Kind::Int(value), line)
            }
            Piece::Float(value) => {
                self.skip();
                self.node(Kind::Float(value), line)
            }
            Piece::Op("(") => {
                self.skip();
                if self.take_op(")") {
                    return self.node(Kind::Tuple(Vec::new()), line);
                }
                let inner = self.tuple(true, &[])?;
                self.expect_op(")")?;
                Ok(inner)
            }
            Piece::Op("[") => {
                self.skip();
                let items = self.items("]", Self::expression)?;
                self.node(Kind::List(items), line)
            }
            Piece::Op("{") => {
                self.skip();
                let items = self.items("}", |p| {
                    let key = p.expression()?;
                    p.expect_op(":")?;
                    Ok((key, p.expression()?))
                })?;
                self.node(Kind::Dict(items), line)
            }
            _ => Err(self.unexpected("")),
        }
    }

    /// Things between commas up to a bracket; the last comma may be followed by none.
    fn items<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.is_op(close) {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_op(close) {
                break;
            }
            items.push(item(self)?);
        }
        self.expect_op(close)?;
        Ok(items)
    }

    /// An expression, or a tuple of several.
    pub(super) fn tuple(&mut self, conditional: bool, ends: &[&str]) -> Result<Expr> {
        let line = self.line();
        let mut items = Vec::new();
        let mut tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.tuple_ends(ends) {
                break;
            }
            items.push(if conditional { self.expression()? } else { self.deeper(Self::or)? });
            if !self.is_op(",") {
                break;
            }
            tuple = true;
        }
        if tuple {
            return self.node(Kind::Tuple(items), line);
        }
        items.pop().ok_or_else(|| syntax("Expected an expression", line))
    }

    pub(super) fn postfix(&mut self, mut node: Expr) -> Result<Expr> {
        loop {
            let line = self.line();
            if self.take_op(".") {
                let kind = match self.piece().clone() {
                    Piece::Name(name) => Kind::Attribute(Box::new(node), name),
                    Piece::Int(at) => {
                        let at = Box::new(self.node(Kind::Int(at), line)?);
                        Kind::Item(Box::new(node), at)
                    }
                    _ => return Err(syntax("expected name or number", self.line())),
                };
                self.skip();
                node = self.node(kind, line)?;
            } else if self.take_op("[") {
                node = self.subscript(node, line)?;
            } else if self.is_op("(") {
                node = self.call(node)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn subscript(&mut self, node: Expr, line: u32) -> Result<Expr> {
        let mut items = Vec::new();
        let mut slice = None;
        while !self.is_op("]") {
            if !items.is_empty() || slice.is_some() {
                self.expect_op(",")?;
            }
            let start = if self.is_op(":") { None } else { Some(Box::new(self.expression()?)) };
            if !self.take_op(":") {
                items.extend(start.map(|start| *start));
                continue;
            }
            let part = |p: &mut Self| -> Result<Option<Box<Expr>>> {
                let ends = p.is_op(":") || p.is_op("]") || p.is_op(",");
                if ends { Ok(None) } else { Ok(Some(Box::new(p.expression()?))) }
            };
            let stop = part(self)?;
            let step = if self.take_op(":") { part(self)? } else { None };
            slice = Some([start, stop, step]);
        }
        self.skip();
        let node = Box::new(node);
        let kind = match (slice, items.len()) {
            (Some(slice), 0) => Kind::Slice(node, slice),
            (Some(_), _) => return Err(syntax("a slice among other subscripts is not supported", line)),
            (None, 1) => Kind::Item(node, Box::new(items.remove(0))),
            (None, _) => Kind::Item(node, Box::new(self.node(Kind::Tuple(items), line)?)),
        };
        self.node(kind, line)
    }

    fn call(&mut self, node: Expr) -> Result<Expr> {
        let line = self.line();
        let arguments = self.arguments()?;
        self.node(Kind::Call(Box::new(node), arguments), line)
    }

    fn arguments(&mut self) -> Result<Arguments> {
        let line = self.line();
        let mut all = Arguments::default();
        let ensure = |fine: bool| match fine {
            true => Ok(()),
            false => Err(syntax("invalid syntax for function call expression", line)),
        };
        self.expect_op("(")?;
        let mut comma = false;
        while !self.is_op(")") {
            if comma {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            comma = true;
            if self.take_op("*") {
                ensure(all.more.is_none() && all.more_named.is_none())?;
                all.more = Some(Box::new(self.expression()?));
            } else if self.take_op("**") {
                ensure(all.more_named.is_none())?;
                all.more_named = Some(Box::new(self.expression()?));
            } else if let (Piece::Name(name), true) = (self.piece().clone(), *self.look() == Piece::Op("=")) {
                ensure(all.more_named.is_none())?;
                self.skip();
                self.skip();
                if all.named.iter().any(|(known, _)| *known == name) {
                    self.refuse(Class::Syntax, format!("keyword argument repeated: {name}"), line);
                }
                all.named.push((name, self.expression()?));
            } else {
                ensure(all.more.is_none() && all.more_named.is_none() && all.named.is_empty())?;
                all.list.push(self.expression()?);
            }
        }
        self.expect_op(")")?;
        Ok(all)
    }

    /// A name with dots.
    fn dotted(&mut self) -> Result<String> {
        let mut name = self.expect_name()?;
        while self.take_op(".") {
            name.push('.');
            name += &self.expect_name()?;
        }
        Ok(name)
    }

    /// Filters on a value, or on what a block gives; `None` where there is none.
    pub(super) fn filter(&mut self, value: Option<Expr>, mut inline: bool) -> Result<Option<Expr>> {
        let mut node = value;
        while inline || self.is_op("|") {
            if !inline {
                self.skip();
            }
            inline = false;
            let line = self.line();
            let name = self.dotted()?;
            if !filters::exists(&name) && !self.soft {
                self.refuse(Class::TemplateAssertion, format!("No filter named '{name}'."), line);
            }
            let arguments = if self.is_op("(") { self.arguments()? } else { Arguments::default() };
            node = Some(self.node(Kind::Filter(node.map(Box::new), name, arguments), line)?);
        }
        Ok(node)
    }

    fn test(&mut self, node: Expr) -> Result<Expr> {
        let line = self.line();
        self.skip();
        let negated = self.take_name("not");
        let name = self.dotted()?;
        if !tests::exists(&name) && !self.soft {
            self.refuse(Class::TemplateAssertion, format!("No test named '{name}'."), line);
        }
        let arguments = match self.piece() {
            Piece::Op("(") => self.arguments()?,
            Piece::Name(word) if matches!(word.as_str(), "else" | "or" | "and") => Arguments::default(),
            Piece::Name(word) if word == "is" => {
                return Err(syntax("You cannot chain multiple tests with is", line));
            }
            Piece::Name(_) | Piece::Str(_) | Piece::Int(_) | Piece::Float(_) | Piece::Op("[" | "{") => {
                let argument = self.deeper(Self::primary)?;
                let argument = self.postfix(argument)?;
                Arguments { list: vec![argument], ..Arguments::default() }
            }
            _ => Arguments::default(),
        };
        let test = self.node(Kind::Test(Box::new(node), name, arguments), line)?;
        if negated { self.node(Kind::Not(Box::new(test)), line) } else { Ok(test) }
    }
}

/// The height of the tallest child.
fn tallest(kind: &Kind) -> u32 {
    let of = |expr: &Expr| expr.height;
    let all = |list: &[Expr]| list.iter().map(of).max().unwrap_or(0);
    let call = |arguments: &Arguments| {
        let more = arguments.more.iter().chain(&arguments.more_named).map(|e| e.height);
        let named = arguments.named.iter().map(|(_, e)| e.height);
        all(&arguments.list).max(more.chain(named).max().unwrap_or(0))
    };
    match kind {
        Kind::None | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_) | Kind::Name(_) => 0,
        Kind::List(items) | Kind::Tuple(items) | Kind::Concat(items) => all(items),
        Kind::Dict(items) => items.iter().map(|(k, v)| k.height.max(v.height)).max().unwrap_or(0),
        Kind::If { test, then, otherwise } => {
            test.height.max(then.height).max(otherwise.as_ref().map_or(0, |e| e.height))
        }
        Kind::Or(a, b) | Kind::And(a, b) | Kind::Binary(_, a, b) | Kind::Item(a, b) => a.height.max(b.height),
        Kind::Not(a) | Kind::Neg(a) | Kind::Pos(a) | Kind::Attribute(a, _) => a.height,
        Kind::Compare(first, rest) => rest.iter().map(|(_, e)| e.height).fold(first.height, u32::max),
        Kind::Slice(of, parts) => parts.iter().flatten().map(|e| e.height).fold(of.height, u32::max),
        Kind::Call(callee, arguments) => callee.height.max(call(arguments)),
        Kind::Filter(value, _, arguments) => value.as_ref().map_or(0, |e| e.height).max(call(arguments)),
        Kind::Test(value, _, arguments) => value.height.max(call(arguments)),
    }
}
