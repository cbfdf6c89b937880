//! Rows by index: the embedding, its gradient, the key/value cache.
use super::compare::{Scale, out};
use super::{Data, Suite, f32s, weights};
use crate::backend::RowIndex;
use crate::dtype::DType;

pub(super) fn cases(suite: &mut Suite) {
    // rows taken, rows of the table, width
    for [n, n_rows, d] in [[1, 1, 1], [7, 3, 33], [33, 65, 7], [129, 40, 65], [300, 17, 129], [65, 1000, 257]] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            gather(suite, n, n_rows, d, dtype);
        }
        scatter(suite, n, n_rows, d);
    }
    for [n, n_rows, d] in [[1, 1, 1], [1, 50, 65], [7, 33, 24], [33, 33, 129], [65, 300, 7]] {
        write(suite, n, n_rows, d);
    }
}

fn gather(suite: &mut Suite, n: usize, n_rows: usize, d: usize, dtype: DType) {
    let mut data = Data::new(n + d);
    let (table, rows) = (data.normals(n_rows * d), data.indices(n, n_rows));
    suite.case(format!("gather_rows N={n} of {n_rows}, d={d}, {}", dtype.name()), |device| {
        let index = RowIndex::new(device, &rows)?;
        Ok(vec![out("y", device.gather_rows(&weights(device, &table, dtype)?, &index, d)?, Scale::Exact)])
    });
}

fn scatter(suite: &mut Suite, n: usize, n_rows: usize, d: usize) {
    let mut data = Data::new(n + d);
    let (dy, rows) = (data.normals(n * d), data.indices(n, n_rows));
    suite.case(format!("scatter_add_rows N={n} to {n_rows}, d={d}"), |device| {
        let index = RowIndex::new(device, &rows)?;
        let dtable = device.scatter_add_rows(&f32s(device, &dy)?, &index, n_rows, d)?;
        Ok(vec![out("dtable", dtable, Scale::AtLeast((n as f64 / n_rows as f64).sqrt()))])
    });
}

fn write(suite: &mut Suite, n: usize, n_rows: usize, d: usize) {
    let mut data = Data::new(n + d);
    let (cache, first, second) = (data.normals(n_rows * d), data.normals(n * d), data.normals(n * d));
    let (rows, rows_later) = (data.distinct(n, n_rows), data.distinct(n, n_rows));
    suite.case(format!("write_rows N={n} to {n_rows}, d={d}, twice"), |device| {
        let mut cache = f32s(device, &cache)?;
        device.write_rows(&mut cache, &f32s(device, &first)?, &RowIndex::new(device, &rows)?, d)?;
        device.write_rows(&mut cache, &f32s(device, &second)?, &RowIndex::new(device, &rows_later)?, d)?;
        Ok(vec![out("cache", cache, Scale::Exact)])
    });
}
