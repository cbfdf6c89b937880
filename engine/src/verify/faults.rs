//! The tests of the tests: the suite passes the reference against itself, and flags every fault planted in it.
use super::*;
use crate::backend::*;
use crate::forest::{AttentionPlan, Run};
use std::sync::Arc;

/// One mistake each, of the kinds that kernels really have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    UnaryUpstream,
    ClampBounds,
    BroadcastByBlocks,
    AlphaOfAddScaled,
    DropoutWithoutScale,
    DropoutOtherStream,
    CastTruncates,
    SumWithoutLastRow,
    SumSquaresFirstBlock,
    SumSquaresOfNeighbour,
    LastRow,
    LastColumn,
    LastOfK,
    BeyondBlockOfK,
    AlphaOfMatmul,
    CIgnored,
    HalvesMistaken,
    GatherNextRow,
    ScatterLosesRepeats,
    WriteInOrder,
    EpsilonOfNorm,
    NormUpstream,
    NormWithoutProjection,
    NormOntoNothing,
    NormOfOneTerm,
    SumNotKept,
    RowNormSquared,
    RowNormUpstream,
    RowOfZeros,
    RopePositions,
    RopeWholeHead,
    RopeNotInverted,
    SwigluUpstream,
    SwigluSwapped,
    ScoreScale,
    ScoreScaleBackward,
    Window,
    WindowBackward,
    OwnKey,
    SiblingsBackward,
    HeadGroups,
    AttentionUpstream,
    NextTarget,
    LastMaximum,
    EntropyOfTarget,
    LogProbsUpstream,
    LogProbsScale,
    SoftmaxForgotten,
    NumberOfFirstRow,
    NumberOfFirstDraw,
    DrawnFromTheEnd,
    EqualsFromTheEnd,
    OneMoreThanK,
    TopPIgnored,
    MinPIgnored,
    NegativesDivided,
    SeenByNextRow,
    BiasCorrection,
    WeightDecay,
    GradScale,
    Epsilon,
    FirstTensors,
    DecayOfNeighbour,
    OneRowAlone,
    OneElementAlone,
    DecodedAlone,
}

/// The reference with one fault.
#[derive(Debug)]
struct Faulty(Fault);

fn ones(n: usize) -> Buffer {
    Buffer::from_f32(vec![1.0; n])
}

/// A copy of `x`, changed.
fn changed(x: &Buffer, change: impl FnOnce(&mut Vec<f32>)) -> Result<Buffer> {
    let mut values = x.f32()?.to_vec();
    change(&mut values);
    Ok(Buffer::from_f32(values))
}

/// Another order of summation: the last bit differs.
fn next_float(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() ^ 1));
}

/// The plan with other runs, paths and ends.
fn replanned(plan: &AttentionPlan, change: impl FnOnce(&mut AttentionPlan)) -> AttentionPlan {
    let mut copy = AttentionPlan {
        runs: plan.runs.clone(),
        path_rows: plan.path_rows.clone(),
        n_keys: plan.n_keys,
        positions: plan.positions.clone(),
        ends: plan.ends.clone(),
        ..Default::default()
    };
    change(&mut copy);
    copy
}

/// x [rows, H, width] with head h moved to where h/(H/K) puts the heads that belong to key head h mod K, or back.
fn regrouped(x: &Buffer, shape: AttentionShape, width: usize, back: bool) -> Result<Buffer> {
    let (h, k) = (shape.n_heads, shape.n_kv_heads);
    changed(x, |values| {
        let old = values.clone();
        for (i, from) in old.chunks(width).enumerate() {
            let (row, head) = (i / h, i % h);
            let other = row * h + head % k * (h / k) + head / k;
            let (to, from) = if back { (i, &old[other * width..][..width]) } else { (other, from) };
            values[to * width..][..width].copy_from_slice(from);
        }
    })
}

impl Backend for Faulty {
    fn name(&self) -> String {
        format!("reference with {:?}", self.0)
    }

    fn is_host(&self) -> bool {
        true
    }
}

impl Memory for Faulty {
    fn upload(&self, values: Host) -> Result<Buffer> {
        Reference.upload(values)
    }

    fn download(&self, x: &Buffer) -> Result<Host> {
        Reference.download(x)
    }

    fn zeros(&self, n: usize) -> Result<Buffer> {
        Reference.zeros(n)
    }

    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        Reference.download_f32(xs)
    }

    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        if self.0 == Fault::CastTruncates && to == DType::BF16 {
            let wide = Reference.cast(x, n, DType::F32)?;
            let bits = wide.f32()?.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
            return Ok(Buffer::host(Host::Half(to, bits)));
        }
        Reference.cast(x, n, to)
    }
}

impl Elementwise for Faulty {
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        let y = Reference.unary(op, x, n)?;
        if self.0 == Fault::OneElementAlone && n == 1 { changed(&y, |y| next_float(y)) } else { Ok(y) }
    }

    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        match (self.0, op) {
            (Fault::UnaryUpstream, _) => Reference.unary_backward(op, x, y, &ones(n), n),
            (Fault::ClampBounds, Unary::Clamp(lo, hi)) => {
                let inside = Unary::Clamp(lo + 1e-4, hi - 1e-4);
                Reference.unary_backward(inside, x, y, dy, n)
            }
            _ => Reference.unary_backward(op, x, y, dy, n),
        }
    }

    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        if self.0 == Fault::BroadcastByBlocks {
            let b = b.f32()?;
            let spread = (0..n).map(|i| b[i / (n / n_b)]).collect();
            return Reference.binary(op, a, &Buffer::from_f32(spread), n, n);
        }
        Reference.binary(op, a, b, n, n_b)
    }

    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        let alpha = if self.0 == Fault::AlphaOfAddScaled { 1.0 } else { alpha };
        Reference.add_scaled(y, alpha, x, n)
    }

    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        match self.0 {
            Fault::DropoutWithoutScale => {
                let y = Reference.dropout(x, n, p, stream)?;
                changed(&y, |y| y.iter_mut().for_each(|y| *y *= 1.0 - p))
            }
            Fault::DropoutOtherStream => Reference.dropout(x, n, p, Stream { key: [stream.key[1], stream.key[0]] }),
            _ => Reference.dropout(x, n, p, stream),
        }
    }

    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        let (gate, up) = if self.0 == Fault::SwigluSwapped { (up, gate) } else { (gate, up) };
        Reference.swiglu(gate, up, n)
    }

    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        let dy = if self.0 == Fault::SwigluUpstream { &ones(n) } else { dy };
        Reference.swiglu_backward(dy, gate, up, n)
    }
}

impl Sums for Faulty {
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        Reference.sum_rows(x, if self.0 == Fault::SumWithoutLastRow { m - 1 } else { m }, n)
    }

    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        let cut = |n: usize| if self.0 == Fault::SumSquaresFirstBlock { n.min(65_536) } else { n };
        let mut sums = Reference.sum_squares(&xs.iter().map(|&(x, n)| (x, cut(n))).collect::<Vec<_>>())?;
        if self.0 == Fault::SumSquaresOfNeighbour {
            sums.rotate_left(1);
        }
        Ok(sums)
    }
}

impl Products for Faulty {
    fn matmul(&self, mut p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        let Product { layout, m, n, k, .. } = p;
        let without = |first: usize| {
            let lost = move |i: usize| if layout == Layout::TN { i / m >= first } else { i % k >= first };
            changed(a, |a| a.iter_mut().enumerate().for_each(|(i, a)| *a = if lost(i) { 0.0 } else { *a }))
        };
        match self.0 {
            Fault::AlphaOfMatmul => p.alpha = 1.0,
            Fault::HalvesMistaken => {
                if let Host::Half(dtype, bits) = b.as_host()? {
                    let other = if *dtype == DType::F16 { DType::BF16 } else { DType::F16 };
                    return Reference.matmul(p, a, &Buffer::host(Host::Half(other, bits.clone())), c);
                }
            }
            Fault::CIgnored => return Reference.matmul(p, a, b, None),
            Fault::LastOfK => return Reference.matmul(p, &without(k - 1)?, b, c),
            Fault::BeyondBlockOfK => return Reference.matmul(p, &without(k.max(256) / 256 * 256)?, b, c),
            _ => {}
        }
        let product = Reference.matmul(p, a, b, c)?;
        match self.0 {
            Fault::LastRow => changed(&product, |c| c[(m - 1) * n..].fill(0.0)),
            Fault::LastColumn => changed(&product, |c| c.iter_mut().skip(n - 1).step_by(n).for_each(|c| *c = 0.0)),
            Fault::OneRowAlone if m == 1 => changed(&product, |c| next_float(c)),
            _ => Ok(product),
        }
    }
}

impl TableRows for Faulty {
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        if self.0 == Fault::GatherNextRow {
            let last = index.distinct.last().copied().unwrap_or(0);
            let next: Vec<u32> = index.rows.iter().map(|&r| (r + 1).min(last)).collect();
            return Reference.gather_rows(table, &RowIndex::new(self, &next)?, d);
        }
        Reference.gather_rows(table, index, d)
    }

    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        if self.0 == Fault::ScatterLosesRepeats {
            let lost = |i: usize| index.rows[i + 1..].contains(&index.rows[i]);
            let dy = changed(dy, |dy| {
                (0..index.len()).filter(|&i| lost(i)).for_each(|i| dy[i * d..][..d].fill(0.0));
            });
            return Reference.scatter_add_rows(&dy?, index, n_rows, d);
        }
        Reference.scatter_add_rows(dy, index, n_rows, d)
    }

    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        if self.0 == Fault::WriteInOrder {
            return Reference.write_rows(cache, x, &RowIndex::new(self, &index.distinct)?, d);
        }
        Reference.write_rows(cache, x, index, d)
    }
}

impl Norms for Faulty {
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        Reference.rms_norm(x, w, m, d, if self.0 == Fault::EpsilonOfNorm { 0.0 } else { epsilon })
    }

    fn add_rms_norm(
        &self,
        x: &Buffer,
        f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let (s, y, rstd) = Reference.add_rms_norm(x, f.clone(), w, m, d, epsilon)?;
        match self.0 {
            Fault::NormOfOneTerm => {
                let (y, rstd) = Reference.rms_norm(&f, w, m, d, epsilon)?;
                Ok((s, y, rstd))
            }
            Fault::SumNotKept => Ok((x.clone(), y, rstd)),
            _ => Ok((s, y, rstd)),
        }
    }

    fn rms_norm_backward(&self, inputs: RmsNormBackward<'_>, onto: Option<Buffer>) -> Result<(Buffer, Option<Buffer>)> {
        let RmsNormBackward { dy, w, rstd, m, d, .. } = inputs;
        match self.0 {
            Fault::NormUpstream => Reference.rms_norm_backward(RmsNormBackward { dy: &ones(m * d), ..inputs }, onto),
            Fault::NormWithoutProjection => {
                let (_, dw) = Reference.rms_norm_backward(inputs, onto)?;
                let (w, r) = (w.f32()?.to_vec(), rstd.f32()?.to_vec());
                let dx = changed(dy, |dx| {
                    dx.iter_mut().enumerate().for_each(|(i, dx)| *dx *= w[i % d] * r[i / d]);
                })?;
                Ok((dx, dw))
            }
            Fault::NormOntoNothing => Reference.rms_norm_backward(inputs, None),
            _ => Reference.rms_norm_backward(inputs, onto),
        }
    }
    fn row_norms(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let y = Reference.row_norms(x, m, n)?;
        if self.0 == Fault::RowNormSquared { changed(&y, |y| y.iter_mut().for_each(|y| *y *= *y)) } else { Ok(y) }
    }
    fn row_norms_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        match self.0 {
            Fault::RowNormUpstream => Reference.row_norms_backward(&ones(m), x, y, m, n),
            // 0 / 0
            Fault::RowOfZeros => {
                let smallest = changed(y, |y| y.iter_mut().for_each(|y| *y += 1e-30))?;
                let x = changed(x, |x| x.iter_mut().for_each(|x| *x += 1e-30))?;
                Reference.row_norms_backward(dy, &x, &smallest, m, n)
            }
            _ => Reference.row_norms_backward(dy, x, y, m, n),
        }
    }
}

impl Rotary for Faulty {
    fn rope(&self, rotation: Rotation<'_>) -> Result<Buffer> {
        let Rotation { cos_sin, t, e, rotary, .. } = rotation;
        let rows = Buffer::host(Host::U32((0..t as u32).map(|i| i % 70).collect()));
        match self.0 {
            Fault::RopePositions => Reference.rope(Rotation { positions: &rows, ..rotation }),
            Fault::RopeNotInverted => Reference.rope(Rotation { inverse: false, ..rotation }),
            Fault::RopeWholeHead => {
                // the angles repeated up to the size of the head
                let wide = cos_sin.f32()?.chunks(rotary).flat_map(|a| a.iter().copied().cycle().take(e)).collect();
                Reference.rope(Rotation { cos_sin: &Buffer::from_f32(wide), rotary: e, ..rotation })
            }
            _ => Reference.rope(rotation),
        }
    }
}

impl SoftmaxAttention for Faulty {
    fn attention(&self, inputs: AttentionInputs<'_>) -> Result<(Buffer, Buffer)> {
        let AttentionInputs { mut shape, plan, q, k, v } = inputs;
        match self.0 {
            Fault::ScoreScale => shape.scale = 1.0,
            Fault::Window => shape.window = shape.window.saturating_add(1),
            Fault::OwnKey => {
                // every path one row late: the query's own key is not seen, its parent's twice
                let late = replanned(plan, |plan| {
                    for Run { len, first_position, path_offset, .. } in plan.runs.clone() {
                        plan.path_rows[path_offset..][..first_position + len].rotate_right(1);
                    }
                });
                return Reference.attention(AttentionInputs { shape, plan: &late, q, k, v });
            }
            Fault::HeadGroups => {
                let q = regrouped(q, shape, shape.head_size, false)?;
                let (o, lse) = Reference.attention(AttentionInputs { shape, plan, q: &q, k, v })?;
                return Ok((regrouped(&o, shape, shape.head_size, true)?, regrouped(&lse, shape, 1, true)?));
            }
            Fault::DecodedAlone if plan.runs.iter().all(|run| run.len == 1) => {
                let (o, lse) = Reference.attention(AttentionInputs { shape, plan, q, k, v })?;
                return Ok((changed(&o, |o| next_float(o))?, lse));
            }
            _ => {}
        }
        Reference.attention(AttentionInputs { shape, plan, q, k, v })
    }

    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let AttentionInputs { mut shape, plan, q, k, v } = inputs;
        let mut faulty_plan = replanned(plan, |_| {});
        let all = ones(d_o.f32()?.len());
        let mut d_o = d_o;
        match self.0 {
            Fault::ScoreScaleBackward => shape.scale = 1.0,
            Fault::WindowBackward => shape.window = shape.window.saturating_add(1),
            Fault::AttentionUpstream => d_o = &all,
            // a row is seen once too often: by the first row after its subtree
            Fault::SiblingsBackward => faulty_plan.ends.iter_mut().for_each(|end| *end += 1),
            _ => {}
        }
        Reference.attention_backward(AttentionInputs { shape, plan: &faulty_plan, q, k, v }, o, lse, d_o)
    }
}

impl LmHead for Faulty {
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        let mut p = Reference.log_probs(logits, targets, m, v)?;
        match self.0 {
            Fault::NextTarget => {
                let next = targets.u32()?.iter().map(|&t| (t + 1) % v as u32).collect();
                p.logp = Reference.log_probs(logits, &Buffer::host(Host::U32(next)), m, v)?.logp;
            }
            Fault::LastMaximum => {
                let last = |x: &[f32]| (0..v).max_by(|&i, &j| x[i].total_cmp(&x[j])).unwrap_or(0) as u32;
                p.argmax = Buffer::host(Host::U32(logits.f32()?.chunks(v).map(last).collect()));
            }
            Fault::EntropyOfTarget => p.entropy = changed(&p.logp, |x| x.iter_mut().for_each(|x| *x = -*x))?,
            _ => {}
        }
        Ok(p)
    }

    fn log_probs_backward(&self, logits: Buffer, inputs: LogProbsBackward<'_>) -> Result<Buffer> {
        let (all, infinite) = (ones(inputs.m), Buffer::from_f32(vec![f32::INFINITY; inputs.m]));
        let mut inputs = inputs;
        match self.0 {
            Fault::LogProbsUpstream => inputs.dlogp = &all,
            Fault::LogProbsScale => inputs.scale = 1.0,
            Fault::SoftmaxForgotten => inputs.log_sum_exp = &infinite,
            _ => {}
        }
        Reference.log_probs_backward(logits, inputs)
    }
}

impl Sample for Faulty {
    fn sample(&self, logits: &Buffer, v: usize, mut choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        let mut draws = draws.to_vec();
        let mut z = logits.clone();
        let from_the_end = |x: &Buffer| changed(x, |x| x.chunks_mut(v).for_each(<[f32]>::reverse));
        match self.0 {
            Fault::NumberOfFirstRow => draws.iter_mut().for_each(|draw| draw.stream = Stream::new(7, 0)),
            Fault::NumberOfFirstDraw => draws.iter_mut().for_each(|draw| draw.index = 0),
            Fault::DrawnFromTheEnd if choice.repetition_penalty == 1.0 && !choice.greedy => {
                let tokens = Reference.sample(&from_the_end(&z)?, v, choice, &draws)?;
                let tokens = tokens.u32()?.iter().map(|t| v as u32 - 1 - t).collect();
                return Ok(Buffer::host(Host::U32(tokens)));
            }
            Fault::EqualsFromTheEnd => {
                z = changed(&z, |z| z.iter_mut().enumerate().for_each(|(i, z)| *z += 1e-5 * (i % v) as f32))?;
            }
            Fault::OneMoreThanK if choice.top_k > 0 => choice.top_k = choice.top_k.saturating_add(1),
            Fault::TopPIgnored => choice.top_p = 1.0,
            Fault::MinPIgnored => choice.min_p = 0.0,
            Fault::NegativesDivided => {
                let penalty = choice.repetition_penalty;
                z = changed(&z, |z| {
                    for (z, draw) in z.chunks_mut(v).zip(&draws) {
                        let seen = draw.seen.iter().map(|t| *t as usize).filter(|t| *t < v);
                        seen.for_each(|t| z[t] /= if z[t] < 0.0 { penalty * penalty } else { 1.0 });
                    }
                })?;
            }
            Fault::SeenByNextRow => {
                let seen: Vec<&[u32]> = draws.iter().map(|draw| draw.seen).collect();
                draws.iter_mut().zip(seen.iter().cycle().skip(1)).for_each(|(draw, seen)| draw.seen = seen);
            }
            _ => {}
        }
        Reference.sample(&z, v, choice, &draws)
    }
}

impl Optimise for Faulty {
    fn adamw(&self, tensors: &mut [Trained<'_>], mut step: AdamWStep) -> Result<()> {
        let decays: Vec<f64> = tensors.iter().map(|t| t.weight_decay).collect();
        let n_tensors = tensors.len();
        match self.0 {
            Fault::BiasCorrection => step.step = 1_000_000_000,
            Fault::WeightDecay => tensors.iter_mut().for_each(|t| t.weight_decay = 0.0),
            Fault::GradScale => step.grad_scale = 1.0,
            Fault::Epsilon => step.epsilon = 0.0,
            // those of the first dispatch
            Fault::FirstTensors => return Reference.adamw(&mut tensors[..n_tensors.min(7)], step),
            Fault::DecayOfNeighbour => {
                tensors.iter_mut().enumerate().for_each(|(i, t)| t.weight_decay = decays[(i + 1) % n_tensors]);
            }
            _ => {}
        }
        Reference.adamw(tensors, step)
    }
}

type Cases = fn(&mut Suite);

/// Each fault with the kernel whose cases have to fail.
const FAULTS: &[(Fault, &str, Cases)] = &[
    (Fault::UnaryUpstream, "unary_backward", elementwise::cases),
    (Fault::ClampBounds, "unary_backward", elementwise::cases),
    (Fault::BroadcastByBlocks, "binary", elementwise::cases),
    (Fault::AlphaOfAddScaled, "add_scaled", elementwise::cases),
    (Fault::DropoutWithoutScale, "dropout", elementwise::cases),
    (Fault::DropoutOtherStream, "dropout", elementwise::cases),
    (Fault::CastTruncates, "cast", elementwise::cases),
    (Fault::SumWithoutLastRow, "sum_rows", optimise::cases),
    (Fault::SumSquaresFirstBlock, "sum_squares", optimise::cases),
    (Fault::SumSquaresOfNeighbour, "sum_squares", optimise::cases),
    (Fault::LastRow, "matmul", matmul::cases),
    (Fault::LastColumn, "matmul", matmul::cases),
    (Fault::LastOfK, "matmul", matmul::cases),
    (Fault::BeyondBlockOfK, "matmul", matmul::cases),
    (Fault::AlphaOfMatmul, "matmul", matmul::cases),
    (Fault::CIgnored, "matmul", matmul::cases),
    (Fault::HalvesMistaken, "matmul", matmul::cases),
    (Fault::GatherNextRow, "gather_rows", rows::cases),
    (Fault::ScatterLosesRepeats, "scatter_add_rows", rows::cases),
    (Fault::WriteInOrder, "write_rows", rows::cases),
    (Fault::EpsilonOfNorm, "rms_norm", norms::cases),
    (Fault::NormUpstream, "rms_norm_backward", norms::cases),
    (Fault::NormWithoutProjection, "rms_norm_backward", norms::cases),
    (Fault::NormOntoNothing, "rms_norm_backward", norms::cases),
    (Fault::NormOfOneTerm, "add_rms_norm", norms::cases),
    (Fault::SumNotKept, "add_rms_norm", norms::cases),
    (Fault::RowNormSquared, "row_norms", norms::cases),
    (Fault::RowNormUpstream, "row_norms_backward", norms::cases),
    (Fault::RowOfZeros, "row_norms_backward", norms::cases),
    (Fault::RopePositions, "rope", norms::cases),
    (Fault::RopeWholeHead, "rope", norms::cases),
    (Fault::RopeNotInverted, "rope", norms::cases),
    (Fault::SwigluUpstream, "swiglu_backward", elementwise::cases),
    (Fault::SwigluSwapped, "swiglu", elementwise::cases),
    (Fault::ScoreScale, "attention", attention::cases),
    (Fault::ScoreScaleBackward, "attention_backward", attention::cases),
    (Fault::Window, "attention", attention::cases),
    (Fault::WindowBackward, "attention_backward", attention::cases),
    (Fault::OwnKey, "attention", attention::cases),
    (Fault::SiblingsBackward, "attention_backward", attention::cases),
    (Fault::HeadGroups, "attention", attention::cases),
    (Fault::AttentionUpstream, "attention_backward", attention::cases),
    (Fault::NextTarget, "log_probs", log_probs::cases),
    (Fault::LastMaximum, "log_probs", log_probs::cases),
    (Fault::EntropyOfTarget, "log_probs", log_probs::cases),
    (Fault::LogProbsUpstream, "log_probs_backward", log_probs::cases),
    (Fault::LogProbsScale, "log_probs_backward", log_probs::cases),
    (Fault::SoftmaxForgotten, "log_probs_backward", log_probs::cases),
    (Fault::NumberOfFirstRow, "sample", sample::cases),
    (Fault::NumberOfFirstDraw, "sample", sample::cases),
    (Fault::DrawnFromTheEnd, "sample", sample::cases),
    (Fault::EqualsFromTheEnd, "sample", sample::cases),
    (Fault::OneMoreThanK, "sample", sample::cases),
    (Fault::TopPIgnored, "sample", sample::cases),
    (Fault::MinPIgnored, "sample", sample::cases),
    (Fault::NegativesDivided, "sample", sample::cases),
    (Fault::SeenByNextRow, "sample", sample::cases),
    (Fault::BiasCorrection, "adamw", optimise::cases),
    (Fault::WeightDecay, "adamw", optimise::cases),
    (Fault::GradScale, "adamw", optimise::cases),
    (Fault::Epsilon, "adamw", optimise::cases),
    (Fault::FirstTensors, "adamw", optimise::cases),
    (Fault::DecayOfNeighbour, "adamw", optimise::cases),
];

#[test]
fn the_reference_passes_against_itself() {
    let device: Device = Arc::new(Reference);
    let reports = verify_backend(&device, Tolerance { absolute: 0.0, relative: f64::MIN_POSITIVE });
    let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(Report::to_string).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(reports.len() > 500, "{} cases", reports.len());
}

#[test]
fn the_reference_does_not_depend_on_the_batch() {
    let device: Device = Arc::new(Reference);
    let failed: Vec<String> = verify_invariance(&device).iter().filter(|r| !r.passed).map(Report::to_string).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Even at the wide tolerance.
#[test]
fn every_planted_fault_is_flagged() {
    for &(fault, kernel, cases) in FAULTS {
        let faulty = Faulty(fault);
        let mut suite = Suite::new(&faulty, Tolerance::FLOAT16);
        suite.first_failure_of = Some(kernel);
        cases(&mut suite);
        assert!(suite.reports.iter().any(|r| !r.passed), "{fault:?} was not flagged");
    }
}

#[test]
fn a_result_that_depends_on_the_batch_is_flagged() {
    for fault in [Fault::OneRowAlone, Fault::OneElementAlone, Fault::DecodedAlone] {
        let device: Device = Arc::new(Faulty(fault));
        assert!(verify_invariance(&device).iter().any(|r| !r.passed), "{fault:?} was not flagged");
    }
}

/// A fault in one kernel is not blamed on another, though backwards need what forwards save.
#[test]
fn faults_are_flagged_where_they_are() {
    for (fault, kernel) in [(Fault::ScoreScale, "attention_backward"), (Fault::EpsilonOfNorm, "rms_norm_backward")] {
        let faulty = Faulty(fault);
        let mut suite = Suite::new(&faulty, Tolerance::FLOAT32);
        suite.first_failure_of = Some(kernel);
        cases(&mut suite);
        assert!(!suite.reports.is_empty() && suite.reports.iter().all(|r| r.passed), "{fault:?} blamed on {kernel}");
    }
}
