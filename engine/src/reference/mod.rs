//! The reference backend: plain loops, the definition of correct.
