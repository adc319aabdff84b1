//! Checkpoints, processors and native values as other software has them. One program, so that the crate and what it needs are linked once.

mod checkpoint;
mod native;
mod processors;
mod rope;
mod seeds;
mod unread;
