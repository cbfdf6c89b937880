//! Mistakes of sampling, and the reference with one of them.
use super::Fault::Sample as Of;
use super::*;
use crate::verify::sample::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    NumberOfFirstRow,
    NumberOfFirstDraw,
    DrawnFromTheEnd,
    EqualsFromTheEnd,
    OneMoreThanK,
    TopPIgnored,
    MinPIgnored,
    NegativesDivided,
    SeenByNextRow,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(NumberOfFirstRow), "sample", cases),
    (Of(NumberOfFirstDraw), "sample", cases),
    (Of(DrawnFromTheEnd), "sample", cases),
    (Of(EqualsFromTheEnd), "sample", cases),
    (Of(OneMoreThanK), "sample", cases),
    (Of(TopPIgnored), "sample", cases),
    (Of(MinPIgnored), "sample", cases),
    (Of(NegativesDivided), "sample", cases),
    (Of(SeenByNextRow), "sample", cases),
];

impl Sample for Faulty {
    fn sample(&self, logits: &Buffer, v: usize, mut choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        let mut draws = draws.to_vec();
        let mut z = logits.clone();
        let from_the_end = |x: &Buffer| changed(x, |x| x.chunks_mut(v).for_each(<[f32]>::reverse));
        match self.0 {
            Of(NumberOfFirstRow) => draws.iter_mut().for_each(|draw| draw.stream = Stream::new(7, 0)),
            Of(NumberOfFirstDraw) => draws.iter_mut().for_each(|draw| draw.index = 0),
            Of(DrawnFromTheEnd) if choice.repetition_penalty == 1.0 && !choice.greedy => {
                let tokens = Reference.sample(&from_the_end(&z)?, v, choice, &draws)?;
                let tokens = tokens.u32()?.iter().map(|t| v as u32 - 1 - t).collect();
                return Ok(Buffer::host(Host::U32(tokens)));
            }
            Of(EqualsFromTheEnd) => {
                z = changed(&z, |z| z.iter_mut().enumerate().for_each(|(i, z)| *z += 1e-5 * (i % v) as f32))?;
            }
            Of(OneMoreThanK) if choice.top_k > 0 => choice.top_k = choice.top_k.saturating_add(1),
            Of(TopPIgnored) => choice.top_p = 1.0,
            Of(MinPIgnored) => choice.min_p = 0.0,
            Of(NegativesDivided) => {
                let penalty = choice.repetition_penalty;
                z = changed(&z, |z| {
                    for (z, draw) in z.chunks_mut(v).zip(&draws) {
                        let seen = draw.seen.iter().map(|t| *t as usize).filter(|t| *t < v);
                        seen.for_each(|t| z[t] /= if z[t] < 0.0 { penalty * penalty } else { 1.0 });
                    }
                })?;
            }
            Of(SeenByNextRow) => {
                let seen: Vec<&[u32]> = draws.iter().map(|draw| draw.seen).collect();
                draws.iter_mut().zip(seen.iter().cycle().skip(1)).for_each(|(draw, seen)| draw.seen = seen);
            }
            _ => {}
        }
        Reference.sample(&z, v, choice, &draws)
    }
}
