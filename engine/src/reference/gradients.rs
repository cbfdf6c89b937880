//! Finite differences of every backward of the reference.
