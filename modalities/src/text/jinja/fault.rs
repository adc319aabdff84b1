//! What a template does wrong.

/// The exception that Python would raise, and two of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `jinja2.TemplateSyntaxError`.
    TemplateSyntax,
    /// `jinja2.TemplateAssertionError`: a filter, test or block that does not exist or exists twice.
    TemplateAssertion,
    /// `jinja2.TemplateRuntimeError`.
    TemplateRuntime,
    /// `jinja2.TemplateError`, which `raise_exception` raises.
    Template,
    /// `jinja2.UndefinedError`.
    Undefined,
    /// `jinja2.SecurityError`.
    Security,
    /// `jinja2.FilterArgumentError`.
    FilterArgument,
    /// `SyntaxError`, from Python's own compiler.
    Syntax,
    /// `TypeError`.
    Type,
    /// `ValueError`.
    Value,
    /// `KeyError`.
    Key,
    /// `IndexError`.
    Index,
    /// `AttributeError`.
    Attribute,
    /// `AssertionError`.
    Assertion,
    /// `RuntimeError`.
    Runtime,
    /// `ZeroDivisionError`.
    ZeroDivision,
    /// `OverflowError`.
    Overflow,
    /// More steps, memory or nesting than a rendering may take.
    Limit,
    /// Something that Jinja has and this engine refuses by name.
    Unsupported,
}

impl Class {
    /// The name of the exception.
    pub fn name(self) -> &'static str {
        match self {
            Class::TemplateSyntax => "TemplateSyntaxError",
            Class::TemplateAssertion => "TemplateAssertionError",
            Class::TemplateRuntime => "TemplateRuntimeError",
            Class::Template => "TemplateError",
            Class::Undefined => "UndefinedError",
            Class::Security => "SecurityError",
            Class::FilterArgument => "FilterArgumentError",
            Class::Syntax => "SyntaxError",
            Class::Type => "TypeError",
            Class::Value => "ValueError",
            Class::Key => "KeyError",
            Class::Index => "IndexError",
            Class::Attribute => "AttributeError",
            Class::Assertion => "AssertionError",
            Class::Runtime => "RuntimeError",
            Class::ZeroDivision => "ZeroDivisionError",
            Class::Overflow => "OverflowError",
            Class::Limit => "limit",
            Class::Unsupported => "not supported",
        }
    }
}

/// An error of a template: the line where it happened, the name of the exception where Python would raise
/// one, and what is wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}{message}", self.place(), self.title())]
pub struct Fault {
    /// The kind of the error.
    pub class: Class,
    /// The message of the error.
    pub message: String,
    /// The template's line, from 1.
    pub line: Option<u32>,
}

impl Fault {
    fn place(&self) -> String {
        self.line.map(|line| format!("line {line}: ")).unwrap_or_default()
    }

    fn title(&self) -> String {
        match self.class {
            Class::Template | Class::Limit | Class::Unsupported => String::new(),
            class => format!("{}: ", class.name()),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Box<Fault>>;

/// An error of a class.
pub(super) fn fault(class: Class, message: impl Into<String>) -> Box<Fault> {
    Box::new(Fault { class, message: message.into(), line: None })
}

/// `TypeError`.
pub(super) fn type_error(message: impl Into<String>) -> Box<Fault> {
    fault(Class::Type, message)
}

/// `ValueError`.
pub(super) fn value_error(message: impl Into<String>) -> Box<Fault> {
    fault(Class::Value, message)
}

/// What this engine refuses although Jinja has it.
pub(super) fn unsupported(what: impl std::fmt::Display) -> Box<Fault> {
    fault(Class::Unsupported, format!("{what} is not supported in templates here"))
}
