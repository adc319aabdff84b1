//! The device contract, its adapters, fallback and the conformance ladder.
