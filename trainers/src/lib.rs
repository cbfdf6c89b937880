//! Data sets, losses, training loops and the program.
pub mod cli;
pub mod learner;
pub mod losses;
