//! Finite differences of every backward of the reference, with random upstream gradients.
//!
//! The outputs are rounded to f32, so the differences are taken over a wide step with the five-point formula, whose
//! error falls with h⁴; inputs lie on a grid of 2⁻¹⁰, so that x ± h is exact.
use super::Reference;
use crate::backend::*;
use crate::buffer::{Buffer, Host};
use crate::error::Result;
use crate::forest::Forest;
use crate::random::Stream;

const STEP: f32 = 1.0 / 32.0;

/// Standard normal numbers on the grid.
fn normals(stream: u64, n: usize) -> Vec<f32> {
    let stream = Stream::new(11, stream);
    (0..n).map(|i| (stream.normal(i as u64) * 1024.0).round() / 1024.0).collect()
}

fn indices(values: &[u32]) -> Buffer {
    Buffer::host(Host::U32(values.to_vec()))
}

/// Σ dy y in f64.
fn loss(y: &Buffer, dy: &[f32]) -> f64 {
    let y = y.f32().expect("f32 output");
    assert_eq!(y.len(), dy.len());
    y.iter().zip(dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum()
}

/// Compares `dx` with the derivative of Σ dy ∘ forward(x) by each element of x.
fn check(name: &str, x: &[f32], dy: &[f32], forward: impl Fn(&Buffer) -> Result<Buffer>, dx: Result<Buffer>) {
    let dx = dx.expect(name);
    let dx = dx.f32().expect(name);
    assert_eq!(dx.len(), x.len(), "{name}");
    let at = |i: usize, step: f32| {
        let mut moved = x.to_vec();
        moved[i] += step;
        loss(&forward(&Buffer::from_f32(moved)).expect(name), dy)
    };
    let expected = |i: usize| {
        let (near, far) = (at(i, STEP) - at(i, -STEP), at(i, 2.0 * STEP) - at(i, -2.0 * STEP));
        (8.0 * near - far) / (12.0 * f64::from(STEP))
    };
    let expected: Vec<f64> = (0..x.len()).map(expected).collect();
    let largest = expected.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    assert!(largest > 1e-3, "{name}: the gradient is all but zero, which tests nothing");
    for (i, (&found, expected)) in dx.iter().zip(&expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= 2e-5 * (1.0 + largest), "{name}[{i}]: {found} found, {expected} by differences");
    }
}

#[test]
fn unary() {
    let bounds = Unary::Clamp(-0.5, 0.75);
    let ops = [Unary::Affine(-1.5, 0.5), Unary::Exp, Unary::Ln, Unary::Sqrt, Unary::Square, Unary::Abs, Unary::Relu];
    let ops = ops.into_iter().chain([Unary::Tanh, Unary::Sigmoid, Unary::LogSigmoid, Unary::Silu, bounds]);
    for (i, op) in ops.enumerate() {
        let mut x = normals(i as u64, 33);
        for x in &mut x {
            match op {
                Unary::Ln | Unary::Sqrt => *x = x.abs() + 1.0,
                // the function has no derivative at a kink: stay away by more than two steps
                Unary::Abs | Unary::Relu if x.abs() < 0.1 => *x += 0.25,
                Unary::Clamp(lo, hi) if (*x - lo).abs() < 0.1 || (*x - hi).abs() < 0.1 => *x += 0.25,
                _ => {}
            }
        }
        let dy = normals(100 + i as u64, 33);
        let (x_buffer, dy_buffer) = (Buffer::from_f32(x.clone()), Buffer::from_f32(dy.clone()));
        let y = Reference.unary(op, &x_buffer, 33).expect("forward");
        let dx = Reference.unary_backward(op, &x_buffer, &y, &dy_buffer, 33);
        check(&format!("{op:?}"), &x, &dy, |x| Reference.unary(op, x, 33), dx);
    }
}

#[test]
fn clamp_has_a_gradient_at_its_bounds() {
    let x = Buffer::from_f32(vec![-0.5, 0.75, -0.51, 0.76]);
    let dy = Buffer::from_f32(vec![2.0, 3.0, 4.0, 5.0]);
    let dx = Reference.unary_backward(Unary::Clamp(-0.5, 0.75), &x, &x, &dy, 4).expect("backward");
    assert_eq!(dx.f32().expect("f32"), [2.0, 3.0, 0.0, 0.0]);
}

#[test]
fn dropout() {
    let (x, dy, stream) = (normals(0, 40), normals(1, 40), Stream::new(3, 4));
    let dx = Reference.dropout(&Buffer::from_f32(dy.clone()), 40, 0.3, stream);
    check("dropout", &x, &dy, |x| Reference.dropout(x, 40, 0.3, stream), dx);
}

#[test]
fn matmul() {
    let (m, n, k, alpha) = (3, 5, 4, 0.5);
    let (x, w, dy) = (normals(0, m * k), normals(1, n * k), normals(2, m * n));
    let [x_buffer, w_buffer, dy_buffer] = [&x, &w, &dy].map(|v| Buffer::from_f32(v.clone()));
    let forward = Product { layout: Layout::NT, m, n, k, alpha };
    // Y = α X Wᵀ, so dX = α dY W and dW = α dYᵀ X
    let to_x = Product { layout: Layout::NN, m, n: k, k: n, alpha };
    let to_w = Product { layout: Layout::TN, m: n, n: k, k: m, alpha };
    let dx = Reference.matmul(to_x, &dy_buffer, &w_buffer, None);
    let dw = Reference.matmul(to_w, &dy_buffer, &x_buffer, None);
    check("matmul dx", &x, &dy, |x| Reference.matmul(forward, x, &w_buffer, None), dx);
    check("matmul dw", &w, &dy, |w| Reference.matmul(forward, &x_buffer, w, None), dw);
}

#[test]
fn rows() {
    let (table, dy) = (normals(0, 6 * 3), normals(1, 5 * 3));
    let index = RowIndex::new(&Reference, &[4, 0, 4, 2, 4]).expect("index");
    let dtable = Reference.scatter_add_rows(&Buffer::from_f32(dy.clone()), &index, 6, 3);
    check("gather_rows", &table, &dy, |table| Reference.gather_rows(table, &index, 3), dtable);
}

#[test]
fn rms_norm() {
    let (m, d, epsilon) = (4, 9, 0.01);
    let (x, w, dy) = (normals(0, m * d), normals(1, d), normals(2, m * d));
    let [x_buffer, w_buffer, dy_buffer] = [&x, &w, &dy].map(|v| Buffer::from_f32(v.clone()));
    let (_, rstd) = Reference.rms_norm(&x_buffer, &w_buffer, m, d, epsilon).expect("forward");
    let backward = Reference.rms_norm_backward(
        RmsNormBackward { dy: &dy_buffer, x: &x_buffer, w: &w_buffer, rstd: &rstd, m, d, need_dw: true },
        None,
    );
    let (dx, dw) = backward.expect("backward");
    let to_x = |x: &Buffer| Ok(Reference.rms_norm(x, &w_buffer, m, d, epsilon)?.0);
    check("rms_norm dx", &x, &dy, to_x, Ok(dx));
    let to_w = |w: &Buffer| Ok(Reference.rms_norm(&x_buffer, w, m, d, epsilon)?.0);
    check("rms_norm dw", &w, &dy, to_w, Ok(dw.expect("dw was asked for")));
}

#[test]
fn rope() {
    let (t, heads, e, rotary) = (3, 2, 8, 6);
    let (x, dy) = (normals(0, t * heads * e), normals(1, t * heads * e));
    let (angles, positions) = (Buffer::from_f32(normals(2, 9 * rotary)), indices(&[8, 0, 3]));
    let rope = |x: &Buffer, inverse| {
        Reference.rope(Rotation { x, cos_sin: &angles, positions: &positions, t, heads, e, rotary, inverse })
    };
    check("rope", &x, &dy, |x| rope(x, false), rope(&Buffer::from_f32(dy.clone()), true));
}

#[test]
fn swiglu() {
    let (gate, up, dy) = (normals(0, 33), normals(1, 33), normals(2, 33));
    let [gate_buffer, up_buffer, dy_buffer] = [&gate, &up, &dy].map(|v| Buffer::from_f32(v.clone()));
    let (dgate, dup) = Reference.swiglu_backward(&dy_buffer, &gate_buffer, &up_buffer, 33).expect("backward");
    check("swiglu dgate", &gate, &dy, |gate| Reference.swiglu(gate, &up_buffer, 33), Ok(dgate));
    check("swiglu dup", &up, &dy, |up| Reference.swiglu(&gate_buffer, up, 33), Ok(dup));
}

#[test]
fn attention() {
    let mut forest = Forest::new();
    let root = forest.push(None, &[0; 3]).expect("root");
    let child = forest.push(Some(root), &[0; 2]).expect("child");
    forest.push(Some(child), &[0; 2]).expect("grandchild");
    forest.push(Some(child), &[0; 1]).expect("grandchild");
    forest.push(Some(root), &[0; 2]).expect("child");
    forest.push(None, &[0; 2]).expect("second root");
    let plan = forest.attention_plan();
    let (t, n_heads, n_kv_heads, e) = (forest.n_tokens(), 4, 2, 4);
    for window in [1, 3, usize::MAX] {
        let shape = AttentionShape { n_heads, n_kv_heads, head_size: e, scale: 0.4, window };
        let (q, k, v) = (normals(0, t * n_heads * e), normals(1, t * n_kv_heads * e), normals(2, t * n_kv_heads * e));
        let dy = normals(3, t * n_heads * e);
        let [qb, kb, vb, d_o] = [&q, &k, &v, &dy].map(|x| Buffer::from_f32(x.clone()));
        let (o, lse) =
            Reference.attention(AttentionInputs { shape, plan: &plan, q: &qb, k: &kb, v: &vb }).expect("forward");
        let backward = Reference.attention_backward(
            AttentionInputs { shape, plan: &plan, q: &qb, k: &kb, v: &vb },
            &o,
            &lse,
            &d_o,
        );
        let (dq, dk, dv) = backward.expect("backward");
        let output = |q: &Buffer, k: &Buffer, v: &Buffer| {
            Ok(Reference.attention(AttentionInputs { shape, plan: &plan, q, k, v })?.0)
        };
        check("attention dv", &v, &dy, |v| output(&qb, &kb, v), Ok(dv));
        if window == 1 {
            // a softmax over one key is constant
            let zero = |x: &Buffer| x.f32().expect("f32").iter().all(|&g| g.abs() < 1e-12);
            assert!(zero(&dq) && zero(&dk));
            continue;
        }
        check("attention dq", &q, &dy, |q| output(q, &kb, &vb), Ok(dq));
        check("attention dk", &k, &dy, |k| output(&qb, k, &vb), Ok(dk));
    }
}

#[test]
fn log_probs() {
    let (m, v, scale) = (4, 9, 0.5);
    let (logits, dlogp, targets) = (normals(0, m * v), normals(1, m), indices(&[8, 0, 3, 3]));
    let logits_buffer = Buffer::from_f32(logits.clone());
    let forward = Reference.log_probs(&logits_buffer, &targets, m, v).expect("forward");
    let upstream = Buffer::from_f32(dlogp.clone());
    let dlogits = Reference.log_probs_backward(
        logits_buffer,
        LogProbsBackward { targets: &targets, log_sum_exp: &forward.log_sum_exp, dlogp: &upstream, m, v, scale },
    );
    let dy: Vec<f32> = dlogp.iter().map(|d| d * scale).collect();
    check("log_probs", &logits, &dy, |x| Ok(Reference.log_probs(x, &targets, m, v)?.logp), dlogits);
}

#[test]
fn operands_too_short_are_named() {
    let short = Buffer::from_f32(vec![0.0; 5]);
    let product = Product { layout: Layout::NT, m: 2, n: 2, k: 3, alpha: 1.0 };
    let error = Reference.matmul(product, &short, &short, None).expect_err("too short");
    assert_eq!(error.to_string(), "matmul: A has 5 elements, 6 needed");
    let index = RowIndex::new(&Reference, &[0, 2]).expect("index");
    let error = Reference.gather_rows(&short, &index, 2).expect_err("too short");
    assert_eq!(error.to_string(), "gather_rows: table has 5 elements, 6 needed");
    let error = Reference.log_probs(&short, &indices(&[5]), 1, 5).expect_err("no such token");
    assert_eq!(error.to_string(), "log_probs: target 5 in a vocabulary of 5");
}

#[test]
fn write_rows_changes_the_cache_where_it_lies() {
    let mut cache = Buffer::from_f32(vec![0.0; 6]);
    let before = cache.f32().expect("f32").as_ptr();
    let index = RowIndex::new(&Reference, &[2, 0]).expect("index");
    Reference.write_rows(&mut cache, &Buffer::from_f32(vec![1.0, 2.0, 3.0, 4.0]), &index, 2).expect("write");
    assert_eq!(cache.f32().expect("f32"), [3.0, 4.0, 0.0, 0.0, 1.0, 2.0]);
    assert_eq!(cache.f32().expect("f32").as_ptr(), before);
}
