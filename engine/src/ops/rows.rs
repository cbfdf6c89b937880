//! Rows by index: embedding look-up, and picking the rows that predict something. Its inverse sums rows by group.
use super::beside;
use crate::backend::RowIndex;
use crate::error::{Error, Result};
use crate::tape::record1;
use crate::tensor::Tensor;
use std::sync::Arc;

fn check_rows(op: &'static str, rows: &[u32], n_rows: usize) -> Result<()> {
    match rows.iter().find(|&&r| r as usize >= n_rows) {
        Some(r) => Err(Error::shape(op, format!("row {r} of a table of {n_rows} rows"))),
        None => Ok(()),
    }
}

/// y[i] = table[rows[i]]: table [R, d] of any dtype → [N, d] in f32.
pub fn gather_rows(table: &Tensor, index: &Arc<RowIndex>) -> Result<Tensor> {
    let (n_rows, d) = table.matrix();
    check_rows("gather_rows", &index.rows, n_rows)?;
    let y = beside(table, table.device().gather_rows(table.buffer(), index, d)?, &[index.len(), d]);
    let (index, shape) = (index.clone(), table.shape().to_vec());
    // y[i] = table[rows[i]]  ⟹  dtable[r] = Σ_{i: rows[i] = r} dy[i], in ascending i
    record1("gather_rows", &[table], y, move |dy| {
        let buffer = dy.device().scatter_add_rows(dy.buffer(), &index, n_rows, d)?;
        Ok(vec![Some(beside(&dy, buffer, &shape))])
    })
}

/// y[g] = Σ_{i: groups[i] = g} x[i]: x [N, d] → [n_groups, d]; a group without rows is zero.
/// Sums per-token values by sequence.
pub fn sum_by_group(x: &Tensor, groups: &Arc<RowIndex>, n_groups: usize) -> Result<Tensor> {
    check_rows("sum_by_group", &groups.rows, n_groups)?;
    let d = x.len() / groups.len().max(1);
    if d * groups.len() != x.len() {
        return Err(Error::shape("sum_by_group", format!("{:?} and {} groups' rows", x.shape(), groups.len())));
    }
    let y = beside(x, x.device().scatter_add_rows(x.buffer(), groups, n_groups, d)?, &[n_groups, d]);
    let (groups, shape) = (groups.clone(), x.shape().to_vec());
    // y[g] = Σ_{i: groups[i] = g} x[i]  ⟹  dx[i] = dy[groups[i]]
    record1("sum_by_group", &[x], y, move |dy| {
        Ok(vec![Some(beside(&dy, dy.device().gather_rows(dy.buffer(), &groups, d)?, &shape))])
    })
}
