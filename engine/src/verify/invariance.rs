//! The same bits, however the work is split: calls repeated, rows alone, sequences without their batch.
use super::attention::grow;
use super::{Data, QUANTS, Suite, f32s, quantised, u32s, weights};
use crate::backend::{
    AdamWStep, AttentionInputs, AttentionShape, Backend, Binary, Layout, LogProbsBackward, Norms, Product,
    RmsNormBackward, RowIndex, Trained, Unary,
};
use crate::dtype::{DType, Quant};
use crate::error::Result;
use crate::forest::{AttentionPlan, Forest};
use crate::reference::Reference;

pub(super) fn cases(suite: &mut Suite) {
    repeated(suite);
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for layout in [Layout::NN, Layout::NT] {
            rows_of_products(suite, layout, dtype);
        }
        columns_of_products(suite, dtype);
    }
    for quant in QUANTS {
        rows_of_quantised_products(suite, quant);
    }
    elements_alone(suite);
    rows_alone(suite);
    super::sample::rows_alone(suite);
    for window in [5, usize::MAX] {
        for (n_heads, n_kv_heads, head_size) in [(1, 1, 8), (6, 2, 64), (3, 3, 80)] {
            let shape = AttentionShape { n_heads, n_kv_heads, head_size, scale: 0.2, window };
            let name = format!("H={n_heads} K={n_kv_heads} E={head_size} window={}", window.min(9999));
            sequences_alone(suite, &name, shape);
            decoded(suite, &name, shape);
        }
    }
}

/// The values of an f32 result.
fn get(d: &dyn Backend, x: &crate::buffer::Buffer) -> Result<Vec<f32>> {
    Ok(d.download_f32(&[x])?.concat())
}

fn repeated(suite: &mut Suite) {
    let mut twice = |name: &str, run: &dyn Fn(&dyn Backend) -> Result<Vec<f32>>| {
        suite.same_bits(format!("{name} repeated"), run, run);
    };
    let mut data = Data::new(1);
    let (a, b, rows) = (data.normals(770 * 65), data.normals(770 * 129), data.indices(770, 33));
    let p = Product { layout: Layout::TN, m: 65, n: 129, k: 770, alpha: 1.0 };
    twice("matmul TN", &|d| get(d, &d.matmul(p, &f32s(d, &a)?, &f32s(d, &b)?, None)?));
    twice("scatter_add_rows", &|d| get(d, &d.scatter_add_rows(&f32s(d, &a)?, &RowIndex::new(d, &rows)?, 33, 65)?));
    twice("sum_rows", &|d| get(d, &d.sum_rows(&f32s(d, &a)?, 770, 65)?));
    twice("sum_squares", &|d| {
        let sum = d.sum_squares(&[(&f32s(d, &a)?, 770 * 65)])?[0].to_bits();
        // both halves of the f64
        Ok(vec![f32::from_bits(sum as u32), f32::from_bits((sum >> 32) as u32)])
    });
    twice("attention_backward", &|d| {
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_size: 16, scale: 0.25, window: 70 };
        let forest = grow(&[(None, 140), (Some(0), 70), (Some(1), 65), (Some(0), 33), (None, 66)])?;
        let (plan, t) = (forest.attention_plan(), forest.n_tokens());
        let mut data = Data::new(2);
        let [q, d_o] = [0; 2].map(|_| data.normals(t * 4 * 16)).map(|x| f32s(d, &x));
        let [k, v] = [0; 2].map(|_| data.normals(t * 2 * 16)).map(|x| f32s(d, &x));
        let (q, k, v, d_o) = (q?, k?, v?, d_o?);
        let (o, lse) = d.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v })?;
        let (dq, dk, dv) =
            d.attention_backward(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }, &o, &lse, &d_o)?;
        Ok(d.download_f32(&[&dq, &dk, &dv])?.concat())
    });
}

/// Rows of A alone, and in pieces, as in the whole: a token's result does not depend on its batch.
fn rows_of_products(suite: &mut Suite, layout: Layout, dtype: DType) {
    let (m, n, k) = (70, 65, 513);
    let mut data = Data::new(3);
    let (a, b) = (data.normals(m * k), data.normals(n * k));
    for piece in [1, 7, 33] {
        let run = |d: &dyn Backend, piece: usize| -> Result<Vec<f32>> {
            let b = weights(d, &b, dtype)?;
            let rows = a.chunks(piece * k).map(|a| {
                let p = Product { layout, m: a.len() / k, n, k, alpha: 0.5 };
                get(d, &d.matmul(p, &f32s(d, a)?, &b, None)?)
            });
            Ok(rows.collect::<Result<Vec<_>>>()?.concat())
        };
        let name = format!("matmul {layout:?} B {}, {piece} of {m} rows at a time", dtype.name());
        suite.same_bits(name, |d| run(d, m), |d| run(d, piece));
    }
}

/// The same for weights in blocks, against both layouts: a token decoded is a token re-scored.
fn rows_of_quantised_products(suite: &mut Suite, quant: Quant) {
    let (m, size) = (33, 512);
    let mut data = Data::new(3);
    let (a, b) = (data.normals(m * size), quantised(quant, &mut data, size * size));
    for layout in [Layout::NN, Layout::NT] {
        let run = |d: &dyn Backend, piece: usize| -> Result<Vec<f32>> {
            let b = d.upload(b.clone())?;
            let rows = a.chunks(piece * size).map(|a| {
                let p = Product { layout, m: a.len() / size, n: size, k: size, alpha: 1.0 };
                get(d, &d.matmul(p, &f32s(d, a)?, &b, None)?)
            });
            Ok(rows.collect::<Result<Vec<_>>>()?.concat())
        };
        let name = format!("matmul {layout:?} B {}, 1 of {m} rows at a time", DType::Quant(quant).name());
        suite.same_bits(name, |d| run(d, m), |d| run(d, 1));
    }
}

/// Rows of B in pieces as in the whole: the vocabulary may be cut.
fn columns_of_products(suite: &mut Suite, dtype: DType) {
    let (m, n, k) = (7, 90, 300);
    let mut data = Data::new(4);
    let (a, b) = (data.normals(m * k), data.normals(n * k));
    for piece in [1, 16, 33] {
        let run = |d: &dyn Backend, piece: usize| -> Result<Vec<f32>> {
            let mut c = vec![0.0; m * n];
            for (i, b) in b.chunks(piece * k).enumerate() {
                let width = b.len() / k;
                let p = Product { layout: Layout::NT, m, n: width, k, alpha: 1.0 };
                let part = get(d, &d.matmul(p, &f32s(d, &a)?, &weights(d, b, dtype)?, None)?)?;
                for (row, part) in part.chunks(width).enumerate() {
                    c[row * n + i * piece..][..width].copy_from_slice(part);
                }
            }
            Ok(c)
        };
        let name = format!("matmul NT B {}, {piece} of {n} columns at a time", dtype.name());
        suite.same_bits(name, |d| run(d, n), |d| run(d, piece));
    }
}

/// A function of two lists, element by element.
type OfTwo<'a> = dyn Fn(&dyn Backend, &[f32], &[f32]) -> Result<Vec<f32>> + 'a;

/// Elements alone as in a row of many: the end of a vector register's loop computes as its middle does.
fn elements_alone(suite: &mut Suite) {
    let n = 77;
    let mut data = Data::new(5);
    let (x, g) = (data.scaled(n, 2.0), data.normals(n));
    let mut compare = |name: String, run: &OfTwo| {
        let alone = |d: &dyn Backend| -> Result<Vec<f32>> {
            let each = x.chunks(1).zip(g.chunks(1)).map(|(x, g)| run(d, x, g));
            Ok(each.collect::<Result<Vec<_>>>()?.concat())
        };
        suite.same_bits(format!("{name}, elements alone"), |d| run(d, &x, &g), alone);
    };
    for op in [Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::LogSigmoid, Unary::Silu, Unary::Affine(0.3, 0.7)] {
        compare(format!("unary {op:?}"), &|d, x, _| get(d, &d.unary(op, &f32s(d, x)?, x.len())?));
        compare(format!("unary_backward {op:?}"), &|d, x, g| {
            let x = f32s(d, x)?;
            let y = d.unary(op, &x, g.len())?;
            get(d, &d.unary_backward(op, &x, &y, &f32s(d, g)?, g.len())?)
        });
    }
    compare("swiglu".into(), &|d, x, g| get(d, &d.swiglu(&f32s(d, x)?, &f32s(d, g)?, x.len())?));
    compare("swiglu_backward, dgate".into(), &|d, x, g| {
        get(d, &d.swiglu_backward(&f32s(d, g)?, &f32s(d, x)?, &f32s(d, g)?, x.len())?.0)
    });
    compare("swiglu_backward, dup".into(), &|d, x, g| {
        get(d, &d.swiglu_backward(&f32s(d, g)?, &f32s(d, x)?, &f32s(d, g)?, x.len())?.1)
    });
    compare("adamw".into(), &|d, x, g| {
        let n = x.len();
        let (mut p, mut m, mut v) = (f32s(d, x)?, d.zeros(n)?, d.zeros(n)?);
        let (learning_rate, beta1, beta2, epsilon) = (0.01, 0.9, 0.999, 1e-8);
        for step in 1..4 {
            let step = AdamWStep { learning_rate, beta1, beta2, epsilon, step, grad_scale: 0.7 };
            let (p, m, v, grad) = (&mut p, &mut m, &mut v, &f32s(d, g)?);
            d.adamw(&mut [Trained { p, m, v, grad, n, weight_decay: 0.1 }], step)?;
        }
        get(d, &p)
    });
}

fn rows_alone(suite: &mut Suite) {
    let (m, v) = (9, 1003);
    let mut data = Data::new(6);
    let (x, w, targets, dlogp) = (data.scaled(m * v, 3.0), data.normals(v), data.indices(m, v), data.normals(m));
    let norm = |d: &dyn Backend, rows: usize| -> Result<Vec<f32>> {
        let norm = |x: &[f32]| get(d, &d.rms_norm(&f32s(d, x)?, &f32s(d, &w)?, x.len() / v, v, 1e-5)?.0);
        Ok(x.chunks(rows * v).map(norm).collect::<Result<Vec<_>>>()?.concat())
    };
    suite.same_bits("rms_norm, rows alone", |d| norm(d, m), |d| norm(d, 1));
    let f = data.normals(m * v);
    let sum = |d: &dyn Backend, rows: usize| -> Result<Vec<f32>> {
        let norm = |(x, f): (&[f32], &[f32])| {
            let (s, y, _) = d.add_rms_norm(&f32s(d, x)?, f32s(d, f)?, &f32s(d, &w)?, x.len() / v, v, 1e-5)?;
            Ok([get(d, &s)?, get(d, &y)?])
        };
        let parts = x.chunks(rows * v).zip(f.chunks(rows * v)).map(norm).collect::<Result<Vec<_>>>()?;
        Ok([0, 1].map(|i| parts.iter().flat_map(|part| part[i].clone()).collect::<Vec<f32>>()).concat())
    };
    suite.same_bits("add_rms_norm, rows alone", |d| sum(d, m), |d| sum(d, 1));
    // the backward computes the norm again from the sum
    let apart = |d: &dyn Backend| -> Result<Vec<f32>> {
        let s = d.binary(Binary::Add, &f32s(d, &x)?, &f32s(d, &f)?, m * v, m * v)?;
        let (y, _) = d.rms_norm(&s, &f32s(d, &w)?, m, v, 1e-5)?;
        Ok([get(d, &s)?, get(d, &y)?].concat())
    };
    suite.same_bits("add_rms_norm as a sum and a norm", |d| sum(d, m), apart);
    let norm_backward = |d: &dyn Backend, rows: usize| -> Result<Vec<f32>> {
        let (_, rstd) = Reference.rms_norm(&f32s(&Reference, &x)?, &f32s(&Reference, &w)?, m, v, 1e-5)?;
        let norm = |(x, rstd): (&[f32], &[f32])| {
            let (x, w) = (f32s(d, x)?, f32s(d, &w)?);
            get(
                d,
                &d.rms_norm_backward(
                    RmsNormBackward {
                        dy: &x,
                        x: &x,
                        w: &w,
                        rstd: &f32s(d, rstd)?,
                        m: rstd.len(),
                        d: v,
                        need_dw: false,
                    },
                    Some(x.clone()),
                )?
                .0,
            )
        };
        Ok(x.chunks(rows * v).zip(rstd.f32()?.chunks(rows)).map(norm).collect::<Result<Vec<_>>>()?.concat())
    };
    suite.same_bits("rms_norm_backward, rows alone", |d| norm_backward(d, m), |d| norm_backward(d, 1));
    let head = |d: &dyn Backend, rows: usize| -> Result<Vec<f32>> {
        let mut results = vec![Vec::new(); 4];
        for i in (0..m).step_by(rows) {
            let (x, targets) = (f32s(d, &x[i * v..][..rows * v])?, u32s(d, &targets[i..][..rows])?);
            let p = d.log_probs(&x, &targets, rows, v)?;
            let dlogp = f32s(d, &dlogp[i..][..rows])?;
            let dx = d.log_probs_backward(
                x,
                LogProbsBackward {
                    targets: &targets,
                    log_sum_exp: &p.log_sum_exp,
                    dlogp: &dlogp,
                    m: rows,
                    v,
                    scale: 0.5,
                },
            )?;
            let parts = d.download_f32(&[&p.logp, &p.entropy, &p.log_sum_exp, &dx])?;
            results.iter_mut().zip(parts).for_each(|(all, part)| all.extend(part));
        }
        Ok(results.concat())
    };
    suite.same_bits("log_probs and its backward, rows alone", |d| head(d, m), |d| head(d, 1));
}

/// q, k and v of a token are made from its place in the forest, so that the same token is the same elsewhere.
struct Tokens {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Tokens {
    fn new(shape: AttentionShape, n: usize) -> Self {
        let mut data = Data::new(shape.head_size);
        let (q, k) = (shape.n_heads * shape.head_size, shape.n_kv_heads * shape.head_size);
        Tokens { q: data.normals(n * q), k: data.normals(n * k), v: data.normals(n * k) }
    }

    /// o and lse of the query tokens `queries`, where key row i of the plan is token keys[i].
    fn attend(
        &self,
        d: &dyn Backend,
        shape: AttentionShape,
        plan: &AttentionPlan,
        queries: &[u32],
        keys: &[u32],
    ) -> Result<[Vec<f32>; 2]> {
        let take = |x: &[f32], rows: &[u32], width: usize| {
            f32s(d, &rows.iter().flat_map(|&r| &x[r as usize * width..][..width]).copied().collect::<Vec<f32>>())
        };
        let (wide, narrow) = (shape.n_heads * shape.head_size, shape.n_kv_heads * shape.head_size);
        let q = take(&self.q, queries, wide)?;
        let (k, v) = (take(&self.k, keys, narrow)?, take(&self.v, keys, narrow)?);
        let (o, lse) = d.attention(AttentionInputs { shape, plan, q: &q, k: &k, v: &v })?;
        Ok([get(d, &o)?, get(d, &lse)?])
    }
}

fn family() -> Result<Forest> {
    grow(&[(None, 33), (Some(0), 70), (Some(1), 9), (Some(0), 5), (None, 65), (Some(4), 40)])
}

/// o and lse of the rows of the forest's segments, each segment computed with its ancestors alone.
fn sequences_alone(suite: &mut Suite, name: &str, shape: AttentionShape) {
    let together = |d: &dyn Backend| -> Result<Vec<f32>> {
        let forest = family()?;
        let all: Vec<u32> = (0..forest.n_tokens() as u32).collect();
        Ok(Tokens::new(shape, all.len()).attend(d, shape, &forest.attention_plan(), &all, &all)?.concat())
    };
    let alone = |d: &dyn Backend| -> Result<Vec<f32>> {
        let forest = family()?;
        let tokens = Tokens::new(shape, forest.n_tokens());
        let mut results = [Vec::new(), Vec::new()];
        for (i, segment) in forest.segments.iter().enumerate() {
            let path = forest.path_rows(i);
            let sequence = Forest::from_sequences(&[&path])?;
            let parts = tokens.attend(d, shape, &sequence.attention_plan(), &path, &path)?;
            for (all, part) in results.iter_mut().zip(parts) {
                let width = part.len() / path.len();
                all.extend_from_slice(&part[(path.len() - segment.len) * width..]);
            }
        }
        Ok(results.concat())
    };
    suite.same_bits(format!("attention, sequences alone, {name}"), together, alone);
}

/// The last token of every segment, decoded over a cache of scattered rows, as in training.
fn decoded(suite: &mut Suite, name: &str, shape: AttentionShape) {
    let last = |forest: &Forest| -> Vec<u32> { forest.segments.iter().map(|s| (s.start + s.len - 1) as u32).collect() };
    let trained = |d: &dyn Backend| -> Result<Vec<f32>> {
        let forest = family()?;
        let all: Vec<u32> = (0..forest.n_tokens() as u32).collect();
        let parts = Tokens::new(shape, all.len()).attend(d, shape, &forest.attention_plan(), &all, &all)?;
        let pick = |part: &Vec<f32>| -> Vec<f32> {
            let width = part.len() / all.len();
            last(&forest).iter().flat_map(|&row| part[row as usize * width..][..width].to_vec()).collect()
        };
        Ok(parts.iter().flat_map(pick).collect())
    };
    let decoded = |d: &dyn Backend| -> Result<Vec<f32>> {
        let forest = family()?;
        let n_keys = forest.n_tokens();
        // cache row i holds token cache[i]
        let cache = Data::new(9).distinct(n_keys, n_keys);
        let mut row_of = vec![0u32; n_keys];
        cache.iter().enumerate().for_each(|(row, &token)| row_of[token as usize] = row as u32);
        let mut plan = AttentionPlan { n_keys, ..Default::default() };
        for i in 0..forest.segments.len() {
            let path: Vec<u32> = forest.path_rows(i).iter().map(|&token| row_of[token as usize]).collect();
            plan.push_queries(1, path.len() - 1, &path);
        }
        Ok(Tokens::new(shape, n_keys).attend(d, shape, &plan, &last(&forest), &cache)?.concat())
    };
    suite.same_bits(format!("attention, decoded as re-scored, {name}"), trained, decoded);
}
