//! From tokens to a tree: statements.

mod expression;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::ast::{Action, Expr, Kind, Loop, Macro, Name, Statement, Target};
use super::fault::{Class, Fault, Result, fault};
use super::lex::{Piece, Token, syntax, tokens};

/// Levels of statements and expressions within one another. Python's own compiler ends at a hundred levels of
/// indentation and two hundred of parentheses.
const DEEPEST: u32 = 200;

/// A parsed template: its statements, and the names that it mentions by number.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) body: Vec<Statement>,
    pub(super) names: Vec<String>,
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Tree> {
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        names: Vec::new(),
        numbers: HashMap::new(),
        depth: 0,
        soft: false,
        loops: 0,
        within: 0,
        loads: vec![BTreeSet::new()],
        blocks: BTreeSet::new(),
        refused: None,
    };
    let body = parser.body(&[])?;
    match parser.refused {
        Some(refused) => Err(refused),
        None => Ok(Tree { body, names: parser.names }),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    names: Vec<String>,
    numbers: HashMap<String, Name>,
    depth: u32,
    /// Within an `if`, where filters that do not exist fail only when they are used.
    soft: bool,
    /// Loops around this place, up to the macro or block.
    loops: u32,
    /// All loops around this place, none of which may assign to `loop`.
    within: u32,
    /// `caller`, `kwargs` and `varargs` as the macros around this place read them.
    loads: Vec<BTreeSet<&'static str>>,
    blocks: BTreeSet<String>,
    /// What Jinja would refuse once all is parsed.
    refused: Option<Box<Fault>>,
}

impl Parser {
    fn piece(&self) -> &Piece {
        &self.tokens[self.at].piece
    }

    fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    fn look(&self) -> &Piece {
        let next = (self.at + 1).min(self.tokens.len() - 1);
        &self.tokens[next].piece
    }

    fn skip(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.piece(), Piece::Op(o) if *o == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.piece(), Piece::Name(n) if n == name)
    }

    fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        if found {
            self.skip();
        }
        found
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.skip();
        }
        found
    }

    fn unexpected(&self, wanted: &str) -> Box<Fault> {
        let found = match self.piece() {
            Piece::Data(_) => "template data".to_owned(),
            Piece::PrintBegin => "begin of print statement".to_owned(),
            Piece::PrintEnd => "end of print statement".to_owned(),
            Piece::BlockBegin => "begin of statement block".to_owned(),
            Piece::BlockEnd => "end of statement block".to_owned(),
            Piece::Name(name) => name.clone(),
            Piece::Str(text) => text.clone(),
            Piece::Int(_) => "integer".to_owned(),
            Piece::Float(_) => "float".to_owned(),
            Piece::Op(op) => (*op).to_owned(),
            Piece::End => "end of template".to_owned(),
        };
        let message = match (self.piece(), wanted) {
            (Piece::End, wanted) if !wanted.is_empty() => {
                format!("unexpected end of template, expected '{wanted}'.")
            }
            (_, "") => format!("unexpected '{found}'"),
            _ => format!("expected token '{wanted}', got '{found}'"),
        };
        syntax(message, self.line())
    }

    fn expect_op(&mut self, op: &str) -> Result<()> {
        if self.take_op(op) { Ok(()) } else { Err(self.unexpected(op)) }
    }

    fn expect_name(&mut self) -> Result<String> {
        match self.piece() {
            Piece::Name(name) => {
                let name = name.clone();
                self.skip();
                Ok(name)
            }
            _ => Err(self.unexpected("name")),
        }
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_name(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    fn expect(&mut self, piece: Piece, what: &str) -> Result<()> {
        if *self.piece() == piece {
            self.skip();
            return Ok(());
        }
        Err(self.unexpected(what))
    }

    /// The number of a name.
    fn number(&mut self, name: &str) -> Name {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as Name;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// Remembers what Jinja's compiler refuses after parsing; a fault of syntax further on comes first.
    fn refuse(&mut self, class: Class, message: String, line: u32) {
        if self.refused.is_none() {
            let mut fault = fault(class, message);
            fault.line = Some(line);
            self.refused = Some(fault);
        }
    }

    /// One level deeper, refused where there are too many.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(syntax("the template is nested too deeply", self.line()));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Statements up to one of the end tags, which stays the current token; with none, up to the template's
    /// end.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            let line = self.line();
            match self.piece() {
                Piece::Data(text) => {
                    statements.push(Statement { kind: Action::Text(text.clone()), line });
                    self.skip();
                }
                Piece::PrintBegin => {
                    self.skip();
                    let expr = self.tuple(true, &[])?;
                    self.expect(Piece::PrintEnd, "end of print statement")?;
                    statements.push(Statement { kind: Action::Print(expr), line });
                }
                Piece::BlockBegin => {
                    self.skip();
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(statements);
                    }
                    let line = self.line();
                    let actions = self.deeper(Self::statement)?;
                    self.expect(Piece::BlockEnd, "end of statement block")?;
                    statements.extend(actions.into_iter().map(|kind| Statement { kind, line }));
                }
                Piece::End if ends.is_empty() => return Ok(statements),
                Piece::End => {
                    let ends = ends.iter().map(|end| format!("'{end}'")).collect::<Vec<_>>().join(" or ");
                    let why = format!(
                        "Unexpected end of template. Jinja was looking for the following tags: {ends}."
                    );
                    return Err(syntax(why, line));
                }
                _ => return Err(self.unexpected("")),
            }
        }
    }

    /// The statements of a tag up to one of its ends.
    fn block(&mut self, ends: &[&str]) -> Result<Vec<Statement>> {
        self.take_op(":");
        self.expect(Piece::BlockEnd, "end of statement block")?;
        self.body(ends)
    }

    /// As [`Parser::block`] with one end, which is consumed.
    fn block_to(&mut self, end: &str) -> Result<Vec<Statement>> {
        let body = self.block(&[end])?;
        self.skip();
        Ok(body)
    }

    /// Parses what has a scope, and in Python a frame, of its own.
    fn scope<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let soft = std::mem::replace(&mut self.soft, false);
        let parsed = parse(self);
        self.soft = soft;
        parsed
    }

    /// As [`Parser::scope`], for what is a Python function: loops around it cannot be left from within.
    fn function<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let loops = std::mem::replace(&mut self.loops, 0);
        let parsed = self.scope(parse);
        self.loops = loops;
        parsed
    }

    fn statement(&mut self) -> Result<Vec<Action>> {
        let line = self.line();
        let Piece::Name(tag) = self.piece() else { return Err(syntax("tag name expected", line)) };
        let tag = tag.clone();
        self.skip();
        Ok(vec![match tag.as_str() {
            "for" => self.parse_for()?,
            "if" => self.parse_if()?,
            "set" => self.parse_set()?,
            "with" => self.parse_with()?,
            "macro" => {
                let name = self.expect_name()?;
                let number = self.number(&name);
                let node = self.parse_macro(Some(name), "endmacro", line)?;
                Action::Macro(number, Arc::new(node))
            }
            "call" => self.parse_call(line)?,
            "filter" => {
                let filter = self.scope(|p| p.filter(None, true))?;
                let Some(filter) = filter else { return Err(self.unexpected("name")) };
                Action::Filter(filter, self.scope(|p| p.block_to("endfilter"))?)
            }
            "print" => {
                let mut printed = Vec::new();
                while *self.piece() != Piece::BlockEnd {
                    if !printed.is_empty() {
                        self.expect_op(",")?;
                    }
                    printed.push(Action::Print(self.expression()?));
                }
                return Ok(printed);
            }
            "block" => self.parse_block(line)?,
            "autoescape" => {
                let on = self.expression()?;
                Action::Autoescape(on, self.scope(|p| p.block_to("endautoescape"))?)
            }
            "generation" => Action::Generation(self.function(|p| p.block_to("endgeneration"))?),
            "include" | "import" | "from" | "extends" => {
                let what = self.expression()?;
                while *self.piece() != Piece::BlockEnd && *self.piece() != Piece::End {
                    self.skip();
                }
                Action::Load(what)
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    let why = format!("'{tag}' outside loop");
                    self.refuse(Class::Syntax, why, line);
                }
                if tag == "break" { Action::Break } else { Action::Continue }
            }
            other => return Err(syntax(format!("Encountered unknown tag '{other}'."), line)),
        }])
    }

    fn parse_for(&mut self) -> Result<Action> {
        self.within += 1;
        let target = self.target(&["in"], false)?;
        self.expect_word("in")?;
        let over = self.tuple(false, &["recursive"])?;
        let (test, recursive) = self.scope(|p| {
            let test = if p.take_name("if") { Some(p.expression()?) } else { None };
            Ok((test, p.take_name("recursive")))
        })?;
        let loops = if recursive { std::mem::replace(&mut self.loops, 0) } else { self.loops };
        self.loops += 1;
        let body = self.scope(|p| p.block(&["endfor", "else"]))?;
        self.loops -= 1;
        let otherwise = self.is_name("else");
        self.skip();
        let otherwise = if otherwise { self.scope(|p| p.block_to("endfor"))? } else { Vec::new() };
        self.loops = loops;
        self.within -= 1;
        Ok(Action::For(Arc::new(Loop { target, over, test, recursive, body, otherwise })))
    }

    fn parse_if(&mut self) -> Result<Action> {
        let soft = std::mem::replace(&mut self.soft, true);
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false, &[])?;
            let body = self.block(&["elif", "else", "endif"])?;
            branches.push((test, body));
            if self.take_name("elif") {
                continue;
            }
            let more = self.is_name("else");
            self.skip();
            let otherwise = if more { self.block_to("endif")? } else { Vec::new() };
            self.soft = soft;
            return Ok(Action::If(branches, otherwise));
        }
    }

    fn parse_set(&mut self) -> Result<Action> {
        let target = self.target(&[], true)?;
        if self.take_op("=") {
            return Ok(Action::Set(target, self.tuple(true, &[])?));
        }
        self.scope(|p| {
            let filter = p.filter(None, false)?;
            Ok(Action::SetBlock { target, filter, body: p.block_to("endset")? })
        })
    }

    fn parse_with(&mut self) -> Result<Action> {
        let mut values = Vec::new();
        while *self.piece() != Piece::BlockEnd {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(&[], false)?;
            self.expect_op("=")?;
            values.push((target, self.expression()?));
        }
        Ok(Action::With(values, self.scope(|p| p.block_to("endwith"))?))
    }

    fn parse_block(&mut self, line: u32) -> Result<Action> {
        let name = self.expect_name()?;
        let scoped = self.take_name("scoped");
        self.take_name("required");
        if self.is_op("-") {
            return Err(syntax("Block names may not contain hyphens, use an underscore instead.", line));
        }
        let body = self.function(|p| p.block_to("endblock"))?;
        self.take_name(&name);
        if !self.blocks.insert(name.clone()) {
            self.refuse(Class::TemplateAssertion, format!("block '{name}' defined twice"), line);
        }
        Ok(Action::Block { scoped, body })
    }

    fn parse_call(&mut self, line: u32) -> Result<Action> {
        let (parameters, defaults) =
            if self.is_op("(") { self.signature()? } else { (Vec::new(), Vec::new()) };
        let call = self.expression()?;
        if !matches!(call.kind, Kind::Call(..)) {
            return Err(syntax("expected call", line));
        }
        let node = self.macro_body(None, parameters, defaults, "endcall", line)?;
        Ok(Action::Call(call, Arc::new(node)))
    }

    fn parse_macro(&mut self, name: Option<String>, end: &str, line: u32) -> Result<Macro> {
        let (parameters, defaults) = self.signature()?;
        self.macro_body(name, parameters, defaults, end, line)
    }

    fn macro_body(
        &mut self,
        name: Option<String>,
        parameters: Vec<(Name, String)>,
        defaults: Vec<Expr>,
        end: &str,
        line: u32,
    ) -> Result<Macro> {
        self.loads.push(BTreeSet::new());
        let body = self.function(|p| p.block_to(end))?;
        let loads = self.loads.pop().unwrap_or_default();
        if let Some(outer) = self.loads.last_mut() {
            outer.extend(&loads);
        }
        let mut read = |special: &'static str| {
            let explicit = parameters.iter().any(|(_, name)| name == special);
            (loads.contains(special) && !explicit).then(|| self.number(special))
        };
        let (caller, kwargs, varargs) = (read("caller"), read("kwargs"), read("varargs"));
        let required = &parameters[..parameters.len() - defaults.len()];
        if loads.contains("caller") && required.iter().any(|(_, name)| name == "caller") {
            let why = "When defining macros or call blocks the special \"caller\" argument must be omitted or be \
                       given a default.";
            self.refuse(Class::TemplateAssertion, why.to_owned(), line);
        }
        Ok(Macro { name, parameters, defaults, body, caller, kwargs, varargs })
    }

    fn signature(&mut self) -> Result<(Vec<(Name, String)>, Vec<Expr>)> {
        let (mut parameters, mut defaults) = (Vec::new(), Vec::new());
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name()?;
            if constant(&name) {
                return Err(syntax(format!("can't assign to '{name}'"), self.line()));
            }
            if self.take_op("=") {
                defaults.push(self.expression()?);
            } else if !defaults.is_empty() {
                return Err(syntax("non-default argument follows default argument", self.line()));
            }
            parameters.push((self.number(&name), name));
        }
        self.skip();
        Ok((parameters, defaults))
    }

    /// What is assigned to, up to one of the words.
    fn target(&mut self, ends: &[&str], namespaces: bool) -> Result<Target> {
        let line = self.line();
        let mut targets = Vec::new();
        let mut tuple = false;
        loop {
            if !targets.is_empty() {
                self.expect_op(",")?;
            }
            if self.tuple_ends(ends) {
                break;
            }
            targets.push(self.deeper(|p| p.one_target(namespaces))?);
            if !self.is_op(",") {
                break;
            }
            tuple = true;
        }
        match (targets.pop(), tuple) {
            (Some(only), false) => Ok(only),
            (None, _) => Err(syntax("Expected an expression", line)),
            (Some(last), true) => {
                targets.push(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn one_target(&mut self, namespaces: bool) -> Result<Target> {
        if self.take_op("(") {
            let inner = self.target(&[], false)?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let line = self.line();
        let refused = |what: &str| Err(syntax(format!("can't assign to '{what}'"), line));
        match self.piece().clone() {
            Piece::Name(name) if constant(&name) => refused("const"),
            Piece::Name(name) => {
                self.skip();
                if name == "loop" && self.within > 0 {
                    let why = "Can't assign to special loop variable in for-loop target".to_owned();
                    self.refuse(Class::TemplateAssertion, why, line);
                }
                let number = self.number(&name);
                if namespaces && self.take_op(".") {
                    return Ok(Target::Attribute(number, self.expect_name()?));
                }
                Ok(Target::Name(number))
            }
            Piece::Str(_) | Piece::Int(_) | Piece::Float(_) => refused("const"),
            Piece::Op("[") => refused("list"),
            Piece::Op("{") => refused("dict"),
            _ => Err(self.unexpected("")),
        }
    }

    fn tuple_ends(&self, words: &[&str]) -> bool {
        matches!(self.piece(), Piece::PrintEnd | Piece::BlockEnd | Piece::Op(")"))
            || words.iter().any(|word| self.is_name(word))
    }
}

/// Words that are values, not names.
fn constant(name: &str) -> bool {
    matches!(name, "true" | "false" | "none" | "True" | "False" | "None")
}
