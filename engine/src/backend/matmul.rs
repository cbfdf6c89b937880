//! Products of matrices.
use crate::buffer::Buffer;
use crate::error::Result;

/// How the operands of a product lie in memory. C is [m, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A [m, k], B [k, n]: gradient to the input, dX = dY W.
    NN,
    /// A [m, k], B [n, k]: the forward of a linear layer, Y = X Wᵀ.
    NT,
    /// A [k, m], B [k, n]: gradient to the weight, dW = dYᵀ X.
    TN,
}

/// C ← α·op(A)·op(B) (+ C).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// How A and B lie in memory.
    pub layout: Layout,
    /// Rows of C, and of op(A).
    pub m: usize,
    /// Columns of C, and of op(B).
    pub n: usize,
    /// What is summed over: columns of op(A), rows of op(B).
    pub k: usize,
    /// α: scales the product, not the `c` it is added to.
    pub alpha: f32,
}

/// The matrix product, and weights kept in the order in which it likes to read them.
pub trait Products {
    /// Returns α·op(A)·op(B), added to `c` if given (in place when `c` has no other owner). A is f32; B is f32, f16,
    /// bf16 or quantised in layouts NN and NT (a weight; its rows are contiguous in memory), f32 in TN.
    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer>;
    /// The weight w [n, k] as this device likes to read it in `matmul`, layout NT, many times over: for generation. All
    /// that reads a weight in any type reads it as well, with the same bits; rows of it alone are slower to reach.
    fn pack_weight(&self, w: &Buffer, _n: usize, _k: usize) -> Result<Buffer> {
        Ok(w.clone())
    }
}
