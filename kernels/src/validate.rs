//! WGSL parsing and validation through naga.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use thiserror::Error;

/// WGSL that does not parse or is not valid, with naga's message and the place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct WgslError {
    /// 1-based line of the first label of the error; 1 when naga names no place.
    pub line: u32,
    /// 1-based column, in bytes.
    pub column: u32,
    /// What naga says, causes included.
    pub message: String,
}

/// Parse and validate a module.
///
/// Every capability that a kernel may need is allowed: f16, subgroups and cooperative matrices. Whether an
/// adapter has them is a question for the device that loads the module.
pub fn validate(source: &str) -> Result<naga::Module, WgslError> {
    validated(source).map(|(module, _)| module)
}

/// The module with what the validator found out, which naga's back ends need.
pub(crate) fn validated(source: &str) -> Result<(naga::Module, naga::valid::ModuleInfo), WgslError> {
    let at = |location: Option<naga::SourceLocation>, message: String| WgslError {
        line: location.map_or(1, |l| l.line_number),
        column: location.map_or(1, |l| l.line_position),
        message,
    };
    let module =
        naga::front::wgsl::parse_str(source).map_err(|e| at(e.location(source), e.message().to_string()))?;
    let info =
        Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).map_err(|e| {
            let mut message = e.as_inner().to_string();
            let mut cause = std::error::Error::source(e.as_inner());
            while let Some(inner) = cause {
                message = format!("{message}: {inner}");
                cause = inner.source();
            }
            at(e.location(source), message)
        })?;
    Ok((module, info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_line_and_column() {
        let parse = validate("fn main() {\n    let x = ;\n}").unwrap_err();
        assert_eq!((parse.line, parse.column), (2, 13), "{parse}");
        let unknown = validate("fn main() {\n  let x = nothing;\n}").unwrap_err();
        assert_eq!(unknown.line, 2);
        assert!(unknown.message.contains("nothing"), "{unknown}");
        let invalid = validate("@compute @workgroup_size(0)\nfn main() {}").unwrap_err();
        assert!(!invalid.message.is_empty());
        assert!(validate("@compute @workgroup_size(1)\nfn main() {}").is_ok());
    }
}
