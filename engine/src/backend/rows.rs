//! Rows of a table by index.
use super::Backend;
use crate::buffer::{Buffer, Host};
use crate::error::Result;

/// Which rows to take, or to add to. Made once per batch, so that the backward owns its output rows without atomics.
#[derive(Clone, Debug)]
pub struct RowIndex {
    /// rows[i] is the row of the table that output row i reads: [N].
    pub rows: Vec<u32>,
    /// The distinct rows in ascending order: [U].
    pub distinct: Vec<u32>,
    /// Entry u owns `sources[offsets[u] .. offsets[u + 1]]`: [U + 1].
    pub offsets: Vec<u32>,
    /// Positions i in `rows`, grouped by distinct row, ascending inside a group: [N].
    pub sources: Vec<u32>,
    /// The four lists on the device (host buffers on a CPU): rows, distinct, offsets, sources.
    pub device: [Buffer; 4],
}

impl RowIndex {
    /// Sorts `rows` by table row and uploads the four lists. That they lie inside a table is checked where one is given.
    pub fn new(device: &dyn Backend, rows: &[u32]) -> Result<Self> {
        let mut sources: Vec<u32> = (0..rows.len() as u32).collect();
        sources.sort_by_key(|&i| (rows[i as usize], i));
        let (mut distinct, mut offsets) = (Vec::new(), vec![0u32]);
        for (n, &i) in sources.iter().enumerate() {
            let row = rows[i as usize];
            if distinct.last() != Some(&row) {
                if n > 0 {
                    offsets.push(n as u32);
                }
                distinct.push(row);
            }
        }
        offsets.push(sources.len() as u32);
        if rows.is_empty() {
            offsets.truncate(1);
        }
        let up = |v: &[u32]| device.upload(Host::U32(v.to_vec()));
        let device = [up(rows)?, up(&distinct)?, up(&offsets)?, up(&sources)?];
        Ok(RowIndex { rows: rows.to_vec(), distinct, offsets, sources, device })
    }
    /// N, output rows: entries of `rows`, repeated ones included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    /// Whether no row is taken.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Rows taken, added to, written.
pub trait TableRows {
    /// Rows of a table (any dtype) [rows, d] as f32: [N, d].
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer>;
    /// dtable [n_rows, d]: row r is Σ over i with rows[i] = r of dy[i], in ascending i; zero elsewhere.
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer>;
    /// cache[rows[i]] ← x[i], in place, without copying the cache: the KV cache. The rows are distinct.
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()>;
}
