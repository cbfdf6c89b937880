//! The kernels besides the product, at the sizes of a SmolLM2 training step on 4 × 256 tokens: time, and how close each comes to
//! the device's two ceilings, which `lapidary doctor` measures too: a copy (y ← y + α x) and a square product.
use super::random;
use engine::backend::{
    AdamWStep, AttentionInputs, AttentionShape, Backend, Choice, Device, Draw, LogProbsBackward, RmsNormBackward,
    Rotation, RowIndex, Trained, Unary,
};
use engine::buffer::{Buffer, Host};
use engine::forest::Forest;
use engine::random::Stream;
use engine::verify::{Tolerance, verify_backend};
use std::time::Instant;
use trainers::doctor::Ceilings;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Tokens, width, heads, key/value heads, head size, MLP width, vocabulary.
const T: usize = 1024;
const D: usize = 576;
const H: usize = 9;
const K: usize = 3;
const E: usize = 64;
const F: usize = 1536;
const V: usize = 49152;
/// Sequences of the batch, and rows of logits at a time.
const SEQUENCES: usize = 4;
const ROWS: usize = 256;

/// A device, its ceilings, and the rows printed for it.
struct Table<'a> {
    device: &'a dyn Backend,
    ceilings: Ceilings,
}

impl Table<'_> {
    /// Times `work` (the median of 9 after 2 to warm up), which moves `floats` numbers at least and does `flops` operations.
    fn row(
        &self,
        name: &str,
        floats: usize,
        flops: usize,
        mut work: impl FnMut() -> engine::Result<()>,
    ) -> Outcome<()> {
        let mut seconds = Vec::new();
        for _ in 0..11 {
            let start = Instant::now();
            work()?;
            self.device.synchronize()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.drain(..2);
        seconds.sort_by(f64::total_cmp);
        let (time, c) = (seconds[4], &self.ceilings);
        let (bytes, flops) = (4.0 * floats as f64 / time, flops as f64 / time);
        let of_product = if flops > 0.0 { format!("{:.0} %", 100.0 * flops / c.flops_per_s) } else { "–".into() };
        let of_copy = 100.0 * bytes / c.bytes_per_s;
        println!("| {name} | {:.3} | {:.1} | {of_copy:.0} % | {of_product} |", 1e3 * time, bytes / 1e9);
        Ok(())
    }
}

/// Compares every kernel with the reference, then prints the table.
pub fn table(device: &Device, ceilings: Ceilings) -> Outcome<()> {
    let tolerance = if device.is_host() { Tolerance::FLOAT32 } else { Tolerance { absolute: 1e-5, relative: 1e-4 } };
    if let Some(report) = verify_backend(device, tolerance).into_iter().find(|report| !report.passed) {
        return Err(format!("{report}: not timed").into());
    }
    println!("\n| kernel | ms | GB/s | of the copy's | of the product's |\n|---|---|---|---|---|");
    let table = Table { device: &**device, ceilings };
    transformer(&table)?;
    attention(&table)?;
    head(&table)?;
    optimiser(&table)
}

fn transformer(t: &Table) -> Outcome<()> {
    let d = t.device;
    let (x, dy, w) = (random(d, T * D, 1)?, random(d, T * D, 2)?, random(d, D, 3)?);
    let (_, rstd) = d.rms_norm(&x, &w, T, D, 1e-5)?;
    t.row("rms_norm", 2 * T * D, 0, || d.rms_norm(&x, &w, T, D, 1e-5).map(drop))?;
    t.row("add_rms_norm", 4 * T * D, 0, || d.add_rms_norm(&x, dy.clone(), &w, T, D, 1e-5).map(drop))?;
    t.row("rms_norm_backward", 3 * T * D, 0, || {
        d.rms_norm_backward(RmsNormBackward { dy: &dy, x: &x, w: &w, rstd: &rstd, m: T, d: D, need_dw: true }, None)
            .map(drop)
    })?;
    t.row("row_norms", T * D, 0, || d.row_norms(&x, T, D).map(drop))?;
    let (dn, norms) = (random(d, T, 10)?, d.row_norms(&x, T, D)?);
    t.row("row_norms_backward", 2 * T * D, 0, || d.row_norms_backward(&dn, &x, &norms, T, D).map(drop))?;
    let (cos_sin, positions) = (random(d, 256 * E, 4)?, d.upload(Host::U32((0..T as u32).map(|i| i % 256).collect()))?);
    t.row("rope", 2 * T * H * E, 0, || {
        d.rope(Rotation {
            x: &x,
            cos_sin: &cos_sin,
            positions: &positions,
            t: T,
            heads: H,
            e: E,
            rotary: E,
            inverse: false,
        })
        .map(drop)
    })?;
    let (gate, up, dy) = (random(d, T * F, 5)?, random(d, T * F, 6)?, random(d, T * F, 7)?);
    t.row("swiglu", 3 * T * F, 0, || d.swiglu(&gate, &up, T * F).map(drop))?;
    t.row("swiglu_backward", 5 * T * F, 0, || d.swiglu_backward(&dy, &gate, &up, T * F).map(drop))?;
    t.row("unary (exp)", 2 * T * F, 0, || d.unary(Unary::Exp, &gate, T * F).map(drop))?;
    let index = RowIndex::new(d, &(0..T as u32).map(|i| i * 37 % V as u32).collect::<Vec<_>>())?;
    let embed = random(d, V * D, 8)?;
    let dx = random(d, T * D, 9)?;
    t.row("gather_rows", 2 * T * D, 0, || d.gather_rows(&embed, &index, D).map(drop))?;
    t.row("scatter_add_rows", T * D + V * D, 0, || d.scatter_add_rows(&dx, &index, V, D).map(drop))
}

fn attention(t: &Table) -> Outcome<()> {
    let d = t.device;
    let length = T / SEQUENCES;
    let forest = Forest::from_sequences(&vec![vec![0; length]; SEQUENCES])?;
    let plan = forest.attention_plan();
    let shape =
        AttentionShape { n_heads: H, n_kv_heads: K, head_size: E, scale: 1.0 / (E as f32).sqrt(), window: usize::MAX };
    let (q, k, v) = (random(d, T * H * E, 1)?, random(d, T * K * E, 2)?, random(d, T * K * E, 3)?);
    let d_o = random(d, T * H * E, 4)?;
    // Of a visible pair: 2 E for the score and 2 E for the value; backward those scores again and five products in all.
    let pairs = SEQUENCES * length * (length + 1) / 2 * H;
    let floats = 2 * T * (H + K) * E;
    t.row("attention", floats, 4 * E * pairs, || {
        d.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }).map(drop)
    })?;
    let (o, lse) = d.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v })?;
    let backward =
        || d.attention_backward(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }, &o, &lse, &d_o).map(drop);
    t.row("attention_backward", 2 * floats, 10 * E * pairs, backward)
}

fn head(t: &Table) -> Outcome<()> {
    let d = t.device;
    let logits = random(d, ROWS * V, 1)?;
    let targets = d.upload(Host::U32((0..ROWS as u32).collect()))?;
    t.row("log_probs", ROWS * V, 0, || d.log_probs(&logits, &targets, ROWS, V).map(drop))?;
    let (lse, dlogp) = (d.log_probs(&logits, &targets, ROWS, V)?.log_sum_exp, random(d, ROWS, 2)?);
    // In place: each run begins with what the last one left.
    let mut z = Some(random(d, ROWS * V, 3)?);
    t.row("log_probs_backward", 2 * ROWS * V, 0, || {
        let own: Buffer = z.take().ok_or(engine::Error::Input("no logits".into()))?;
        z = Some(d.log_probs_backward(
            own,
            LogProbsBackward { targets: &targets, log_sum_exp: &lse, dlogp: &dlogp, m: ROWS, v: V, scale: 1.0 },
        )?);
        Ok(())
    })?;
    // Likelihoods from 1 down to e⁻²⁰.
    let logits = d.unary(Unary::Affine(20.0, 0.0), &random(d, 32 * V, 4)?, 32 * V)?;
    let draws: Vec<Draw> = (0..32).map(|i| Draw { stream: Stream::new(1, i), index: 0, seen: &[] }).collect();
    let all = Choice { greedy: false, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };
    t.row("sample, 32 rows", 32 * V, 0, || d.sample(&logits, V, all, &draws).map(drop))?;
    t.row("sample, 32 rows, top_p 0.9", 32 * V, 0, || {
        d.sample(&logits, V, Choice { top_p: 0.9, ..all }, &draws).map(drop)
    })
}

fn optimiser(t: &Table) -> Outcome<()> {
    let (d, n) = (t.device, V * D);
    let (mut p, mut m, mut v, grad) = (random(d, n, 1)?, d.zeros(n)?, d.zeros(n)?, random(d, n, 2)?);
    let step = AdamWStep { learning_rate: 1e-5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, grad_scale: 1.0 };
    t.row("adamw", 7 * n, 0, || {
        d.adamw(&mut [Trained { p: &mut p, m: &mut m, v: &mut v, grad: &grad, n, weight_decay: 0.0 }], step)
    })?;
    t.row("sum_squares", n, 0, || d.sum_squares(&[(&grad, n)]).map(drop))?;
    t.row("add_scaled", 3 * n, 0, || d.add_scaled(&mut p, 1e-3, &grad, n))
}
