//! Attention on forests and on a key/value cache: grouped heads, head sizes, windows.
use super::compare::{ErrorScale, out};
use super::{Data, Suite, f32s};
use crate::backend::{AttentionInputs, AttentionShape, SoftmaxAttention};
use crate::error::Result;
use crate::forest::{AttentionPlan, Forest};
use crate::reference::Reference;

const HEADS: [[usize; 2]; 5] = [[1, 1], [4, 4], [8, 2], [6, 1], [9, 3]];
const HEAD_SIZES: [usize; 7] = [8, 16, 24, 32, 64, 80, 128];
const WINDOWS: [usize; 4] = [1, 5, 64, usize::MAX];

pub(super) fn cases(suite: &mut Suite) {
    let mut turn = 0;
    for (name, segments) in forests() {
        for window in WINDOWS {
            let [n_heads, n_kv_heads] = HEADS[turn % HEADS.len()];
            let head_size = HEAD_SIZES[turn % HEAD_SIZES.len()];
            turn += 1;
            forest(suite, name, &segments, shape(n_heads, n_kv_heads, head_size, window), 1.5);
        }
    }
    let small = [(None, 5), (Some(0), 4), (Some(1), 3), (Some(1), 6), (Some(0), 9), (None, 2)];
    for [n_heads, n_kv_heads] in HEADS {
        for head_size in HEAD_SIZES {
            forest(suite, "small", &small, shape(n_heads, n_kv_heads, head_size, usize::MAX), 1.5);
        }
    }
    forest(suite, "a path of 300", &[(None, 300)], shape(1, 1, 80, usize::MAX), 1.5);
    // a factor that is not 1/√E, and scores of hundreds
    forest(suite, "scale 0.37", &small, AttentionShape { scale: 0.37, ..shape(4, 2, 16, usize::MAX) }, 1.0);
    forest(suite, "large scores", &small, shape(4, 2, 16, usize::MAX), 12.0);
    for window in WINDOWS {
        for ([n_heads, n_kv_heads], head_size) in [([1, 1], 8), ([8, 2], 64), ([9, 3], 80), ([6, 1], 32)] {
            decode(suite, shape(n_heads, n_kv_heads, head_size, window));
        }
        prefill(suite, shape(4, 2, 16, window));
    }
}

fn shape(n_heads: usize, n_kv_heads: usize, head_size: usize, window: usize) -> AttentionShape {
    AttentionShape { n_heads, n_kv_heads, head_size, scale: 1.0 / (head_size as f32).sqrt(), window }
}

/// Parent and length.
type ParentAndLength = (Option<usize>, usize);

/// Forests by name, segments in depth-first order.
fn forests() -> Vec<(&'static str, Vec<ParentAndLength>)> {
    vec![
        ("one token", vec![(None, 1)]),
        ("one sequence", vec![(None, 65)]),
        ("many roots", vec![(None, 1), (None, 7), (None, 33), (None, 2), (None, 129)]),
        ("one token each", vec![(None, 1); 33]),
        ("prompt and children", vec![(None, 17), (Some(0), 5), (Some(0), 1), (Some(0), 9), (Some(0), 33)]),
        (
            "grandchildren",
            vec![
                (None, 9),
                (Some(0), 6),
                (Some(1), 3),
                (Some(1), 4),
                (Some(0), 5),
                (Some(4), 1),
                (None, 12),
                (Some(6), 7),
            ],
        ),
        ("long", vec![(None, 140), (Some(0), 70), (Some(1), 65), (Some(0), 33), (None, 66), (Some(4), 1)]),
    ]
}

pub(super) fn grow(segments: &[ParentAndLength]) -> Result<Forest> {
    let mut forest = Forest::new();
    for &(parent, len) in segments {
        forest.push(parent, &vec![0; len])?;
    }
    Ok(forest)
}

fn forest(suite: &mut Suite, name: &str, segments: &[ParentAndLength], shape: AttentionShape, size: f32) {
    let AttentionShape { n_heads, n_kv_heads, head_size: e, window, .. } = shape;
    let t: usize = segments.iter().map(|s| s.1).sum();
    let mut data = Data::new(t + n_heads);
    let (q, k) = (data.scaled(t * n_heads * e, size), data.scaled(t * n_kv_heads * e, size));
    let (v, d_o) = (data.normals(t * n_kv_heads * e), data.normals(t * n_heads * e));
    let window = if window == usize::MAX { "all".into() } else { window.to_string() };
    let name = format!("{name}, T={t} H={n_heads} K={n_kv_heads} E={e} window={window}");
    suite.case(format!("attention {name}"), |d| {
        let plan = grow(segments)?.attention_plan();
        let (o, lse) =
            d.attention(AttentionInputs { shape, plan: &plan, q: &f32s(d, &q)?, k: &f32s(d, &k)?, v: &f32s(d, &v)? })?;
        Ok(vec![out("o", o, ErrorScale::Row(e)), out("lse", lse, ErrorScale::Tensor(1.0))])
    });
    suite.case(format!("attention_backward {name}"), |d| {
        // a plan keeps what one backend derives from it
        let [plan, reference_plan] = [grow(segments)?.attention_plan(), grow(segments)?.attention_plan()];
        let (o, lse) = if size > 4.0 {
            // Scores of hundreds are rounded by more than the tolerance on p, the same way forward and backward: only
            // the backend's own lse fits its scores.
            let [q, k, v] = [&q, &k, &v].map(|x| f32s(d, x));
            d.attention(AttentionInputs { shape, plan: &plan, q: &q?, k: &k?, v: &v? })?
        } else {
            let [q, k, v] = [&q, &k, &v].map(|x| f32s(&Reference, x));
            let (o, lse) =
                Reference.attention(AttentionInputs { shape, plan: &reference_plan, q: &q?, k: &k?, v: &v? })?;
            (f32s(d, o.f32()?)?, f32s(d, lse.f32()?)?)
        };
        let [q, k, v, d_o] = [&q, &k, &v, &d_o].map(|x| f32s(d, x));
        let (dq, dk, dv) =
            d.attention_backward(AttentionInputs { shape, plan: &plan, q: &q?, k: &k?, v: &v? }, &o, &lse, &d_o?)?;
        // p = e^(s − lse): s and lse, each rounded to 24 bits, put an error of |s| 2⁻²³ on p. Scores have a deviation of
        // size² √E scale; the tolerance of 1e-5 holds up to scores of 84.
        let scores = 4.0 * f64::from(size * size * shape.scale) * (e as f64).sqrt();
        let scale = ErrorScale::Magnified((scores * 2f64.powi(-23) / 1e-5).max(1.0));
        Ok(vec![out("dq", dq, scale), out("dk", dk, scale), out("dv", dv, scale)])
    });
}

/// Compares attention on the rows of a cache, which `plan` chooses.
fn cached(suite: &mut Suite, name: String, shape: AttentionShape, n_keys: usize, plan: impl Fn() -> AttentionPlan) {
    let AttentionShape { n_heads, n_kv_heads, head_size: e, .. } = shape;
    let n_queries = plan().n_queries();
    let mut data = Data::new(n_keys + e);
    let q = data.scaled(n_queries * n_heads * e, 1.5);
    let (k, v) = (data.scaled(n_keys * n_kv_heads * e, 1.5), data.normals(n_keys * n_kv_heads * e));
    suite.case(name, |d| {
        let (o, lse) = d.attention(AttentionInputs {
            shape,
            plan: &plan(),
            q: &f32s(d, &q)?,
            k: &f32s(d, &k)?,
            v: &f32s(d, &v)?,
        })?;
        Ok(vec![out("o", o, ErrorScale::Row(e)), out("lse", lse, ErrorScale::Tensor(1.0))])
    });
}

fn window_name(window: usize) -> String {
    if window == usize::MAX { "all".into() } else { window.to_string() }
}

/// One query a sequence; rows of a cache in any order, a prefix shared by several sequences.
fn decode(suite: &mut Suite, shape: AttentionShape) {
    let AttentionShape { n_heads, n_kv_heads, head_size, window, .. } = shape;
    let n_keys = 700;
    let plan = || {
        let rows = Data::new(7).distinct(n_keys, n_keys);
        let (prefix, own) = rows.split_at(70);
        let mut plan = AttentionPlan { n_keys, ..Default::default() };
        let mut next = 0;
        for (shared, len) in [(70, 1), (70, 9), (0, 1), (70, 33), (3, 64), (0, 300), (70, 0)] {
            let path = [&prefix[..shared], &own[next..next + len]].concat();
            next += len;
            plan.push_queries(1, path.len() - 1, &path);
        }
        plan
    };
    let name = format!("H={n_heads} K={n_kv_heads} E={head_size} window={}", window_name(window));
    cached(suite, format!("attention, decoding, {name}"), shape, n_keys, plan);
}

/// Several queries a run after what the cache already holds: a prompt in pieces.
fn prefill(suite: &mut Suite, shape: AttentionShape) {
    let n_keys = 200;
    let plan = || {
        let rows = Data::new(8).distinct(n_keys, n_keys);
        let mut plan = AttentionPlan { n_keys, ..Default::default() };
        for (first, len) in [(5, 3), (0, 7), (40, 33), (99, 1)] {
            plan.push_queries(len, first, &rows[first..][..first + len]);
        }
        plan
    };
    cached(suite, format!("attention, prompt in pieces, window={}", window_name(shape.window)), shape, n_keys, plan);
}
