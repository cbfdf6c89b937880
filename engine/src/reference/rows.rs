//! Rows of a table by index: the embedding, its gradient, and the key/value cache.
use super::Reference;
use super::check::{decode, size, values, values_mut};
use crate::backend::{RowIndex, TableRows};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};

impl TableRows for Reference {
    /// y[i] = table[rows[i]]: table [rows, d] of any float type → y [N, d] in f32
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        if let DType::Quant(quant) = table.dtype()
            && !d.is_multiple_of(quant.block_len())
        {
            let detail = format!("rows of {d} elements are no whole number of {} blocks", table.dtype().name());
            return Err(Error::shape("gather_rows", detail));
        }
        let mut y = Vec::with_capacity(size("gather_rows", &[index.len(), d])?);
        for &row in &index.rows {
            y.extend(decode("gather_rows", "table", table, size("gather_rows", &[row as usize, d])?, d)?);
        }
        Ok(Buffer::from_f32(y))
    }

    /// dtable[r] = Σ dy[i] over the i with rows[i] = r, the backward of y[i] = table[rows[i]]: dy [N, d] → dtable [n_rows, d]
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        let dy = values("scatter_add_rows", "dy", dy, size("scatter_add_rows", &[index.len(), d])?)?;
        let mut dtable = vec![0f64; size("scatter_add_rows", &[n_rows, d])?];
        for (i, &row) in index.rows.iter().enumerate() {
            let row = row as usize;
            if row >= n_rows {
                return Err(Error::shape("scatter_add_rows", format!("row {row} of a table with {n_rows} rows")));
            }
            for j in 0..d {
                dtable[row * d + j] += f64::from(dy[i * d + j]);
            }
        }
        Ok(Buffer::from_f32(dtable.iter().map(|&x| x as f32).collect()))
    }

    /// cache[rows[i]] ← x[i], in place: x [N, d]. The rows are distinct.
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        if index.distinct.len() != index.len() {
            let detail =
                format!("{} rows, {} of them distinct; each may be written once", index.len(), index.distinct.len());
            return Err(Error::shape("write_rows", detail));
        }
        let x = values("write_rows", "x", x, size("write_rows", &[index.len(), d])?)?;
        let n_rows = index.distinct.last().map_or(0, |&last| last as usize + 1);
        let cache = values_mut("write_rows", "cache", cache, size("write_rows", &[n_rows, d])?)?;
        for (i, &row) in index.rows.iter().enumerate() {
            cache[row as usize * d..][..d].copy_from_slice(&x[i * d..][..d]);
        }
        Ok(())
    }
}
