//! The matrix product: how matrices larger than a binding are cut, and the call of the kernel that `rungs` chooses.
use super::adapter::Cooperative;
use super::cast::type_code;
use super::counting::Cost;
use super::recorder::{Bind, Call};
use super::rungs::{Rung, Shape, slices};
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{Layout, Product, Products};
use crate::buffer::Buffer;
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};
use shaders::Shader;

/// Types of B, the first of `type_code`, that the kernels decode.
pub(super) const TYPES: u32 = 8;

/// Weights that are decoded at a time where the kernel does not decode B itself: 8 MiB of f32.
const DECODED_ELEMENTS: usize = 2 << 20;

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
    /// The kernel, where it is not chosen by shape.
    rung: Option<Rung>,
}

impl Products for Gpu {
    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
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
        self.product(None, p, a, b, self.gpu_buffer("matmul", &c)?, accumulate)?;
        Ok(c)
    }
}

impl Gpu {
    /// A product by this kernel, written over C.
    pub(super) fn product_with(
        &self,
        rung: Rung,
        p: Product,
        a: &GpuBuffer,
        b: &GpuBuffer,
        c: &GpuBuffer,
    ) -> Result<()> {
        self.product(Some(rung), p, a, b, c, false)
    }

    fn product(
        &self,
        rung: Option<Rung>,
        p: Product,
        a: &GpuBuffer,
        b: &GpuBuffer,
        out: &GpuBuffer,
        accumulate: bool,
    ) -> Result<()> {
        // Matrices are cut by their rows: A's rows are rows of C, or depth in layout TN; B's are columns of C in layout NT,
        // depth else.
        let rows = |x: &GpuBuffer, width: usize| self.rows_per_window("matmul", x.dtype().bytes(width));
        let (mut m_step, mut n_step, mut k_step) = (rows(out, p.n)?, p.n, p.k);
        match p.layout {
            Layout::NN => (m_step, k_step) = (m_step.min(rows(a, p.k)?), rows(b, p.n)?),
            Layout::NT => (m_step, n_step) = (m_step.min(rows(a, p.k)?), rows(b, p.k)?),
            Layout::TN => k_step = rows(a, p.m)?.min(rows(b, p.n)?),
        }
        // Where the kernel cannot, B is decoded some rows at a time, just before they are used.
        let b_width = if p.layout == Layout::NT { p.k } else { p.n };
        let decode = self.decodes_before(b.dtype(), p.m);
        if let DType::Quant(q) = b.dtype()
            && b_width % q.block_len() != 0
        {
            return Err(Error::shape("matmul", format!("rows of {b_width} are not blocks of {}", q.block_len())));
        }
        if decode {
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
                    let piece = Piece { i0, m, j0, n, l0, k: k.min(p.k), b_first, accumulate, rung };
                    self.matmul_piece(p, piece, a, b, out)?;
                }
            }
        }
        Ok(())
    }

    /// Whether B is decoded to f32 before the product: formats that the kernels do not know; and on software adapters all,
    /// where the fast kernel takes f32 alone.
    fn decodes_before(&self, b_type: DType, m: usize) -> bool {
        match b_type {
            DType::F32 => false,
            DType::Quant(Quant::Q4_K | Quant::Q5_K | Quant::Q6_K) => true,
            DType::F16 if self.cooperative.is_some() => false,
            _ => self.options.rung.is_none() && self.is_software && m > 8,
        }
    }

    fn matmul_piece(&self, p: Product, piece: Piece, a: &GpuBuffer, b: &GpuBuffer, c: &GpuBuffer) -> Result<()> {
        let Piece { i0, m, j0, n, l0, k, b_first, accumulate, rung } = piece;
        let b_code = type_code("matmul", b.dtype())?;
        // Windows of whole rows; what is cut along a row is an offset into it.
        let (lda, a_window, a_column) = match p.layout {
            Layout::TN => (p.m, self.window(a, l0 * p.m, k * p.m, 4), i0),
            _ => (p.k, self.window(a, i0 * p.k, m * p.k, 4), l0),
        };
        let (ldb, b_window, b_column) = match p.layout {
            Layout::NT => (p.k, self.typed_window(b, (j0 - b_first) * p.k, n * p.k), l0),
            _ => (p.n, self.typed_window(b, (l0 - b_first) * p.n, k * p.n), j0),
        };
        let c_window = self.window(c, i0 * p.n, m * p.n, 4);
        let size = |x: usize| word("matmul", x);
        // Of a quantised B the window's offset is in bytes, of others in elements.
        let (b_offset, b_byte) = match b.dtype() {
            DType::Quant(_) => (size(b_column)?, b_window.offset),
            _ => (b_window.offset + size(b_column)?, 0),
        };
        let mut params = [
            size(m)?,
            size(n)?,
            size(k)?,
            size(lda)?,
            size(ldb)?,
            size(p.n)?,
            a_window.offset + size(a_column)?,
            b_offset,
            c_window.offset + size(j0)?,
            p.alpha.to_bits(),
            u32::from(accumulate),
            b_byte,
            size(k)?,
        ];
        // What runs along the rows of A and of B.
        let along = match p.layout {
            Layout::NN => [k, n],
            Layout::NT => [k, k],
            Layout::TN => [m, n],
        };
        let starts = [lda, ldb, params[6] as usize, params[7] as usize];
        let in_fours = b_code == 0 && starts.iter().chain(&along).all(|x| x % 4 == 0);
        let shape = Shape { layout: p.layout, m, n, k, b_type: b.dtype(), in_fours };
        let rung = rung.map_or_else(|| self.rung(shape), Ok)?;
        let kernel = self.kernel(rung, shape, b_code);
        let [x, y] = kernel.groups;
        let z = match kernel.slices_of {
            Some(workgroups) => self.options.slices.unwrap_or_else(|| slices(workgroups, k)),
            None => 1,
        };
        let depth = k.div_ceil(z.max(1)).next_multiple_of(16);
        let z = k.div_ceil(depth.max(1));
        let fits = (4 * z * m * n) as u64 <= self.max_binding_bytes;
        let groups = |z: usize| Ok([size(x)?, size(y)?, size(z)?]);
        let (shader, constants) = (kernel.shader, &kernel.constants[..]);
        if z <= 1 || !fits {
            let mut binds = vec![a_window.bind, b_window.bind, c_window.bind];
            let scales = match rung {
                Rung::Cooperative => {
                    Some(self.row_scales(a_window.bind, [params[0], params[2], params[3], params[6]])?)
                }
                _ => None,
            };
            binds.extend(scales.iter().map(GpuBuffer::whole));
            // The direct kernel knows neither blocks nor slices.
            let params = if rung == Rung::Direct { &params[..11] } else { &params[..] };
            let cost = Cost::flops(2 * m * n * k).in_place(accumulate);
            return self.dispatch(Call { shader, constants, params, binds: &binds, groups: groups(1)?, cost });
        }
        let partial = self.new_f32(z * m * n)?;
        let reduce = [size(m)?, size(n)?, size(z)?, params[5], params[8], params[9], params[10]];
        (params[5], params[8], params[9], params[10]) = (size(n)?, 0, 1f32.to_bits(), 0);
        params[12] = size(depth)?;
        let binds: [Bind<'_>; 3] = [a_window.bind, b_window.bind, partial.whole()];
        let cost = Cost::flops(2 * m * n * k);
        self.dispatch(Call { shader, constants, params: &params, binds: &binds, groups: groups(z)?, cost })?;
        self.dispatch(Call {
            shader: shaders::MATMUL_REDUCE,
            constants: &[],
            params: &reduce,
            binds: &[partial.whole(), c_window.bind],
            groups: self.groups((m * n).div_ceil(64)),
            cost: Cost::flops(m * n * z).in_place(accumulate),
        })
    }

    /// The power of two by which each row of A [m, k] is multiplied before it is rounded to f16. `params`: m, k, lda, offset.
    fn row_scales(&self, a: Bind<'_>, params: [u32; 4]) -> Result<GpuBuffer> {
        let m = params[0] as usize;
        let scales = self.new_f32(m)?;
        self.dispatch(Call {
            shader: shaders::ROW_SCALES,
            constants: &[],
            params: &params,
            binds: &[a, scales.whole()],
            groups: self.groups(m),
            cost: Cost::MOVES,
        })?;
        Ok(scales)
    }

    /// The shader of a rung with its constants and workgroups along x and y.
    fn kernel(&self, rung: Rung, s: Shape, b_code: u32) -> Kernel {
        let units = self.cooperative.unwrap_or_default();
        let (shader, constants) = variant(rung, s.layout, b_code, s.m, units);
        let tiles = |side: usize| [s.n.div_ceil(side), s.m.div_ceil(side)];
        let groups = match rung {
            Rung::Naive | Rung::Tiled => tiles(16),
            Rung::RegisterTiled | Rung::Direct => tiles(64),
            Rung::Blocked | Rung::BlockedDeep => tiles(128),
            Rung::Cooperative => tiles(4 * units.size as usize),
            Rung::FewRows => {
                let [x, y, _] = self.groups(s.n.div_ceil(64 / split(s.layout) as usize));
                [x as usize, y as usize]
            }
        };
        // The same for all that add in the same order, whatever their tiles, so that they have the same slices.
        let slices_of = match rung {
            Rung::Direct | Rung::Cooperative => None,
            Rung::FewRows => Some(groups[0] * groups[1]),
            _ => Some(s.m.div_ceil(64) * s.n.div_ceil(64)),
        };
        Kernel { shader, constants, groups, slices_of }
    }

    /// Whether the device takes the rung for such products: its limits allow it, and the driver compiles it.
    pub(super) fn takes_rung(&self, rung: Rung, s: Shape) -> Result<bool> {
        let units = self.cooperative.unwrap_or_default();
        let (shader, constants) = variant(rung, s.layout, type_code("matmul", s.b_type)?, s.m, units);
        self.takes(shader, &constants)
    }
}

/// The shader of a rung with its constants, for m rows of C.
pub(super) fn variant(
    rung: Rung,
    layout: Layout,
    b_code: u32,
    m: usize,
    units: Cooperative,
) -> (Shader, Vec<(&'static str, u32)>) {
    let code = match layout {
        Layout::NN => 0,
        Layout::NT => 1,
        Layout::TN => 2,
    };
    let mut constants = vec![("LAYOUT", code), ("TYPE", b_code)];
    let shader = match rung {
        Rung::Naive => shaders::MATMUL_NAIVE,
        Rung::Tiled => shaders::MATMUL_TILED,
        Rung::RegisterTiled => shaders::MATMUL_REGISTER,
        Rung::Blocked => shaders::MATMUL_BLOCKED,
        Rung::BlockedDeep => {
            constants.push(("DEPTH", 16));
            shaders::MATMUL_BLOCKED
        }
        Rung::Direct => {
            constants[1] = ("ROWS", m.next_power_of_two().min(8) as u32);
            shaders::MATMUL_DIRECT
        }
        Rung::Cooperative => {
            constants.extend([("SIZE", units.size), ("SUBGROUP", units.subgroup)]);
            shaders::MATMUL_COOPERATIVE
        }
        Rung::FewRows => {
            constants.extend([("ROWS", m.next_power_of_two() as u32), ("SPLIT", split(layout))]);
            shaders::MATMUL_FEW_ROWS
        }
    };
    (shader, constants)
}

/// Threads that share a column in the kernel for few rows.
fn split(layout: Layout) -> u32 {
    if layout == Layout::NT { 16 } else { 1 }
}

/// A kernel as it is called.
struct Kernel {
    shader: Shader,
    constants: Vec<(&'static str, u32)>,
    groups: [usize; 2],
    /// Workgroups that decide into how many slices along z the depth is cut; None where it cannot be.
    slices_of: Option<usize>,
}
