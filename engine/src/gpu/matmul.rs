//! The matrix product: which rung of the ladder, and how matrices larger than a binding are cut.
use super::elementwise::float_code;
use super::recorder::Call;
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{Layout, Product};
use crate::buffer::Buffer;
use crate::error::{Error, Result};

/// Kernels of the matrix product, slowest first; shaders/README.md tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    Naive,
    Tiled,
    RegisterTiled,
    /// For at most eight rows.
    FewRows,
}

/// A piece of a product: rows i0.., columns j0.., depth l0.. of these sizes.
#[derive(Clone, Copy, Debug)]
struct Piece {
    i0: usize,
    m: usize,
    j0: usize,
    n: usize,
    l0: usize,
    k: usize,
    accumulate: bool,
}

impl Gpu {
    pub(super) fn run_matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        let a = self.f32("matmul", a, p.m * p.k)?;
        let b = self.gpu_buffer("matmul", b)?;
        let b_code = float_code("matmul", b.dtype())?;
        if b.len() < p.n * p.k {
            return Err(Error::shape("matmul", format!("B of {}x{} needed, {} elements found", p.n, p.k, b.len())));
        }
        if p.layout == Layout::TN && b_code != 0 {
            return Err(Error::shape("matmul", format!("B in layout TN is float32, {} found", b.dtype().name())));
        }
        let accumulate = c.is_some();
        let c = match c {
            Some(mut c) => {
                self.f32("matmul", &c, p.m * p.n)?;
                self.own("matmul", &mut c)?;
                c
            }
            None => shared(self.new_f32(p.m * p.n)?),
        };
        let out = self.gpu_buffer("matmul", &c)?;
        // Matrices are cut by their rows: A's rows are rows of C, or depth in layout TN; B's are columns of C in layout NT,
        // depth else.
        let rows = |x: &GpuBuffer, width: usize| self.rows_per_window("matmul", x.dtype().bytes(width));
        let (mut m_step, mut n_step, mut k_step) = (rows(out, p.n)?, p.n, p.k);
        match p.layout {
            Layout::NN => (m_step, k_step) = (m_step.min(rows(a, p.k)?), rows(b, p.n)?),
            Layout::NT => (m_step, n_step) = (m_step.min(rows(a, p.k)?), rows(b, p.k)?),
            Layout::TN => k_step = rows(a, p.m)?.min(rows(b, p.n)?),
        }
        for (i0, m) in Gpu::ranges(p.m, m_step) {
            for (j0, n) in Gpu::ranges(p.n, n_step) {
                if p.k == 0 {
                    let piece = Piece { i0, m, j0, n, l0: 0, k: 0, accumulate };
                    self.matmul_piece(p, b_code, piece, a, b, out)?;
                }
                for (l0, k) in Gpu::ranges(p.k, k_step) {
                    let piece = Piece { i0, m, j0, n, l0, k, accumulate: accumulate || l0 > 0 };
                    self.matmul_piece(p, b_code, piece, a, b, out)?;
                }
            }
        }
        Ok(c)
    }

    fn matmul_piece(
        &self,
        p: Product,
        b_code: u32,
        piece: Piece,
        a: &GpuBuffer,
        b: &GpuBuffer,
        c: &GpuBuffer,
    ) -> Result<()> {
        let Piece { i0, m, j0, n, l0, k, accumulate } = piece;
        // Windows of whole rows; what is cut along a row is an offset into it.
        let (lda, a_window, a_column) = match p.layout {
            Layout::TN => (p.m, self.window(a, l0 * p.m, k * p.m, 4), i0),
            _ => (p.k, self.window(a, i0 * p.k, m * p.k, 4), l0),
        };
        let b_bytes = b.dtype().bytes(1);
        let (ldb, b_window, b_column) = match p.layout {
            Layout::NT => (p.k, self.window(b, j0 * p.k, n * p.k, b_bytes), l0),
            _ => (p.n, self.window(b, l0 * p.n, k * p.n, b_bytes), j0),
        };
        let c_window = self.window(c, i0 * p.n, m * p.n, 4);
        let size = |x: usize| word("matmul", x);
        let params = [
            size(m)?,
            size(n)?,
            size(k)?,
            size(lda)?,
            size(ldb)?,
            size(p.n)?,
            a_window.offset + size(a_column)?,
            b_window.offset + size(b_column)?,
            c_window.offset + size(j0)?,
            p.alpha.to_bits(),
            u32::from(accumulate),
        ];
        let layout = match p.layout {
            Layout::NN => 0,
            Layout::NT => 1,
            Layout::TN => 2,
        };
        let binds = [a_window.bind, b_window.bind, c_window.bind];
        let mut constants = vec![("LAYOUT", layout), ("B_TYPE", b_code)];
        let (shader, groups) = match self.rung(m, n) {
            Rung::Naive => (shaders::MATMUL_NAIVE, [n.div_ceil(16), m.div_ceil(16), 1]),
            Rung::Tiled => (shaders::MATMUL_TILED, [n.div_ceil(16), m.div_ceil(16), 1]),
            Rung::RegisterTiled => (shaders::MATMUL_REGISTER, [n.div_ceil(64), m.div_ceil(64), 1]),
            Rung::FewRows => {
                let split = if p.layout == Layout::NT { 16 } else { 1 };
                constants.push(("ROWS", m.next_power_of_two() as u32));
                constants.push(("SPLIT", split));
                let [x, y, z] = self.groups(n.div_ceil(64 / split as usize));
                (shaders::MATMUL_FEW_ROWS, [x as usize, y as usize, z as usize])
            }
        };
        let groups = [size(groups[0])?, size(groups[1])?, size(groups[2])?];
        self.dispatch(Call { shader, constants: &constants, params: &params, binds: &binds, groups })
    }

    fn rung(&self, m: usize, n: usize) -> Rung {
        match self.options.rung {
            Some(Rung::FewRows) | None if m <= 8 => Rung::FewRows,
            Some(Rung::FewRows) => Rung::Tiled,
            Some(rung) => rung,
            None if m < 32 || n < 32 => Rung::Tiled,
            None => Rung::RegisterTiled,
        }
    }
}
