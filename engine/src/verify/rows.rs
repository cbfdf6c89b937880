//! Rows by index: the embedding, its gradient, the key/value cache.
use super::compare::{ErrorScale, out};
use super::{Data, QUANTS, Suite, f32s, quantised, weights};
use crate::backend::RowIndex;
use crate::dtype::{DType, Quant};

pub(super) fn cases(suite: &mut Suite) {
    // rows taken, rows of the table, width
    for [n, n_rows, d] in [[1, 1, 1], [7, 3, 33], [33, 65, 7], [129, 40, 65], [300, 17, 129], [65, 1000, 257]] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            gather(suite, n, n_rows, d, dtype);
        }
        scatter(suite, n, n_rows, d);
    }
    for quant in QUANTS {
        for [n, n_rows, blocks] in [[1, 1, 1], [33, 7, 3]] {
            gather_quantised(suite, n, n_rows, blocks * quant.block_len(), quant);
        }
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
        Ok(vec![out("y", device.gather_rows(&weights(device, &table, dtype)?, &index, d)?, ErrorScale::Exact)])
    });
}

/// Also the cast of the whole table. Decoding rounds once or twice, so the last bit is free.
fn gather_quantised(suite: &mut Suite, n: usize, n_rows: usize, d: usize, quant: Quant) {
    let (mut data, dtype) = (Data::new(n + d), DType::Quant(quant));
    let (table, rows) = (quantised(quant, &mut data, n_rows * d), data.indices(n, n_rows));
    suite.case(format!("gather_rows N={n} of {n_rows}, d={d}, {}", dtype.name()), |device| {
        let index = RowIndex::new(device, &rows)?;
        let y = device.gather_rows(&device.upload(table.clone())?, &index, d)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(1.0))])
    });
    suite.case(format!("cast {} to float32 n={}", dtype.name(), n_rows * d), |device| {
        let y = device.cast(&device.upload(table.clone())?, n_rows * d, DType::F32)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(1.0))])
    });
}

fn scatter(suite: &mut Suite, n: usize, n_rows: usize, d: usize) {
    let mut data = Data::new(n + d);
    let (dy, rows) = (data.normals(n * d), data.indices(n, n_rows));
    suite.case(format!("scatter_add_rows N={n} to {n_rows}, d={d}"), |device| {
        let index = RowIndex::new(device, &rows)?;
        let dtable = device.scatter_add_rows(&f32s(device, &dy)?, &index, n_rows, d)?;
        Ok(vec![out("dtable", dtable, ErrorScale::AtLeast((n as f64 / n_rows as f64).sqrt()))])
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
        Ok(vec![out("cache", cache, ErrorScale::Exact)])
    });
}
