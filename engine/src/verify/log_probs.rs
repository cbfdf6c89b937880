//! What the LM head says about its targets, and the gradient to the logits.
use super::compare::{ErrorScale, out};
use super::{Data, Suite, f32s, u32s};
use crate::backend::{LmHead, LogProbsBackward};
use crate::reference::Reference;

pub(super) fn cases(suite: &mut Suite) {
    for [m, v] in [[1, 1], [1, 7], [7, 33], [33, 65], [129, 5], [5, 257], [33, 1003], [3, 5000], [2, 40_001]] {
        let logits = Data::new(m * v).scaled(m * v, 4.0);
        chunk(suite, format!("m={m} v={v}"), logits, m, v);
    }
    let (m, v) = (9, 1003);
    let shifted = |by: f32| Data::new(m).normals(m * v).iter().map(|x| 4.0 * x + by).collect();
    chunk(suite, "logits near 90".into(), shifted(90.0), m, v);
    chunk(suite, "logits near -120".into(), shifted(-120.0), m, v);
    // one logit far above the others: the entropy is all but zero
    let mut peaked: Vec<f32> = shifted(0.0);
    (0..m).for_each(|i| peaked[i * v + i * 111] = 60.0);
    chunk(suite, "one logit far above the others".into(), peaked, m, v);
    // the largest logit several times in a row: the first counts
    let mut ties: Vec<f32> = shifted(0.0);
    (0..m).for_each(|i| [900, 7 + i, 64 + i, 1002].iter().for_each(|&j| ties[i * v + j] = 30.0));
    chunk(suite, "the largest logit four times".into(), ties, m, v);
    chunk(suite, "all logits equal".into(), vec![1.5; m * v], m, v);
}

fn chunk(suite: &mut Suite, name: String, logits: Vec<f32>, m: usize, v: usize) {
    let mut data = Data::new(m + v);
    let mut targets = data.indices(m, v);
    targets[m - 1] = v as u32 - 1;
    let dlogp = data.normals(m);
    // logp and entropy are differences of numbers as large as the logits, whose f32 rounding is 6e-8 of them
    let largest = logits.iter().fold(0.0, |m: f64, &x| m.max(x.abs().into()));
    let scale = ErrorScale::AtLeast((largest / 8.0).max(1.0));
    suite.case(format!("log_probs {name}"), |d| {
        let p = d.log_probs(&f32s(d, &logits)?, &u32s(d, &targets)?, m, v)?;
        let [logp, entropy] = [out("logp", p.logp, scale), out("entropy", p.entropy, scale)];
        Ok(vec![logp, entropy, out("lse", p.log_sum_exp, scale), out("argmax", p.argmax, ErrorScale::Exact)])
    });
    let factor = 0.4;
    suite.case(format!("log_probs_backward {name}"), |d| {
        let forward = Reference.log_probs(&f32s(&Reference, &logits)?, &u32s(&Reference, &targets)?, m, v)?;
        let lse = f32s(d, forward.log_sum_exp.f32()?)?;
        let dlogits = d.log_probs_backward(
            f32s(d, &logits)?,
            LogProbsBackward {
                targets: &u32s(d, &targets)?,
                log_sum_exp: &lse,
                dlogp: &f32s(d, &dlogp)?,
                m,
                v,
                scale: factor,
            },
        )?;
        Ok(vec![out("dlogits", dlogits, ErrorScale::AtLeast(0.05))])
    });
    if m == 9 {
        suite.case(format!("log_probs_backward {name}, logits shared with another owner"), |d| {
            let forward = Reference.log_probs(&f32s(&Reference, &logits)?, &u32s(&Reference, &targets)?, m, v)?;
            let (lse, kept) = (f32s(d, forward.log_sum_exp.f32()?)?, f32s(d, &logits)?);
            d.log_probs_backward(
                kept.clone(),
                LogProbsBackward {
                    targets: &u32s(d, &targets)?,
                    log_sum_exp: &lse,
                    dlogp: &f32s(d, &dlogp)?,
                    m,
                    v,
                    scale: factor,
                },
            )?;
            Ok(vec![out("logits", kept, ErrorScale::Exact)])
        });
    }
}
