//! Data sets, losses, training loops and the program.
pub mod cli;
