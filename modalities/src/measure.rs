//! How long a file says it is, and how long it is.

use crate::libav::Faults;

/// The length of audio or of a video, as declared and as decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Length {
    /// Seconds that the file states, where it does: neither an estimate from its size nor the mark of a
    /// stream of unknown length.
    pub declared: Option<f64>,
    /// Seconds that decoded: of a video until the end of its last frame.
    pub seconds: f64,
    /// How many errors the decoder reported. Stray bytes between the packets of an audio file may be among
    /// it, so that a few do not make a file useless.
    pub faults: usize,
    /// The first error that the decoder reported.
    pub fault: Option<String>,
}

/// Seconds, and the share of the declared length, that may be missing: encoders pad, and containers round.
const SLACK: (f64, f64) = (0.1, 0.005);

impl Length {
    pub(crate) fn new(declared: Option<f64>, seconds: f64, faults: Faults) -> Self {
        Self { declared, seconds, faults: faults.count, fault: faults.first }
    }

    /// Why the file is cut off or damaged in its middle, if it is: it declares more than it holds, beyond a
    /// tenth of a second and half a percent. A file that declares less than it holds is whole.
    pub fn shortfall(&self) -> Option<String> {
        let declared = self.declared?;
        let missing = declared - self.seconds;
        (missing > SLACK.0 + SLACK.1 * declared).then(|| {
            let fault = self.fault.as_ref().map_or(String::new(), |fault| format!(" ({fault})"));
            format!("it declares {declared:.2} seconds and holds {:.2}{fault}", self.seconds)
        })
    }
}
