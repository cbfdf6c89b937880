//! Norms of rows, and RoPE.
use super::compare::{ErrorScale, out};
use super::{Data, Suite, f32s, u32s};
use crate::backend::{Norms, RmsNormBackward, Rotation};
use crate::reference::Reference;

pub(super) fn cases(suite: &mut Suite) {
    for [m, d] in [[1, 1], [1, 7], [7, 33], [33, 65], [5, 129], [300, 16], [3, 257], [2, 1025], [65, 576]] {
        rms_norm(suite, m, d, 1e-5, 3.0);
    }
    // rows so small that ε decides
    rms_norm(suite, 7, 65, 1e-5, 1e-3);
    rms_norm(suite, 7, 64, 1e-6, 0.0);
    for [m, n] in [[1, 1], [7, 33], [33, 65], [65, 63], [300, 3], [2, 1025]] {
        row_norms(suite, m, n);
    }
    // t, heads, e, rotary
    for [t, heads, e, rotary] in
        [[1, 1, 2, 2], [7, 3, 8, 8], [33, 2, 16, 8], [65, 1, 80, 80], [5, 9, 64, 64], [129, 4, 32, 32], [3, 2, 96, 24]]
    {
        rope(suite, [t, heads, e], rotary);
    }
}

fn rms_norm(suite: &mut Suite, m: usize, d: usize, epsilon: f32, size: f32) {
    let mut data = Data::new(m + d);
    let (x, w, dy) = (data.scaled(m * d, size), data.normals(d), data.normals(m * d));
    let name = format!("m={m} d={d} epsilon={epsilon:e} |x|~{size:e}");
    suite.case(format!("rms_norm {name}"), |device| {
        let (y, rstd) = device.rms_norm(&f32s(device, &x)?, &f32s(device, &w)?, m, d, epsilon)?;
        Ok(vec![out("y", y, ErrorScale::AtLeast(0.0)), out("rstd", rstd, ErrorScale::AtLeast(0.0))])
    });
    let f = data.scaled(m * d, size);
    suite.case(format!("add_rms_norm {name}"), |device| {
        let (x, f, w) = (f32s(device, &x)?, f32s(device, &f)?, f32s(device, &w)?);
        let (s, y, rstd) = device.add_rms_norm(&x, f.clone(), &w, m, d, epsilon)?;
        let sums = [out("f, which has another owner", f, ErrorScale::Exact), out("s", s, ErrorScale::AtLeast(0.0))];
        let norm = [out("y", y, ErrorScale::AtLeast(0.0)), out("rstd", rstd, ErrorScale::AtLeast(0.0))];
        Ok(sums.into_iter().chain(norm).collect())
    });
    for (need_dw, adds) in [(true, false), (false, true)] {
        let what = if need_dw { "" } else { ", no dw, onto a sum" };
        suite.case(format!("rms_norm_backward {name}{what}"), |device| {
            let (_, rstd) = Reference.rms_norm(&f32s(&Reference, &x)?, &f32s(&Reference, &w)?, m, d, epsilon)?;
            // the two terms of dx may cancel: each is about as large as rstd
            let scale = ErrorScale::Tensor(rstd.f32()?.iter().fold(0.0, |m: f64, &r| m.max(r.into())));
            let onto = if adds { Some(f32s(device, &f)?) } else { None };
            let [dy, x, w, rstd] = [&dy, &x, &w, rstd.f32()?].map(|v| f32s(device, v));
            let (dx, dw) = device
                .rms_norm_backward(RmsNormBackward { dy: &dy?, x: &x?, w: &w?, rstd: &rstd?, m, d, need_dw }, onto)?;
            let mut outputs = vec![out("dx", dx, scale)];
            outputs.extend(dw.map(|dw| out("dw", dw, ErrorScale::AtLeast((m as f64).sqrt()))));
            Ok(outputs)
        });
    }
}

/// One row is of zeros.
fn row_norms(suite: &mut Suite, m: usize, n: usize) {
    let mut data = Data::new(m + n);
    let (mut x, dy) = (data.scaled(m * n, 3.0), data.normals(m));
    x[m / 2 * n..][..n].fill(0.0);
    suite.case(format!("row_norms m={m} n={n}"), |d| {
        Ok(vec![out("y", d.row_norms(&f32s(d, &x)?, m, n)?, ErrorScale::AtLeast(0.0))])
    });
    suite.case(format!("row_norms_backward m={m} n={n}"), |d| {
        let y = Reference.row_norms(&f32s(&Reference, &x)?, m, n)?;
        let [dy, x, y] = [&dy, &x, y.f32()?].map(|v| f32s(d, v));
        Ok(vec![out("dx", d.row_norms_backward(&dy?, &x?, &y?, m, n)?, ErrorScale::AtLeast(0.0))])
    });
}

fn rope(suite: &mut Suite, [t, heads, e]: [usize; 3], rotary: usize) {
    let (mut data, n_positions) = (Data::new(t + e), 70);
    let x = data.normals(t * heads * e);
    // any numbers will do: scaled embeddings are no rotations either
    let (cos_sin, positions) = (data.normals(n_positions * rotary), data.indices(t, n_positions));
    for inverse in [false, true] {
        let name = if inverse { ", inverse" } else { "" };
        suite.case(format!("rope t={t} heads={heads} e={e} rotary={rotary}{name}"), |d| {
            let (x, angles, positions) = (f32s(d, &x)?, f32s(d, &cos_sin)?, u32s(d, &positions)?);
            let y =
                d.rope(Rotation { x: &x, cos_sin: &angles, positions: &positions, t, heads, e, rotary, inverse })?;
            Ok(vec![out("y", y, ErrorScale::AtLeast(1.0))])
        });
    }
}
