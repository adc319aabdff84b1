//! A parsed template.

use std::sync::Arc;

/// A variable's number in the template's table of names.
pub(super) type Name = u32;

/// An expression with its line and the height of its tree.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) kind: Kind,
    pub(super) line: u32,
    pub(super) height: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// Arguments of a call, a filter or a test.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) list: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    pub(super) more: Option<Box<Expr>>,
    pub(super) more_named: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(super) enum Kind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `then if test else otherwise`.
    If {
        test: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
    Or(Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Attribute(Box<Expr>, String),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Arguments),
    /// The value is absent at the head of a filter block.
    Filter(Option<Box<Expr>>, String, Arguments),
    Test(Box<Expr>, String, Arguments),
}

impl Expr {
    /// Whether the expression is made of literals alone.
    pub(super) fn is_constant(&self) -> bool {
        let all = |exprs: &[Expr]| exprs.iter().all(Expr::is_constant);
        match &self.kind {
            Kind::None | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_) => true,
            Kind::List(items) | Kind::Tuple(items) | Kind::Concat(items) => all(items),
            Kind::Dict(items) => items.iter().all(|(k, v)| k.is_constant() && v.is_constant()),
            Kind::Not(a) | Kind::Neg(a) | Kind::Pos(a) => a.is_constant(),
            Kind::Binary(_, a, b) | Kind::Item(a, b) => a.is_constant() && b.is_constant(),
            Kind::Slice(of, parts) => {
                of.is_constant() && parts.iter().flatten().all(|part| part.is_constant())
            }
            Kind::Filter(Some(value), _, arguments) => {
                let plain = arguments.more.is_none() && arguments.more_named.is_none();
                value.is_constant() && plain && all(&arguments.list) && arguments.named.is_empty()
            }
            _ => false,
        }
    }
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    /// An attribute of a namespace.
    Attribute(Name, String),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Loop {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) test: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Statement>,
    pub(super) otherwise: Vec<Statement>,
}

/// A macro, or the body of a call block.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Option<String>,
    pub(super) parameters: Vec<(Name, String)>,
    /// Of the last parameters.
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Statement>,
    /// Numbers of `caller`, `kwargs` and `varargs` where the body reads them.
    pub(super) caller: Option<Name>,
    pub(super) kwargs: Option<Name>,
    pub(super) varargs: Option<Name>,
}

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) kind: Action,
    pub(super) line: u32,
}

#[derive(Debug)]
pub(super) enum Action {
    Text(String),
    Print(Expr),
    Set(Target, Expr),
    SetBlock {
        target: Target,
        filter: Option<Expr>,
        body: Vec<Statement>,
    },
    If(Vec<(Expr, Vec<Statement>)>, Vec<Statement>),
    For(Arc<Loop>),
    With(Vec<(Target, Expr)>, Vec<Statement>),
    Macro(Name, Arc<Macro>),
    /// A call whose `caller` is the body.
    Call(Expr, Arc<Macro>),
    Filter(Expr, Vec<Statement>),
    /// Its own scope; a block is one on top of the template's own variables unless it is `scoped`.
    Block {
        scoped: bool,
        body: Vec<Statement>,
    },
    /// The body of `{% generation %}`, a scope of its own.
    Generation(Vec<Statement>),
    Autoescape(Expr, Vec<Statement>),
    /// `include`, `import` and `extends`: there is nothing to load.
    Load(Expr),
    Break,
    Continue,
}
