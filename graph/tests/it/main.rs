//! The graph crate from outside: decompositions, gradients and passes. One program, so that the crate and what it needs are linked once.

mod autodiff;
mod decompositions;
mod golden;
mod gradient_passes;
mod gradients;
mod recurrent;
