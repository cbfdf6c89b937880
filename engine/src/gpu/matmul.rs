//! The matrix product: which rung of the ladder, and how matrices larger than a binding are cut.
use super::elementwise::float_code;
use super::recorder::Call;
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{Layout, Product};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Weights that are decoded at a time where B is quantised: 8 MiB of f32.
const DECODED_ELEMENTS: usize = 2 << 20;

/// Kernels of the matrix product, slowest first; shaders/README.md tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    Naive,
    Tiled,
    RegisterTiled,
    /// For at most eight rows.
    FewRows,
    /// Register-tiled without workgroup memory, for software adapters; shapes in multiples of four.
    Direct,
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
    /// The row of B that its buffer starts with.
    b_first: usize,
    accumulate: bool,
}

impl Gpu {
    pub(super) fn run_matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        let a = self.f32("matmul", a, p.m * p.k)?;
        let b = self.gpu_buffer("matmul", b)?;
        if b.len() < p.n * p.k {
            return Err(Error::shape("matmul", format!("B of {}x{} needed, {} elements found", p.n, p.k, b.len())));
        }
        if p.layout == Layout::TN && b.dtype() != DType::F32 {
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
        // A quantised B is decoded some rows at a time, just before they are used.
        let b_width = if p.layout == Layout::NT { p.k } else { p.n };
        let decode = matches!(b.dtype(), DType::Quant(_));
        if let DType::Quant(q) = b.dtype() {
            if b_width % q.block_len() != 0 {
                return Err(Error::shape("matmul", format!("rows of {b_width} are not blocks of {}", q.block_len())));
            }
            let step = (DECODED_ELEMENTS / b_width.max(1)).min(rows(out, b_width)?).max(1);
            if p.layout == Layout::NT {
                n_step = n_step.min(step);
            } else {
                k_step = k_step.min(step);
            }
        }
        for (j0, n) in Gpu::ranges(p.n, n_step) {
            for (l0, k) in Gpu::ranges(p.k.max(1), k_step) {
                let (first, len) = if p.layout == Layout::NT { (j0, n) } else { (l0, k) };
                let decoded = if decode && p.k > 0 {
                    Some(self.cast_of(b, first * b_width, len * b_width, DType::F32)?)
                } else {
                    None
                };
                let (b, b_first) = decoded.as_ref().map_or((b, 0), |d| (d, first));
                for (i0, m) in Gpu::ranges(p.m, m_step) {
                    let accumulate = accumulate || l0 > 0;
                    let piece = Piece { i0, m, j0, n, l0, k: k.min(p.k), b_first, accumulate };
                    self.matmul_piece(p, piece, a, b, out)?;
                }
            }
        }
        Ok(c)
    }

    fn matmul_piece(&self, p: Product, piece: Piece, a: &GpuBuffer, b: &GpuBuffer, c: &GpuBuffer) -> Result<()> {
        let Piece { i0, m, j0, n, l0, k, b_first, accumulate } = piece;
        let b_code = float_code("matmul", b.dtype())?;
        // Windows of whole rows; what is cut along a row is an offset into it.
        let (lda, a_window, a_column) = match p.layout {
            Layout::TN => (p.m, self.window(a, l0 * p.m, k * p.m, 4), i0),
            _ => (p.k, self.window(a, i0 * p.k, m * p.k, 4), l0),
        };
        let b_bytes = b.dtype().bytes(1);
        let (ldb, b_window, b_column) = match p.layout {
            Layout::NT => (p.k, self.window(b, (j0 - b_first) * p.k, n * p.k, b_bytes), l0),
            _ => (p.n, self.window(b, (l0 - b_first) * p.n, k * p.n, b_bytes), j0),
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
        // What runs along the rows of A and of B.
        let along = match p.layout {
            Layout::NN => [k, n],
            Layout::NT => [k, k],
            Layout::TN => [m, n],
        };
        let starts = [lda, ldb, params[6] as usize, params[7] as usize];
        let in_fours = starts.iter().chain(&along).all(|x| x % 4 == 0);
        let mut constants = vec![("LAYOUT", layout), ("B_TYPE", b_code)];
        let (shader, groups) = match self.rung(m, n, b_code == 0 && in_fours) {
            Rung::Naive => (shaders::MATMUL_NAIVE, [n.div_ceil(16), m.div_ceil(16), 1]),
            Rung::Tiled => (shaders::MATMUL_TILED, [n.div_ceil(16), m.div_ceil(16), 1]),
            Rung::RegisterTiled => (shaders::MATMUL_REGISTER, [n.div_ceil(64), m.div_ceil(64), 1]),
            Rung::Direct => {
                constants.truncate(1);
                (shaders::MATMUL_DIRECT, [n.div_ceil(64), m.div_ceil(64), 1])
            }
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

    fn rung(&self, m: usize, n: usize, in_fours: bool) -> Rung {
        match self.options.rung {
            Some(Rung::FewRows) | None if m <= 8 => Rung::FewRows,
            Some(Rung::Direct) if in_fours => Rung::Direct,
            None if self.is_software && in_fours => Rung::Direct,
            Some(Rung::FewRows | Rung::Direct) => Rung::Tiled,
            Some(rung) => rung,
            None if m < 32 || n < 32 => Rung::Tiled,
            None => Rung::RegisterTiled,
        }
    }
}
