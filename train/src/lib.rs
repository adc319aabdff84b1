//! Training: one TOML file is a run.
