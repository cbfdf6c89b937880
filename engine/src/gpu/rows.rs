//! Taking, adding to and writing rows of a table, which may be larger than a binding.
use super::cast::type_code;
use super::counting::Cost;
use super::recorder::{Bind, Call};
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{RowIndex, TableRows};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};
use shaders::Shader;

/// A table of rows of d elements, and what happens to its rows.
struct RowsJob<'a> {
    shader: Shader,
    constants: &'a [(&'static str, u32)],
    table: &'a GpuBuffer,
    n_rows: usize,
    d: usize,
    /// Entries of the index that the kernel goes through.
    n: usize,
    cost: Cost,
}

impl Gpu {
    /// Runs a kernel for each window of the table; the kernel passes over rows outside it. `binds` makes the bindings
    /// around that of the table.
    fn over_windows<'b>(&self, rows: RowsJob<'b>, binds: impl Fn(Bind<'b>) -> Vec<Bind<'b>>) -> Result<()> {
        let RowsJob { shader, constants, table, n_rows, d, n, cost } = rows;
        word(shader.name, n * d)?;
        let step = self.rows_per_window(shader.name, table.dtype().bytes(d))?;
        for (first, len) in Gpu::ranges(n_rows, step) {
            let window = self.typed_window(table, first * d, len * d);
            let size = |x: usize| word(shader.name, x);
            self.dispatch(Call {
                shader,
                constants,
                params: &[size(n)?, size(d)?, size(first)?, size(first + len)?, window.offset],
                binds: &binds(window.bind),
                groups: self.groups((n * d).div_ceil(64)),
                cost,
            })?;
        }
        Ok(())
    }

    /// The number of rows of d elements in `table`; an error if the index names one beyond.
    fn check_rows(&self, op: &'static str, table: &GpuBuffer, index: &RowIndex, d: usize) -> Result<usize> {
        let n_rows = table.len() / d.max(1);
        match index.distinct.last() {
            Some(&row) if row as usize >= n_rows => {
                Err(Error::shape(op, format!("row {row} of a table of {n_rows} rows of {d}")))
            }
            _ => Ok(n_rows),
        }
    }
}

impl TableRows for Gpu {
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        let table = self.gpu_buffer("gather_rows", table)?;
        let rows = self.u32("gather_rows", &index.device[0], index.len())?;
        let constants = [("TYPE", type_code("gather_rows", table.dtype())?)];
        if let DType::Quant(q) = table.dtype()
            && !d.is_multiple_of(q.block_len())
        {
            return Err(Error::shape("gather_rows", format!("rows of {d} are not blocks of {}", q.block_len())));
        }
        let n_rows = self.check_rows("gather_rows", table, index, d)?;
        let y = self.new_f32(index.len() * d)?;
        let n = index.len();
        let cost = Cost::MOVES.reading(n * (table.dtype().bytes(d) + 4));
        let job = RowsJob { shader: shaders::GATHER_ROWS, constants: &constants, table, n_rows, d, n, cost };
        self.over_windows(job, |table| vec![table, rows.whole(), y.whole()])?;
        Ok(shared(y))
    }

    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        let op = "scatter_add_rows";
        let dy = self.f32(op, dy, index.len() * d)?;
        let [_, distinct, offsets, sources] = &index.device;
        let n = index.distinct.len();
        let (distinct, offsets) = (self.u32(op, distinct, n)?, self.u32(op, offsets, n + 1)?);
        let sources = self.u32(op, sources, index.len())?;
        let table = self.new_f32(n_rows * d)?;
        self.check_rows(op, &table, index, d)?;
        self.clear(&table)?;
        let cost = Cost::flops(n * d).writing(4 * n * d);
        let job = RowsJob { shader: shaders::SCATTER_ADD_ROWS, constants: &[], table: &table, n_rows, d, n, cost };
        self.over_windows(job, |table| vec![dy.whole(), distinct.whole(), offsets.whole(), sources.whole(), table])?;
        Ok(shared(table))
    }

    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        self.f32("write_rows", cache, 0)?;
        let x = self.f32("write_rows", x, index.len() * d)?;
        let rows = self.u32("write_rows", &index.device[0], index.len())?;
        let table = self.own("write_rows", cache)?;
        let n_rows = self.check_rows("write_rows", table, index, d)?;
        let n = index.len();
        let cost = Cost::MOVES.writing(4 * n * d);
        let job = RowsJob { shader: shaders::WRITE_ROWS, constants: &[], table, n_rows, d, n, cost };
        self.over_windows(job, |table| vec![x.whole(), rows.whole(), table])
    }
}
