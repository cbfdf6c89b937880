//! Reductions and AdamW.
use super::compare::{ErrorScale, out};
use super::{Data, Suite, f32s};
use crate::backend::{AdamWStep, Backend, Trained};
use crate::buffer::Buffer;
use crate::error::Result;

pub(super) fn cases(suite: &mut Suite) {
    for [m, n] in [[1, 1], [1, 65], [7, 33], [33, 1], [300, 7], [129, 257], [513, 65]] {
        let x = Data::new(m * n).normals(m * n);
        suite.case(format!("sum_rows m={m} n={n}"), |d| {
            Ok(vec![out("y", d.sum_rows(&f32s(d, &x)?, m, n)?, ErrorScale::AtLeast((m as f64).sqrt()))])
        });
    }
    let sizes = [1, 7, 33, 129, 257, 1000, 70_001];
    // more than a kernel sees at once
    let many: Vec<usize> = (0..37).map(|i| [4096, 5, 9000, 1, 4097, 64, 777][i % 7]).collect();
    for some in [&sizes[..1], &sizes[4..5], &sizes[6..], &sizes[..], &many[..]] {
        let xs: Vec<Vec<f32>> = some.iter().enumerate().map(|(i, &n)| Data::new(n + i).scaled(n, 3e-3)).collect();
        suite.case(format!("sum_squares n={some:?}"), |d| {
            let buffers = xs.iter().map(|x| f32s(d, x)).collect::<Result<Vec<Buffer>>>()?;
            let pairs: Vec<(&Buffer, usize)> = buffers.iter().zip(some.iter().copied()).collect();
            // in units of 10⁻⁶, where the tolerance's absolute part says nothing
            let sums: Vec<f32> = d.sum_squares(&pairs)?.iter().map(|s| (s * 1e6) as f32).collect();
            Ok(vec![out("sums", f32s(d, &sums)?, ErrorScale::AtLeast(0.0))])
        });
    }
    let step = AdamWStep { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, grad_scale: 0.5 };
    for n in [1, 7, 33, 257, 5001] {
        adamw(suite, format!("n={n}"), &[(n, 0.1)], step, 1.0);
    }
    let some = [(65, 0.0)];
    adamw(suite, "betas 0.8, 0.95, no decay".into(), &some, AdamWStep { beta1: 0.8, beta2: 0.95, ..step }, 1.0);
    let some = [(65, 0.1)];
    adamw(suite, "epsilon 1e-3 as large as the gradients".into(), &some, AdamWStep { epsilon: 1e-3, ..step }, 1e-3);
    adamw(suite, "from step 1000".into(), &some, AdamWStep { step: 1000, ..step }, 1.0);
    // more than a kernel sees at once, some decayed, some not, one of them much longer than the others
    let many: Vec<(usize, f64)> =
        (0..17).map(|i| ([576, 1, 257, 33, 4096, 5, 12_001][i % 7], [0.1, 0.0, 3.0][i % 3])).collect();
    adamw(suite, "17 tensors".into(), &many, step, 1.0);
}

/// Five steps on tensors of (elements, weight decay); gradients of about `size`.
fn adamw(suite: &mut Suite, name: String, tensors: &[(usize, f64)], step: AdamWStep, size: f32) {
    let mut data = Data::new(tensors.len() + tensors[0].0);
    let starts: Vec<Vec<f32>> = tensors.iter().map(|&(n, _)| data.normals(n)).collect();
    let gradients: Vec<Vec<Vec<f32>>> =
        (0..5).map(|_| tensors.iter().map(|&(n, _)| data.scaled(n, size)).collect()).collect();
    suite.case(format!("adamw {name}"), |d| {
        let upload = |all: &[Vec<f32>]| all.iter().map(|x| f32s(d, x)).collect::<Result<Vec<Buffer>>>();
        let zeros = |d: &dyn Backend| tensors.iter().map(|&(n, _)| d.zeros(n)).collect::<Result<Vec<Buffer>>>();
        let (mut ps, mut ms, mut vs) = (upload(&starts)?, zeros(d)?, zeros(d)?);
        for (i, gradients) in gradients.iter().enumerate() {
            let gradients = upload(gradients)?;
            let moments = ms.iter_mut().zip(&mut vs).zip(&gradients).zip(tensors);
            let one = |(p, (((m, v), grad), &(n, weight_decay)))| Trained { p, m, v, grad, n, weight_decay };
            let mut all: Vec<Trained<'_>> = ps.iter_mut().zip(moments).map(one).collect();
            d.adamw(&mut all, AdamWStep { step: step.step + i as u64, ..step })?;
        }
        let outs = |what, all: Vec<Buffer>, scale| all.into_iter().map(move |x| out(what, x, scale));
        let moments = outs("m", ms, ErrorScale::Tensor(0.0)).chain(outs("v", vs, ErrorScale::Tensor(0.0)));
        Ok(outs("p", ps, ErrorScale::AtLeast(1.0)).chain(moments).collect())
    });
}
