//! CTranslate2's `model.bin` of a Whisper model, the form that faster-whisper's users have.
//!
//! The container is a list of variables, each a name, a shape, a type and its values in place, then a list of
//! aliases (`Model::load` in CTranslate2's src/models/model.cc).

mod whisper;

use std::collections::BTreeMap;
use std::sync::Arc;

use percept_graph::DType;

use super::error::{Result, damaged, unsupported};
use super::source::{Fields, Source, Span};
use super::tensor::Form;
pub(crate) use whisper::{generation_config, translate};

/// One variable as it lies in the file.
#[derive(Clone)]
pub(crate) struct Variable {
    dims: Vec<usize>,
    kind: Kind,
    span: Span,
}

/// The element types that CTranslate2 writes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    F32,
    I8,
    I16,
    I32,
    F16,
    BF16,
}

impl Kind {
    fn parse(fields: &mut Fields, name: &str) -> Result<Kind> {
        Ok(match fields.u8("a variable's type")? {
            0 => Kind::F32,
            1 => Kind::I8,
            2 => Kind::I16,
            3 => Kind::I32,
            4 => Kind::F16,
            5 => Kind::BF16,
            n => {
                return Err(damaged(
                    fields.path(),
                    format!("variable '{name}' is of type {n}, 0 to 5 exist"),
                ));
            }
        })
    }

    fn bytes(self) -> usize {
        match self {
            Kind::I8 => 1,
            Kind::I16 | Kind::F16 | Kind::BF16 => 2,
            Kind::F32 | Kind::I32 => 4,
        }
    }

    /// The form of a variable that needs no scales.
    fn form(self) -> Form {
        match self {
            Kind::F32 => Form::Graph(DType::F32),
            Kind::F16 => Form::Graph(DType::F16),
            Kind::BF16 => Form::Graph(DType::BF16),
            Kind::I32 => Form::Graph(DType::I32),
            Kind::I8 | Kind::I16 => Form::Integer { bytes: self.bytes(), signed: true },
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Kind::F32 | Kind::F16 | Kind::BF16)
    }
}

/// A `model.bin`, checked.
pub(crate) struct ModelBin {
    source: Arc<Source>,
    variables: BTreeMap<String, Variable>,
}

impl ModelBin {
    /// Read and check a file.
    pub fn parse(source: &Arc<Source>) -> Result<ModelBin> {
        let path = source.path();
        let mut fields = Fields::new(source);
        let version = fields.u32("the version")?;
        if !(4..=6).contains(&version) {
            let why = format!(
                "CTranslate2 binary version {version}; versions 4 to 6 are read, convert the model again"
            );
            return Err(unsupported(path, why));
        }
        let spec = text(&mut fields, "the name of the model's kind")?;
        if spec != "WhisperSpec" {
            return Err(unsupported(
                path,
                format!("a CTranslate2 model of kind '{spec}'; only WhisperSpec is read"),
            ));
        }
        let revision = fields.u32("the revision")?;
        if revision != 3 {
            let why =
                format!("revision {revision} of WhisperSpec; revision 3 is read, convert the model again");
            return Err(unsupported(path, why));
        }
        let mut variables = BTreeMap::new();
        let count = fields.u32("the number of variables")?;
        // A name's length and end, a rank, a type and a byte count.
        for _ in 0..fields.bounded(count.into(), 2 + 1 + 1 + 1 + 4, "variables")? {
            let name = text(&mut fields, "a variable's name")?.to_string();
            let variable = Variable::parse(source, &mut fields, &name)?;
            if variables.insert(name.clone(), variable).is_some() {
                return Err(damaged(path, format!("variable '{name}' is there twice")));
            }
        }
        let count = fields.u32("the number of aliases")?;
        let mut aliases = Vec::new();
        for _ in 0..fields.bounded(count.into(), 2 + 1 + 2 + 1, "aliases")? {
            let alias = text(&mut fields, "an alias")?.to_string();
            let of = text(&mut fields, "an alias' variable")?;
            let Some(variable) = variables.get(of) else {
                return Err(damaged(path, format!("alias '{alias}' stands for '{of}', which is not there")));
            };
            aliases.push((alias, variable.clone()));
        }
        for (alias, variable) in aliases {
            if variables.insert(alias.clone(), variable).is_some() {
                return Err(damaged(path, format!("alias '{alias}' is a variable too")));
            }
        }
        if fields.left() > 0 {
            return Err(damaged(path, format!("{} bytes follow the last alias", fields.left())));
        }
        Ok(ModelBin { source: source.clone(), variables })
    }
}

impl Variable {
    fn parse(source: &Arc<Source>, fields: &mut Fields, name: &str) -> Result<Variable> {
        let rank = fields.u8("a variable's rank")?;
        let dims: Vec<usize> =
            (0..rank).map(|_| fields.u32("an extent").map(|d| d as usize)).collect::<Result<_>>()?;
        let kind = Kind::parse(fields, name)?;
        let bytes = fields.u32("a variable's bytes")? as usize;
        let expected = dims.iter().try_fold(kind.bytes(), |n, &d| n.checked_mul(d));
        if expected != Some(bytes) {
            return Err(damaged(
                fields.path(),
                format!("variable '{name}' {dims:?} cannot be {bytes} bytes"),
            ));
        }
        let start = fields.position();
        fields.take(bytes as u64, &format!("the values of '{name}'"))?;
        Ok(Variable { dims, kind, span: source.span(start..start + bytes, name)? })
    }
}

/// A text: two bytes of length, which counts the zero at its end.
fn text<'a>(fields: &mut Fields<'a>, what: &str) -> Result<&'a str> {
    let length = fields.u16(&format!("the length of {what}"))?;
    let text = fields.text(length.into(), what)?;
    text.strip_suffix('\0')
        .ok_or_else(|| damaged(fields.path(), format!("{what} '{text}' does not end in a zero byte")))
}
