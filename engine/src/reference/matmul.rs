//! The matrix product in its three layouts.
use super::Reference;
use super::check::{decode, size, values, values_mut};
use crate::backend::{Layout, Product, Products};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};

impl Products for Reference {
    /// C[i, j] ← α Σₗ op(A)[i, l] op(B)[l, j] (+ C[i, j]), where
    ///
    /// ```text
    /// NN: A [m, k], B [k, n]    NT: A [m, k], B [n, k]    TN: A [k, m], B [k, n]
    /// ```
    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        let Product { layout, m, n, k, alpha } = p;
        if layout == Layout::TN && b.dtype() != DType::F32 {
            return Err(Error::shape("matmul", format!("B is {}; layout TN takes float32 only", b.dtype().name())));
        }
        let a = values("matmul", "A", a, size("matmul", &[m, k])?)?;
        let row_length = if layout == Layout::NT { k } else { n };
        if let DType::Quant(quant) = b.dtype()
            && !row_length.is_multiple_of(quant.block_len())
        {
            let detail =
                format!("rows of B have {row_length} elements, no whole number of {} blocks", b.dtype().name());
            return Err(Error::shape("matmul", detail));
        }
        let b = decode("matmul", "B", b, 0, size("matmul", &[k, n])?)?;
        let mut c = match c {
            Some(c) => c,
            None => Buffer::from_f32(vec![0.0; size("matmul", &[m, n])?]),
        };
        let out = values_mut("matmul", "C", &mut c, size("matmul", &[m, n])?)?;
        let at = |i: usize, l: usize| if layout == Layout::TN { a[l * m + i] } else { a[i * k + l] };
        let bt = |l: usize, j: usize| if layout == Layout::NT { b[j * k + l] } else { b[l * n + j] };
        for i in 0..m {
            for j in 0..n {
                let sum: f64 = (0..k).map(|l| f64::from(at(i, l)) * f64::from(bt(l, j))).sum();
                out[i * n + j] = (f64::from(alpha) * sum + f64::from(out[i * n + j])) as f32;
            }
        }
        Ok(c)
    }
}
