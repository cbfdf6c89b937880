//! Rows of a table by index: the embedding, its gradient, and the key/value cache.
use super::threads::{Shared, build};
use super::weights::HostWeights;
use super::{Cpu, check};
use crate::backend::{RowIndex, TableRows};
use crate::buffer::Buffer;
use crate::error::{Error, Result};

/// Rows of a task.
const ROWS: usize = 64;

fn check_rows(op: &'static str, index: &RowIndex, n_rows: usize) -> Result<()> {
    match index.rows.iter().max() {
        Some(&row) if row as usize >= n_rows => {
            Err(Error::shape(op, format!("row {row} is asked for, the table has {n_rows}")))
        }
        _ => Ok(()),
    }
}

impl TableRows for Cpu {
    /// y[i] = table[rows[i]]: table [rows, d] of any float type → y [N, d] in f32
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        let op = "gather_rows";
        let n_rows = index.rows.iter().max().map_or(0, |&r| r as usize + 1);
        let table = HostWeights::new(op, "table", table, n_rows, d)?;
        let n = check::size(op, &[index.len(), d])?;
        // SAFETY: the tasks' rows are disjoint and cover all; every row is zeroed, then decoded into.
        let y = unsafe {
            build(n, |to: Shared<f32>| {
                self.threads.chunks(index.len(), ROWS, |start, end| {
                    for i in start..end {
                        let part = to.part(i * d, d);
                        part.fill(std::mem::MaybeUninit::new(0.0));
                        table.decode(index.rows[i] as usize * d, to.written(i * d, d));
                    }
                });
            })?
        };
        Ok(Buffer::from_f32(y))
    }

    /// The forward was y[i] = table[rows[i]], so dtable[r] = Σ dy[i] over the i with rows[i] = r, in ascending i.
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        let op = "scatter_add_rows";
        let dy = check::f32s(op, "dy", dy, check::size(op, &[index.len(), d])?)?;
        check_rows(op, index, n_rows)?;
        // Zeroed memory straight from the system: rows that nobody reads cost nothing.
        let mut dtable = vec![0f32; check::size(op, &[n_rows, d])?];
        let to = Shared::of(&mut dtable);
        self.threads.chunks(index.distinct.len(), ROWS, |start, end| {
            for u in start..end {
                // SAFETY: distinct rows are distinct and below n_rows, so each is written by one task.
                let row = unsafe { to.written(index.distinct[u] as usize * d, d) };
                for &i in &index.sources[index.offsets[u] as usize..index.offsets[u + 1] as usize] {
                    for (y, &x) in row.iter_mut().zip(&dy[i as usize * d..][..d]) {
                        *y += x;
                    }
                }
            }
        });
        Ok(Buffer::from_f32(dtable))
    }

    /// cache[rows[i]] ← x[i], in place: x [N, d]. The rows are distinct.
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        let op = "write_rows";
        if index.distinct.len() != index.len() {
            let (n, distinct) = (index.len(), index.distinct.len());
            return Err(Error::shape(op, format!("{n} rows, {distinct} of them distinct; each may be written once")));
        }
        let x = check::f32s(op, "x", x, check::size(op, &[index.len(), d])?)?;
        let n_rows = index.distinct.last().map_or(0, |&last| last as usize + 1);
        let cache = check::f32s_mut(op, "cache", cache, check::size(op, &[n_rows, d])?)?;
        for (i, &row) in index.rows.iter().enumerate() {
            cache[row as usize * d..][..d].copy_from_slice(&x[i * d..][..d]);
        }
        Ok(())
    }
}
