//! Reductions and AdamW.
use super::compare::{Scale, out};
use super::{Data, Suite, f32s};
use crate::backend::AdamWStep;
use crate::buffer::Buffer;
use crate::error::Result;

pub(super) fn cases(suite: &mut Suite) {
    for [m, n] in [[1, 1], [1, 65], [7, 33], [33, 1], [300, 7], [129, 257], [513, 65]] {
        let x = Data::new(m * n).normals(m * n);
        suite.case(format!("sum_rows m={m} n={n}"), |d| {
            Ok(vec![out("y", d.sum_rows(&f32s(d, &x)?, m, n)?, Scale::AtLeast((m as f64).sqrt()))])
        });
    }
    let sizes = [1, 7, 33, 129, 257, 1000, 70_001];
    for some in [&sizes[..1], &sizes[4..5], &sizes[6..], &sizes[..]] {
        let xs: Vec<Vec<f32>> = some.iter().map(|&n| Data::new(n).scaled(n, 3e-3)).collect();
        suite.case(format!("sum_squares n={some:?}"), |d| {
            let buffers = xs.iter().map(|x| f32s(d, x)).collect::<Result<Vec<Buffer>>>()?;
            let pairs: Vec<(&Buffer, usize)> = buffers.iter().zip(some.iter().copied()).collect();
            // in units of 10⁻⁶, where the tolerance's absolute part says nothing
            let sums: Vec<f32> = d.sum_squares(&pairs)?.iter().map(|s| (s * 1e6) as f32).collect();
            Ok(vec![out("sums", f32s(d, &sums)?, Scale::AtLeast(0.0))])
        });
    }
    let step = AdamWStep {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 0.5,
    };
    for n in [1, 7, 33, 257, 5001] {
        adamw(suite, format!("n={n}"), n, step, 1.0);
    }
    adamw(
        suite,
        "betas 0.8, 0.95, no decay".into(),
        65,
        AdamWStep { beta1: 0.8, beta2: 0.95, weight_decay: 0.0, ..step },
        1.0,
    );
    adamw(suite, "epsilon 1e-3 as large as the gradients".into(), 65, AdamWStep { epsilon: 1e-3, ..step }, 1e-3);
    adamw(suite, "from step 1000".into(), 65, AdamWStep { step: 1000, ..step }, 1.0);
}

/// Five steps; gradients of about `size`.
fn adamw(suite: &mut Suite, name: String, n: usize, step: AdamWStep, size: f32) {
    let mut data = Data::new(n);
    let p = data.normals(n);
    let gradients: Vec<Vec<f32>> = (0..5).map(|_| data.scaled(n, size)).collect();
    suite.case(format!("adamw {name}"), |d| {
        let (mut p, mut m, mut v) = (f32s(d, &p)?, d.zeros(n)?, d.zeros(n)?);
        for (i, gradient) in gradients.iter().enumerate() {
            let step = AdamWStep { step: step.step + i as u64, ..step };
            d.adamw(&mut p, &mut m, &mut v, &f32s(d, gradient)?, n, step)?;
        }
        let moments = [out("m", m, Scale::Tensor(0.0)), out("v", v, Scale::Tensor(0.0))];
        Ok([out("p", p, Scale::AtLeast(1.0))].into_iter().chain(moments).collect())
    });
}
