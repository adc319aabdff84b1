//! Video: frames picked by presentation time.

use crate::image::Image;

/// Frames sampled from a video, and where they stood in it.
#[derive(Debug, Clone)]
pub struct Clip {
    /// The sampled frames, upright.
    pub frames: Vec<Image>,
    /// Index of each sampled frame in presentation order.
    pub indices: Vec<usize>,
    /// Frames per second of the source.
    pub fps: f64,
    /// Frames of the source.
    pub total_frames: usize,
}

/// How frames are picked from a video.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// Every frame.
    All,
}
