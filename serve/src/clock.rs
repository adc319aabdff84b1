//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The time as RFC 3339 writes it, in UTC.
pub(crate) fn timestamp() -> String {
    jiff::Timestamp::now().to_string()
}
