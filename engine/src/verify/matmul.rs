//! The matrix product: layouts, odd sizes, factors, accumulation, weight types.
use super::compare::{ErrorScale, out};
use super::{Data, QUANTS, Suite, f32s, quantised, weights};
use crate::backend::{Layout, Product};
use crate::dtype::{DType, Quant};

/// m, n, k: rows and columns that fill no tile, k above the length of a block and no multiple of one.
const SIZES: [[usize; 3]; 16] = [
    [1, 1, 1],
    [1, 7, 33],
    [7, 1, 65],
    [33, 65, 7],
    [65, 33, 1],
    [1, 257, 1025],
    [2, 65, 257],
    [5, 64, 129],
    [7, 129, 513],
    [64, 64, 64],
    [65, 129, 257],
    [129, 33, 300],
    [257, 129, 65],
    [16, 96, 600],
    [128, 256, 512],
    [130, 260, 770],
];

pub(super) fn cases(suite: &mut Suite) {
    for layout in [Layout::NN, Layout::NT, Layout::TN] {
        for [m, n, k] in SIZES {
            product(suite, Product { layout, m, n, k, alpha: 1.0 }, DType::F32, false);
            product(suite, Product { layout, m, n, k, alpha: -0.7 }, DType::F32, true);
            if layout != Layout::TN {
                for dtype in [DType::BF16, DType::F16] {
                    product(suite, Product { layout, m, n, k, alpha: 0.5 }, dtype, n % 2 == 1);
                }
            }
        }
    }
    for quant in QUANTS {
        let block = quant.block_len();
        for [m, blocks, other] in [[1, 1, 7], [7, 2, 33], [33, 3, 65], [129, 1, 130], [1, 9, 257]] {
            // rows of B are whole blocks: k in NT, n in NN
            quantised_product(suite, quant, Product { layout: Layout::NT, m, n: other, k: blocks * block, alpha: 1.0 });
            quantised_product(suite, quant, Product { layout: Layout::NN, m, n: blocks * block, k: other, alpha: 0.5 });
        }
    }
    shared(suite);
}

fn product(suite: &mut Suite, p: Product, dtype: DType, accumulate: bool) {
    let Product { layout, m, n, k, alpha } = p;
    let plus = if accumulate { " + C" } else { "" };
    let name = format!("matmul {layout:?} m={m} n={n} k={k} alpha={alpha} B {}{plus}", dtype.name());
    if !suite.wanted(&name) {
        return;
    }
    let mut data = Data::new(m * n + k);
    let (a, b, c) = (data.normals(m * k), data.normals(k * n), data.normals(m * n));
    // k products of standard normals add up to about √k
    let scale = ErrorScale::AtLeast(f64::from(alpha.abs()) * (k as f64).sqrt());
    suite.case(name, |d| {
        let c = if accumulate { Some(f32s(d, &c)?) } else { None };
        Ok(vec![out("C", d.matmul(p, &f32s(d, &a)?, &weights(d, &b, dtype)?, c)?, scale)])
    });
}

fn quantised_product(suite: &mut Suite, quant: Quant, p: Product) {
    let Product { layout, m, n, k, alpha } = p;
    let name = format!("matmul {layout:?} m={m} n={n} k={k} alpha={alpha} B {} + C", DType::Quant(quant).name());
    if !suite.wanted(&name) {
        return;
    }
    let mut data = Data::new(m * n + k);
    let (a, b, c) = (data.normals(m * k), quantised(quant, &mut data, k * n), data.normals(m * n));
    let scale = ErrorScale::AtLeast(f64::from(alpha) * (k as f64).sqrt());
    suite.case(name, |d| {
        let c = Some(f32s(d, &c)?);
        Ok(vec![out("C", d.matmul(p, &f32s(d, &a)?, &d.upload(b.clone())?, c)?, scale)])
    });
}

/// A product is added to a copy of C where C has another owner.
fn shared(suite: &mut Suite) {
    let p = Product { layout: Layout::NT, m: 7, n: 9, k: 33, alpha: 1.0 };
    let mut data = Data::new(0);
    let (a, b, c) = (data.normals(p.m * p.k), data.normals(p.n * p.k), data.normals(p.m * p.n));
    suite.case("matmul into C shared with another owner", |d| {
        let before = f32s(d, &c)?;
        let after = d.matmul(p, &f32s(d, &a)?, &f32s(d, &b)?, Some(before.clone()))?;
        Ok(vec![out("C before", before, ErrorScale::Exact), out("C after", after, ErrorScale::AtLeast(6.0))])
    });
}
