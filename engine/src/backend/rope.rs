//! Rotary positions.
use crate::buffer::Buffer;
use crate::error::Result;

/// What is turned, and by which angles.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// [t, heads, e]
    pub x: &'a Buffer,
    /// [positions, rotary]: cosines of the r/2 angles, then sines.
    pub cos_sin: &'a Buffer,
    /// u32 [t]
    pub positions: &'a Buffer,
    /// Tokens.
    pub t: usize,
    /// Heads of a token.
    pub heads: usize,
    /// Entries of a head.
    pub e: usize,
    /// r, how many of them are turned: the first ones.
    pub rotary: usize,
    /// Turns back: the backward.
    pub inverse: bool,
}

/// Rotary position embedding.
pub trait Rotary {
    /// Rotates pairs (i, i + r/2) of the first r = rotary entries of each head: [t, heads, e].
    fn rope(&self, rotation: Rotation<'_>) -> Result<Buffer>;
}
