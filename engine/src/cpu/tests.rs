//! The CPU backend against the reference, and against itself: every instruction set, 1, 2, 3 and 7 threads, one set of bits.
use super::*;
use crate::backend::*;
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::forest::Forest;
use crate::random::Stream;
use crate::verify::{Tolerance, verify_backend, verify_invariance};

fn normals(seed: u64, n: usize) -> Vec<f32> {
    let stream = Stream::new(seed, 0);
    (0..n as u64).map(|i| stream.normal(i)).collect()
}

fn buffer(seed: u64, n: usize) -> Buffer {
    Buffer::from_f32(normals(seed, n))
}

#[test]
fn every_level_agrees_with_the_reference() {
    for level in Level::available() {
        let device: crate::backend::Device = Cpu::with_level(Some(2), level).unwrap();
        for report in verify_backend(&device, Tolerance::FLOAT32).iter().chain(&verify_invariance(&device)) {
            assert!(report.passed, "{}: {report}", level.name());
        }
    }
}

/// A value of every kernel, on sizes that are cut into several tasks and leave rims.
fn everything(d: &dyn Backend) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let mut all = Vec::new();
    products(d, &mut all)?;
    elements(d, &mut all)?;
    rows(d, &mut all)?;
    attentions(d, &mut all)?;
    Ok(all)
}

type Values = Vec<(&'static str, Vec<f32>)>;

fn products(d: &dyn Backend, all: &mut Values) -> Result<()> {
    for (name, layout) in [("NN", Layout::NN), ("NT", Layout::NT), ("TN", Layout::TN)] {
        for (m, n, k) in [(131, 397, 541), (3, 401, 300), (397, 61, 259)] {
            let p = Product { layout, m, n, k, alpha: 0.7 };
            let (a, b) = (buffer(1, m * k), buffer(2, n * k));
            let c = d.matmul(p, &a, &b, None)?;
            let c = d.matmul(p, &a, &b, Some(c))?;
            all.push((name, c.f32()?.to_vec()));
        }
    }
    Ok(())
}

/// Weights [n, k] of one dtype.
fn weights(d: &dyn Backend, dtype: DType, n: usize, k: usize) -> Result<Buffer> {
    match dtype {
        DType::Quant(q) => {
            let stream = Stream::new(8, 0);
            let mut blocks: Vec<u8> = (0..dtype.bytes(n * k)).map(|i| stream.below(i as u64, 256) as u8).collect();
            // Scales of moderate size.
            for block in blocks.chunks_exact_mut(q.block_bytes()) {
                let last = block.len() - 1;
                (block[1], block[3], block[last]) = (0x28, 0x24, 0x28);
            }
            d.upload(Host::Blocks(dtype, blocks))
        }
        _ => d.cast(&buffer(7, n * k), n * k, dtype),
    }
}

/// A packed weight gives the bits of the weight: every dtype, level, number of rows and of threads.
#[test]
fn packed_weights_give_the_same_bits() -> Result<()> {
    use crate::dtype::Quant::*;
    let quants = [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K].map(DType::Quant);
    let all = [DType::F32, DType::F16, DType::BF16].into_iter().chain(quants);
    for (dtype, level) in all.flat_map(|t| Level::available().into_iter().map(move |level| (t, level))) {
        for (threads, m, n, k) in
            [(1, 1, 401, 768), (3, 1, 401, 768), (2, 3, 7, 256), (3, 33, 397, 512), (2, 9, 96, 256)]
        {
            let k = if matches!(dtype, DType::Quant(_)) { k } else { k - 3 };
            let d = Cpu::with_level(Some(threads), level)?;
            let (x, w) = (buffer(9, m * k), weights(&*d, dtype, n, k)?);
            let packed = d.pack_weight(&w, n, k)?;
            assert_eq!(packed.dtype(), dtype);
            let p = Product { layout: Layout::NT, m, n, k, alpha: 0.7 };
            let bits = |w: &Buffer| -> Result<Vec<u32>> {
                let y = d.matmul(p, &x, w, None)?;
                let y = d.matmul(p, &x, w, Some(y))?;
                Ok(y.f32()?.iter().map(|y| (y + 0.0).to_bits()).collect())
            };
            assert!(bits(&w)? == bits(&packed)?, "{} {} {m} × {n} × {k}", dtype.name(), level.name());
            assert!(d.matmul(Product { n: n + 1, ..p }, &x, &packed, None).is_err());
            let (back, dy) = (Product { layout: Layout::NN, m, n: k, k: n, alpha: 0.7 }, buffer(11, m * n));
            let index = RowIndex::new(&*d, &[0, n as u32 - 1, n as u32 / 2])?;
            let others = |w: &Buffer| -> Result<Vec<u32>> {
                let (dx, rows) = (d.matmul(back, &dy, w, None)?, d.gather_rows(w, &index, k)?);
                let all = [dx.f32()?, rows.f32()?, d.cast(w, n * k, DType::F32)?.f32()?].concat();
                Ok(all.iter().map(|y| (y + 0.0).to_bits()).collect())
            };
            assert!(others(&w)? == others(&packed)?, "{} {} {m} × {n} × {k}: backward", dtype.name(), level.name());
            let wrong = Product { layout: Layout::TN, m: n, n: k, k: m, alpha: 1.0 };
            assert!(d.matmul(wrong, &dy, &packed, None).is_err(), "no gradient to a packed weight");
        }
    }
    Ok(())
}

fn elements(d: &dyn Backend, all: &mut Values) -> Result<()> {
    let n = 50_021;
    let (x, y, z) = (buffer(3, n), buffer(4, n), buffer(5, n));
    for op in [Unary::Exp, Unary::Ln, Unary::Tanh, Unary::Silu, Unary::LogSigmoid, Unary::Clamp(-0.5, 0.5)] {
        let v = d.unary(op, &x, n)?;
        all.push(("unary_backward", d.unary_backward(op, &x, &v, &y, n)?.f32()?.to_vec()));
        all.push(("unary", v.f32()?.iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect()));
    }
    all.push(("swiglu", d.swiglu(&x, &y, n)?.f32()?.to_vec()));
    let (dgate, dup) = d.swiglu_backward(&x, &y, &z, n)?;
    all.push(("swiglu_backward", [dgate.f32()?, dup.f32()?].concat()));
    all.push(("binary", d.binary(Binary::Div, &x, &buffer(6, 71), 71 * 700, 71)?.f32()?.to_vec()));
    all.push(("dropout", d.dropout(&x, n, 0.3, Stream::new(1, 2))?.f32()?.to_vec()));
    let (mut p, mut m, mut v) = (x.clone(), d.zeros(n)?, d.zeros(n)?);
    let step = AdamWStep { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step: 2, grad_scale: 0.5 };
    let tensor = Trained { p: &mut p, m: &mut m, v: &mut v, grad: &y, n, weight_decay: 0.1 };
    d.adamw(&mut [tensor], step)?;
    d.add_scaled(&mut p, 0.3, &z, n)?;
    all.push(("adamw", [p.f32()?, m.f32()?, v.f32()?].concat()));
    let half = d.cast(&d.cast(&x, n, DType::BF16)?, n, DType::F32)?;
    all.push(("cast", half.f32()?.to_vec()));
    let sum = d.sum_squares(&[(&x, n), (&y, 7)])?;
    all.push(("sum_squares", sum.iter().flat_map(|s| [*s as f32, (s - f64::from(*s as f32)) as f32]).collect()));
    Ok(())
}

fn rows(d: &dyn Backend, all: &mut Values) -> Result<()> {
    let (m, w) = (300, 577);
    let (x, dy, weight) = (buffer(7, m * w), buffer(8, m * w), buffer(9, w));
    let (y, rstd) = d.rms_norm(&x, &weight, m, w, 1e-5)?;
    all.push(("rms_norm", [y.f32()?, rstd.f32()?].concat()));
    let (dx, dw) =
        d.rms_norm_backward(RmsNormBackward { dy: &dy, x: &x, w: &weight, rstd: &rstd, m, d: w, need_dw: true }, None)?;
    all.push(("rms_norm_backward", [dx.f32()?, dw.as_ref().map_or(Ok(&[][..]), Buffer::f32)?].concat()));
    let (s, y, rstd) = d.add_rms_norm(&x, dy.clone(), &weight, m, w, 1e-5)?;
    all.push(("add_rms_norm", [s.f32()?, y.f32()?, rstd.f32()?].concat()));
    let (dx, _) = d.rms_norm_backward(
        RmsNormBackward { dy: &dy, x: &s, w: &weight, rstd: &rstd, m, d: w, need_dw: false },
        Some(x.clone()),
    )?;
    all.push(("rms_norm_backward", dx.f32()?.to_vec()));
    all.push(("sum_rows", d.sum_rows(&x, m, w)?.f32()?.to_vec()));
    let index: Vec<u32> = (0..m as u32).map(|i| i * i % 97).collect();
    let index = RowIndex::new(d, &index)?;
    all.push(("gather_rows", d.gather_rows(&x, &index, w)?.f32()?.to_vec()));
    all.push(("scatter_add_rows", d.scatter_add_rows(&dy, &index, 100, w)?.f32()?.to_vec()));
    let positions = d.upload(Host::U32(index.rows.clone()))?;
    let table = buffer(10, 97 * 48);
    all.push((
        "rope",
        d.rope(Rotation {
            x: &buffer(11, m * 3 * 50),
            cos_sin: &table,
            positions: &positions,
            t: m,
            heads: 3,
            e: 50,
            rotary: 48,
            inverse: true,
        })?
        .f32()?
        .to_vec(),
    ));
    let targets = d.upload(Host::U32(index.rows.clone()))?;
    let out = d.log_probs(&x, &targets, m, w)?;
    all.push(("log_probs", [out.logp.f32()?, out.entropy.f32()?, out.log_sum_exp.f32()?].concat()));
    let draw = |i: u64| Draw { stream: Stream::new(4, i), index: i, seen: &[1, 500] };
    let draws: Vec<Draw<'_>> = (0..m as u64).map(draw).collect();
    for (top_k, top_p) in [(0, 1.0), (0, 0.9), (40, 1.0)] {
        let choice = Choice { greedy: false, top_k, top_p, min_p: 0.0, repetition_penalty: 1.2 };
        let tokens = d.sample(&x, w, choice, &draws)?;
        all.push(("sample", tokens.u32()?.iter().map(|t| *t as f32).collect()));
    }
    let dx = d.log_probs_backward(
        x,
        LogProbsBackward { targets: &targets, log_sum_exp: &out.log_sum_exp, dlogp: &rstd, m, v: w, scale: 0.7 },
    )?;
    all.push(("log_probs_backward", dx.f32()?.to_vec()));
    Ok(())
}

fn attentions(d: &dyn Backend, all: &mut Values) -> Result<()> {
    let mut forest = Forest::new();
    for (parent, len) in [(None, 90), (Some(0), 77), (Some(1), 40), (Some(0), 33), (None, 61), (None, 1)] {
        forest.push(parent, &vec![0; len])?;
    }
    let (plan, t) = (forest.attention_plan(), forest.n_tokens());
    for window in [60, usize::MAX] {
        let shape = AttentionShape { n_heads: 6, n_kv_heads: 2, head_size: 20, scale: 0.3, window };
        let [q, d_o] = [12, 13].map(|seed| buffer(seed, t * 6 * 20));
        let [k, v] = [14, 15].map(|seed| buffer(seed, t * 2 * 20));
        let (o, lse) = d.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v })?;
        let (dq, dk, dv) =
            d.attention_backward(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }, &o, &lse, &d_o)?;
        all.push(("attention", [o.f32()?, lse.f32()?].concat()));
        all.push(("attention_backward", [dq.f32()?, dk.f32()?, dv.f32()?].concat()));
    }
    Ok(())
}

/// The first value whose bits differ.
fn difference(a: &Values, b: &Values) -> Option<String> {
    for ((name, a), (_, b)) in a.iter().zip(b) {
        if let Some(i) =
            (0..a.len().max(b.len())).find(|&i| a.get(i).map(|x| x.to_bits()) != b.get(i).map(|x| x.to_bits()))
        {
            return Some(format!("{name}[{i}]: {:?} and {:?}", a.get(i), b.get(i)));
        }
    }
    None
}

#[test]
fn same_bits_for_any_threads_and_any_level() {
    let baseline = everything(&*Cpu::with_level(Some(1), Level::Scalar).unwrap()).unwrap();
    for level in Level::available() {
        for threads in [1, 2, 3, 7] {
            let values = everything(&*Cpu::with_level(Some(threads), level).unwrap()).unwrap();
            assert_eq!(difference(&baseline, &values), None, "{} with {threads} threads", level.name());
        }
    }
}

/// What the rule forbids, planted: sums whose order depends on the number of threads, or another block along k.
#[test]
fn a_planted_violation_is_found() {
    let x = normals(16, 10_000);
    let parallel_sum = |threads: usize| -> f32 {
        let partial: Vec<f32> = x.chunks(x.len().div_ceil(threads)).map(|x| x.iter().sum()).collect();
        partial.iter().sum()
    };
    let sums = |threads: usize| vec![("sum", vec![parallel_sum(threads)])];
    assert!((2..8).any(|threads| difference(&sums(1), &sums(threads)).is_some()));

    let (m, n, k) = (5, 40, 700);
    let (a, b) = (normals(17, m * k), normals(18, n * k));
    let product = |block: usize| {
        let mut c = vec![0f32; m * n];
        for from in (0..k).step_by(block) {
            for i in 0..m {
                for j in 0..n {
                    let pairs = from..(from + block).min(k);
                    let sum = pairs.fold(0f32, |sum, p| a[i * k + p].mul_add(b[j * k + p], sum));
                    c[i * n + j] += sum;
                }
            }
        }
        vec![("product", c)]
    };
    let cpu = Cpu::new(Some(2)).unwrap();
    let p = Product { layout: Layout::NT, m, n, k, alpha: 1.0 };
    let c = cpu.matmul(p, &Buffer::from_f32(a.clone()), &Buffer::from_f32(b.clone()), None).unwrap();
    let ours = vec![("product", c.f32().unwrap().to_vec())];
    assert_eq!(difference(&ours, &product(256)), None);
    assert!(difference(&ours, &product(128)).is_some());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let d = Cpu::new(Some(2)).unwrap();
    let (a, b) = (buffer(1, 12), buffer(2, 20));
    let p = Product { layout: Layout::NT, m: 3, n: 5, k: 4, alpha: 1.0 };
    let said = |r: Result<Buffer>, words: &str| {
        let message = r.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    assert!(d.matmul(p, &a, &b, None).is_ok());
    said(d.matmul(Product { k: 5, ..p }, &a, &b, None), "A has 12 elements, the shapes say 15");
    said(d.matmul(Product { n: 6, ..p }, &a, &b, None), "B has 20 elements, the shapes say 24");
    said(d.matmul(p, &a, &b, Some(buffer(3, 14))), "C has 14 elements, the shapes say 15");
    said(d.matmul(Product { m: usize::MAX, ..p }, &a, &b, None), "too large");
    said(d.matmul(p, &d.upload(Host::U32(vec![0; 12])).unwrap(), &b, None), "A is uint32");
    said(d.unary(Unary::Exp, &a, 13), "x has 12");
    said(d.binary(Binary::Add, &a, &b, 12, 5), "no multiple");
    said(d.binary(Binary::Add, &a, &b, 12, 0), "no multiple");
    said(d.gather_rows(&a, &RowIndex::new(&*d, &[3]).unwrap(), 4), "table has 12");
    said(d.scatter_add_rows(&a, &RowIndex::new(&*d, &[0, 9, 1]).unwrap(), 9, 4), "row 9");
    let positions = d.upload(Host::U32(vec![0, 7])).unwrap();
    said(
        d.rope(Rotation { x: &a, cos_sin: &b, positions: &positions, t: 2, heads: 1, e: 6, rotary: 4, inverse: false }),
        "cos_sin has 20",
    );
    said(
        d.rope(Rotation { x: &a, cos_sin: &b, positions: &positions, t: 2, heads: 1, e: 6, rotary: 3, inverse: false }),
        "even",
    );
    assert!(d.log_probs(&a, &positions, 2, 6).is_err());
    let plan = Forest::from_sequences(&[[1, 2, 3]]).unwrap().attention_plan();
    let shape = AttentionShape { n_heads: 2, n_kv_heads: 1, head_size: 4, scale: 1.0, window: usize::MAX };
    assert!(
        d.attention(AttentionInputs { shape, plan: &plan, q: &a, k: &a, v: &a })
            .unwrap_err()
            .to_string()
            .contains("q has 12")
    );
    assert!(
        d.attention(AttentionInputs {
            shape: AttentionShape { n_kv_heads: 0, ..shape },
            plan: &plan,
            q: &b,
            k: &a,
            v: &a
        })
        .is_err()
    );
    let mut broken = Forest::from_sequences(&[[1, 2, 3]]).unwrap().attention_plan();
    broken.path_rows[1] = 7;
    assert!(
        d.attention(AttentionInputs { shape, plan: &broken, q: &buffer(3, 24), k: &a, v: &a })
            .unwrap_err()
            .to_string()
            .contains("key row 7")
    );
    assert!(Cpu::new(Some(0)).is_err());
    assert_eq!(Cpu::new(Some(3)).unwrap().n_threads(), 3);
}

/// A diverged value is seen to the end, on every backend that losses run on.
#[test]
fn not_a_number_stays_not_a_number() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let (nan, one) = (Buffer::from_f32(vec![f32::NAN; 20]), Buffer::from_f32(vec![1.0; 20]));
    for d in [&*cpu as &dyn Backend, &crate::reference::Reference] {
        for op in [Unary::Relu, Unary::Clamp(-1.0, 1.0), Unary::Exp, Unary::LogSigmoid, Unary::Tanh, Unary::Abs] {
            let y = d.unary(op, &nan, 20).unwrap();
            assert!(y.f32().unwrap().iter().all(|y| y.is_nan()), "{op:?} on {}", d.name());
        }
        for op in [Binary::Min, Binary::Max, Binary::Add] {
            for (a, b) in [(&nan, &one), (&one, &nan)] {
                let y = d.binary(op, a, b, 20, 20).unwrap();
                assert!(y.f32().unwrap().iter().all(|y| y.is_nan()), "{op:?} on {}", d.name());
            }
        }
    }
}

#[test]
fn buffers_that_others_hold_are_not_changed() {
    let d = Cpu::new(Some(1)).unwrap();
    let (mut y, x) = (buffer(1, 8), buffer(2, 8));
    let before = y.clone();
    d.add_scaled(&mut y, 1.0, &x, 8).unwrap();
    assert_eq!(before.f32().unwrap(), normals(1, 8));
    assert_ne!(y.f32().unwrap(), before.f32().unwrap());
}

/// The fused norm computes the bits of its parts: whether a sum is taken on its own (as where activations are not kept) changes
/// no number.
#[test]
fn a_fused_norm_gives_the_bits_of_its_parts() {
    let cpu = Cpu::new(Some(2)).unwrap();
    let (m, d) = (70, 577);
    let (x, f, w, dy) = (buffer(1, m * d), buffer(2, m * d), buffer(3, d), buffer(4, m * d));
    let sum = cpu.binary(Binary::Add, &x, &f, m * d, m * d).unwrap();
    let (y, rstd) = cpu.rms_norm(&sum, &w, m, d, 1e-5).unwrap();
    let fused = cpu.add_rms_norm(&x, f, &w, m, d, 1e-5).unwrap();
    assert_eq!([fused.0, fused.1, fused.2].each_ref().map(|b| b.f32().unwrap().to_vec()), {
        [&sum, &y, &rstd].map(|b| b.f32().unwrap().to_vec())
    });
    let (dx, dw) = cpu
        .rms_norm_backward(RmsNormBackward { dy: &dy, x: &sum, w: &w, rstd: &rstd, m, d, need_dw: true }, None)
        .unwrap();
    let mut added = x.clone();
    cpu.add_scaled(&mut added, 1.0, &dx, m * d).unwrap();
    let (onto, dw_onto) = cpu
        .rms_norm_backward(RmsNormBackward { dy: &dy, x: &sum, w: &w, rstd: &rstd, m, d, need_dw: true }, Some(x))
        .unwrap();
    assert_eq!(onto.f32().unwrap(), added.f32().unwrap());
    assert_eq!(dw_onto.unwrap().f32().unwrap(), dw.unwrap().f32().unwrap());
}

/// The slower kernels of attention are those that are read first: they must be right, and say what the fast one says.
#[test]
fn rungs_of_attention() {
    let level = Level::best();
    let rungs = [AttentionRung::Plain, AttentionRung::Tiled, AttentionRung::Shared];
    let cpus = rungs.map(|rung| Cpu::with_rung(Some(2), level, rung).unwrap());
    for (rung, cpu) in rungs.iter().zip(&cpus) {
        let device: Device = cpu.clone();
        let reports = crate::verify::verify_attention(&device, Tolerance::FLOAT32, "");
        assert!(reports.len() > 100, "{} cases", reports.len());
        let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{rung:?}: {failed:#?}");
    }
    // Each against the others: a prompt with two answers, a window that cuts, two query heads to a key head.
    let mut forest = Forest::new();
    let prompt = forest.push(None, &[0; 70]).unwrap();
    forest.push(Some(prompt), &[0; 9]).unwrap();
    forest.push(Some(prompt), &[0; 66]).unwrap();
    let (plan, t) = (forest.attention_plan(), forest.n_tokens());
    let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_size: 24, scale: 0.2, window: 67 };
    let [q, d_o] = [1, 2].map(|seed| buffer(seed, t * 4 * 24));
    let [k, v] = [3, 4].map(|seed| buffer(seed, t * 2 * 24));
    let all = cpus.map(|cpu| {
        let inputs = AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v };
        let (o, lse) = cpu.attention(inputs).unwrap();
        let (dq, dk, dv) = cpu.attention_backward(inputs, &o, &lse, &d_o).unwrap();
        [o, lse, dq, dk, dv].iter().flat_map(|x| x.f32().unwrap().to_vec()).collect::<Vec<f32>>()
    });
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let far = all[a].iter().zip(&all[b]).map(|(x, y)| (x - y).abs() / (1.0 + y.abs())).fold(0.0, f32::max);
        assert!(far < 1e-5, "{:?} and {:?} are {far} apart", rungs[a], rungs[b]);
    }
}

/// The first steps of one weight. t = 1: m = 0.1 g and v = 0.001 g², corrected g and g², so that p moves by η whatever g is;
/// 1 − 0.1 · 0.5 − 0.1 with decay. t = 2, g = −0.5: m = 0.9 · 0.05 − 0.05 = −0.005, corrected −0.005 / 0.19; v corrected 0.25.
#[test]
fn adamw_by_hand() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let one = |x: f32| Buffer::from_f32(vec![x]);
    for (weight_decay, first, second) in [(0.0, 0.9, 0.9 + 0.1 / 19.0), (0.5, 0.85, 0.85 * 0.95 + 0.1 / 19.0)] {
        let (mut p, mut m, mut v) = (one(1.0), one(0.0), one(0.0));
        for (step, g, expected) in [(1, 0.5, first), (2, -0.5, second)] {
            let grad = one(g);
            let tensor = Trained { p: &mut p, m: &mut m, v: &mut v, grad: &grad, n: 1, weight_decay };
            let (learning_rate, beta1, beta2, epsilon) = (0.1, 0.9, 0.999, 1e-8);
            cpu.adamw(&mut [tensor], AdamWStep { learning_rate, beta1, beta2, epsilon, step, grad_scale: 1.0 })
                .unwrap();
            approx::assert_relative_eq!(p.f32().unwrap()[0], expected, max_relative = 1e-6);
        }
    }
}

/// y does not change where all of x grows by one factor: dx has nothing along x, however large x is.
#[test]
fn the_gradient_of_a_norm_is_orthogonal_to_its_input() {
    let (cpu, m, d) = (Cpu::new(Some(1)).unwrap(), 3, 65);
    let (w, dy) = (buffer(1, d), buffer(2, m * d));
    for size in [0.1, 1.0, 20.0] {
        let x = Buffer::from_f32(normals(3, m * d).iter().map(|x| x * size).collect());
        let (_, rstd) = cpu.rms_norm(&x, &w, m, d, 0.0).unwrap();
        let inputs = RmsNormBackward { dy: &dy, x: &x, w: &w, rstd: &rstd, m, d, need_dw: false };
        let (dx, _) = cpu.rms_norm_backward(inputs, None).unwrap();
        for (x, dx) in x.f32().unwrap().chunks(d).zip(dx.f32().unwrap().chunks(d)) {
            let along: f32 = x.iter().zip(dx).map(|(x, dx)| x * dx).sum();
            let all: f32 = x.iter().zip(dx).map(|(x, dx)| (x * dx).abs()).sum();
            assert!(along.abs() < 1e-4 * all, "size {size}: {along} of {all} along x");
        }
    }
}

/// A number added to all logits of a row changes no probability: ln ¼ and ln ¾, also where e^logit is no float32.
#[test]
fn log_probs_of_large_logits() {
    let cpu = Cpu::new(Some(1)).unwrap();
    for shift in [0.0f32, 95.0, -120.0, 1000.0] {
        let logits = Buffer::from_f32([shift, shift + 3f32.ln()].repeat(2));
        let targets = Buffer::host(Host::U32(vec![0, 1]));
        let found = cpu.log_probs(&logits, &targets, 2, 2).unwrap();
        approx::assert_relative_eq!(found.logp.f32().unwrap(), &[0.25f32.ln(), 0.75f32.ln()][..], max_relative = 1e-4);
    }
}
