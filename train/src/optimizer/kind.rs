//! An optimizer by its name, as a run's file has it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ALL, Optimizer, REST, find};

/// Which optimizer a parameter has: one of the table, by its name.
#[derive(Clone, Copy)]
pub struct OptimizerKind(&'static dyn Optimizer);

impl OptimizerKind {
    /// The optimizer of this name; `None` where there is none.
    pub fn of(name: &str) -> Option<Self> {
        find(name).map(Self)
    }

    /// The name by which settings choose it.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The names of all, in the order of the table.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|o| o.name())
    }

    pub(crate) fn optimizer(self) -> &'static dyn Optimizer {
        self.0
    }
}

/// What has the parameters that no other optimizer is asked for: AdamW.
impl Default for OptimizerKind {
    fn default() -> Self {
        Self(REST)
    }
}

impl fmt::Debug for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for OptimizerKind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Serialize for OptimizerKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for OptimizerKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        Self::of(&name).ok_or_else(|| {
            let known: Vec<String> = Self::names().map(|n| format!("`{n}`")).collect();
            D::Error::custom(format!("unknown optimizer `{name}`, expected one of {}", known.join(", ")))
        })
    }
}
