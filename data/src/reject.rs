//! Why a sample is left out.

use percept_modalities::Error as MediaError;
use serde::Serialize;

use crate::error::Error;
use crate::format::Fault;

/// Why a sample is left out of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// A word or two that rejects are counted under, such as `too-small`.
    pub reason: &'static str,
    /// What was wrong with this sample.
    pub detail: String,
}

impl Reject {
    /// A reject for a reason, with what was found.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// A medium that does not decode or is larger than its cap.
    pub(crate) fn medium(at: usize, error: &MediaError) -> Self {
        let reason = match error {
            MediaError::TooLarge { .. } => "too-large",
            _ => "damaged",
        };
        Self::new(reason, format!("medium {at}: {error}"))
    }

    /// What a reader says of one sample or of the rest of a file.
    pub(crate) fn read(error: &Error) -> Self {
        match error {
            Error::Sample { fault, .. } => Self::fault(fault),
            Error::Shard { .. } => Self::new("damaged-file", error.to_string()),
            Error::Config(_) => Self::new("settings", error.to_string()),
            _ => Self::new("unreadable", error.to_string()),
        }
    }

    pub(crate) fn fault(fault: &Fault) -> Self {
        let reason = match fault {
            Fault::NotUtf8 { .. } => "not-utf8",
            Fault::Name { .. } => "unsafe-name",
            Fault::Json { .. } => "malformed",
            Fault::TooLarge { .. } => "too-large",
            Fault::Twice { .. } => "malformed",
            Fault::Refused(reject) => return reject.clone(),
        };
        Self::new(reason, fault.to_string())
    }
}
