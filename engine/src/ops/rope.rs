//! Rotary position embedding. J. Su et al., "RoFormer", 2021, equation 34; pairs (i, i + r/2) as Hugging Face stores them.
//!
//! ```text
//! (x_i, x_{i+r/2}) → (x_i cos θ − x_{i+r/2} sin θ,  x_{i+r/2} cos θ + x_i sin θ),   θ = position · f_i
//! ```
use super::beside;
use crate::backend::{Device, Rotation};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};
use crate::portable::sin_cos;
use crate::tape::record1;
use crate::tensor::Tensor;

/// Cosines and sines of all positions: [positions, r], r/2 cosines, then r/2 sines.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// The table itself, on the device that reads it.
    pub cos_sin: Tensor,
    /// r: the first r entries of a head are rotated, the others pass; even.
    pub rotary: usize,
}

impl RopeTable {
    /// `inverse_frequencies` f_i: [r/2]. Angles are rounded to f32 as in transformers, cosines taken in f64.
    pub fn new(device: &Device, inverse_frequencies: &[f32], n_positions: usize) -> Result<Self> {
        let half = inverse_frequencies.len();
        let mut table = Vec::with_capacity(n_positions * 2 * half);
        for position in 0..n_positions {
            let turns = inverse_frequencies.iter().map(|f| sin_cos(f64::from(position as f32 * f)));
            table.extend(turns.clone().map(|(_, cosine)| cosine as f32));
            table.extend(turns.map(|(sine, _)| sine as f32));
        }
        let cos_sin = Tensor::new(device, Host::F32(table), &[n_positions, 2 * half])?;
        Ok(RopeTable { cos_sin, rotary: 2 * half })
    }
}

/// x [T, heads, E] rotated by each row's position (u32 [T] on the device, all below the table's length).
pub fn rope(x: &Tensor, table: &RopeTable, positions: &Buffer) -> Result<Tensor> {
    let &[t, heads, e] = x.shape() else {
        return Err(Error::shape("rope", format!("[T, heads, E] needed, {:?} found", x.shape())));
    };
    if table.rotary > e {
        return Err(Error::shape("rope", format!("{} rotary entries in heads of {e}", table.rotary)));
    }
    let y = x.device().rope(Rotation {
        x: x.buffer(),
        cos_sin: table.cos_sin.buffer(),
        positions,
        t,
        heads,
        e,
        rotary: table.rotary,
        inverse: false,
    })?;
    let (table, positions) = (table.clone(), positions.clone());
    // y = R(θ) x  ⟹  dx = R(θ)ᵀ dy = R(−θ) dy
    record1("rope", &[x], beside(x, y, x.shape()), move |dy| {
        let dx = dy.device().rope(Rotation {
            x: dy.buffer(),
            cos_sin: table.cos_sin.buffer(),
            positions: &positions,
            t,
            heads,
            e,
            rotary: table.rotary,
            inverse: true,
        })?;
        Ok(vec![Some(beside(&dy, dx, &[t, heads, e]))])
    })
}
