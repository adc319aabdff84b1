//! The unified transformer, checkpoints, and one file per model family.
