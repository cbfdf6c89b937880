//! Mistakes of rows taken, added and written, and the reference with one of them.
use super::Fault::TableRows as Of;
use super::*;
use crate::verify::rows::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    GatherNextRow,
    ScatterLosesRepeats,
    WriteInOrder,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(GatherNextRow), "gather_rows", cases),
    (Of(ScatterLosesRepeats), "scatter_add_rows", cases),
    (Of(WriteInOrder), "write_rows", cases),
];

impl TableRows for Faulty {
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        if self.0 == Of(GatherNextRow) {
            let last = index.distinct.last().copied().unwrap_or(0);
            let next: Vec<u32> = index.rows.iter().map(|&r| (r + 1).min(last)).collect();
            return Reference.gather_rows(table, &RowIndex::new(self, &next)?, d);
        }
        Reference.gather_rows(table, index, d)
    }

    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        if self.0 == Of(ScatterLosesRepeats) {
            let lost = |i: usize| index.rows[i + 1..].contains(&index.rows[i]);
            let dy = changed(dy, |dy| {
                (0..index.len()).filter(|&i| lost(i)).for_each(|i| dy[i * d..][..d].fill(0.0));
            });
            return Reference.scatter_add_rows(&dy?, index, n_rows, d);
        }
        Reference.scatter_add_rows(dy, index, n_rows, d)
    }

    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        if self.0 == Of(WriteInOrder) {
            return Reference.write_rows(cache, x, &RowIndex::new(self, &index.distinct)?, d);
        }
        Reference.write_rows(cache, x, index, d)
    }
}
