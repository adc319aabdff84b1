//! Which operators the emitter may use.

use std::fmt;
use std::str::FromStr;

/// The newest operator set of ONNX that the emitter knows.
pub const NEWEST_OPSET: i64 = 26;
/// The oldest operator set that it writes.
pub const OLDEST_OPSET: i64 = 17;

/// A family of operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Single functions alone: what offline compilers of small chips take.
    Plain,
    /// Whole functions of newer ONNX too: RMSNormalization, RotaryEmbedding, Gelu.
    Fused,
    /// Those, and operators of ONNX Runtime: MatMulNBits for quantized weights.
    Microsoft,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Style {
    /// The operators.
    pub family: Family,
    /// The operator set, [`OLDEST_OPSET`] to [`NEWEST_OPSET`].
    pub opset: i64,
}

/// A style that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStyle {
    /// No family has this name.
    #[error("unknown style '{0}'; known: plain, fused, microsoft")]
    Family(String),
    /// The operator set is too old or too new for the family.
    #[error("style {family} is written in operator sets {oldest} to {NEWEST_OPSET}, not in {opset}")]
    Opset {
        /// The family.
        family: Family,
        /// The oldest that it can be written in.
        oldest: i64,
        /// What was asked for.
        opset: i64,
    },
}

impl Family {
    /// The oldest operator set that has the family's operators.
    pub const fn oldest_opset(self) -> i64 {
        match self {
            Family::Plain => OLDEST_OPSET,
            Family::Fused | Family::Microsoft => 23,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Plain => "plain",
            Family::Fused => "fused",
            Family::Microsoft => "microsoft",
        })
    }
}

impl FromStr for Family {
    type Err = BadStyle;

    fn from_str(s: &str) -> Result<Self, BadStyle> {
        let all = [Family::Plain, Family::Fused, Family::Microsoft];
        all.into_iter().find(|f| f.to_string() == s).ok_or_else(|| BadStyle::Family(s.into()))
    }
}

impl Style {
    /// A family in an operator set; without one in the family's oldest.
    ///
    /// # Errors
    /// When the family cannot be written in that operator set.
    pub fn new(family: Family, opset: Option<i64>) -> Result<Self, BadStyle> {
        let oldest = family.oldest_opset();
        let opset = opset.unwrap_or(oldest);
        if opset < oldest || opset > NEWEST_OPSET {
            return Err(BadStyle::Opset { family, oldest, opset });
        }
        Ok(Self { family, opset })
    }

    /// What ONNX Runtime's own processor provider runs.
    pub const fn runtime() -> Self {
        Self { family: Family::Microsoft, opset: NEWEST_OPSET }
    }

    /// Whole functions may be written as one operator.
    pub(crate) fn is_fused(self) -> bool {
        self.family != Family::Plain
    }

    /// Operators of ONNX Runtime may be used.
    pub(crate) fn is_microsoft(self) -> bool {
        self.family == Family::Microsoft
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_have_the_operator_sets_that_hold_them() {
        assert_eq!(Style::new(Family::Plain, None).unwrap().opset, 17);
        assert_eq!(Style::new(Family::Fused, Some(25)).unwrap().opset, 25);
        let e = Style::new(Family::Fused, Some(17)).unwrap_err().to_string();
        assert!(e.contains("fused") && e.contains("23 to 26") && e.contains("17"), "{e}");
        assert!(Style::new(Family::Plain, Some(99)).is_err());
        let e = "fancy".parse::<Family>().unwrap_err().to_string();
        assert!(e.contains("fancy") && e.contains("microsoft"), "{e}");
    }
}
