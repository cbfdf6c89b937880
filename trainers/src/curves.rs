//! How a learning rate moves over a run, as a share of its peak: transformers 5.24's schedules (`optimization.py`), as pure
//! functions with the same bits.
//!
//! Step s counts from 0, w are the steps of warm-up, n all steps; before w most rise as s / w. The order of every sum and
//! product is transformers', so that the last bits agree.
use crate::named::named;
use serde_json::{Map, Value};
use std::f64::consts::PI;

named! {
    /// How the learning rate moves over the run; see [`Curve`].
    pub enum Scheduler {
        /// After the warm-up a straight line, which reaches 0 at the end of the run.
        Linear = "linear",
        /// After the warm-up half a cosine, which reaches 0 at the end of the run.
        Cosine = "cosine",
        /// After the warm-up half a cosine, several times from the top.
        CosineWithRestarts = "cosine_with_restarts",
        /// After the warm-up a power of what is left of the run.
        Polynomial = "polynomial",
        /// The same from the first step to the last: there is no warm-up.
        Constant = "constant",
        /// After the warm-up the same to the end.
        ConstantWithWarmup = "constant_with_warmup",
        /// After the warm-up one over the root of the steps.
        InverseSqrt = "inverse_sqrt",
        /// As cosine, down to a learning rate above 0.
        CosineWithMinLr = "cosine_with_min_lr",
        /// The same, with a warm-up that does not begin at 0.
        CosineWarmupWithMinLr = "cosine_warmup_with_min_lr",
        /// A rise, a plateau, and a fall at the end.
        WarmupStableDecay = "warmup_stable_decay",
    }
}

named! {
    /// The way from one level to another.
    pub enum Slope {
        /// A straight line.
        Linear = "linear",
        /// Half a cosine.
        Cosine = "cosine",
        /// 1 − √x.
        OneMinusSqrt = "1-sqrt",
    }
}

/// Where in a run a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The step, counted from 0.
    pub step: u64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the whole run.
    pub total: u64,
}

impl Moment {
    /// s / w before the end of the warm-up, None behind it.
    fn rise(self) -> Option<f64> {
        (self.step < self.warmup).then(|| self.step as f64 / self.warmup as f64)
    }
    /// (s − w) / max(1, n − w): 0 at the end of the warm-up, 1 at the end of the run.
    fn progress(self) -> f64 {
        (self.step as f64 - self.warmup as f64) / self.total.saturating_sub(self.warmup).max(1) as f64
    }
}

/// A schedule with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// [`linear`]
    Linear,
    /// [`cosine`], with the number of waves and the share of the peak that stays.
    Cosine(f64, f64),
    /// [`cosine_with_restarts`], with the number of starts.
    CosineWithRestarts(f64),
    /// [`polynomial`], with the last learning rate and the power.
    Polynomial(f64, f64),
    /// 1
    Constant,
    /// [`constant_with_warmup`]
    ConstantWithWarmup,
    /// [`inverse_sqrt`], with the time scale in steps.
    InverseSqrt(Option<f64>),
    /// [`cosine_warmup_with_min_lr`], with waves, least share, and share at the first step.
    CosineWarmupWithMinLr(f64, f64, Option<f64>),
    /// [`warmup_stable_decay`]
    WarmupStableDecay(Stages),
}

/// The parameters of [`warmup_stable_decay`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stages {
    /// Steps of the plateau; None: all that warm-up and fall leave.
    pub stable: Option<f64>,
    /// Steps of the fall.
    pub decay: f64,
    /// How it rises.
    pub rises: Slope,
    /// How it falls.
    pub falls: Slope,
    /// The share of the peak that it begins and ends with.
    pub least: f64,
    /// Waves of a fall by the cosine.
    pub cycles: f64,
}

/// `max(0, (n − s) / max(1, n − w))`
pub fn linear(at: Moment) -> f64 {
    at.rise()
        .unwrap_or_else(|| at.total.saturating_sub(at.step) as f64 / at.total.saturating_sub(at.warmup).max(1) as f64)
}

/// ½ (1 + cos(2 π c p)) of the share p of the way, c waves.
fn wave(cycles: f64, progress: f64) -> f64 {
    0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos())
}

/// `x` of 0 … 1 as a share between `least` and 1.
fn above(least: f64, x: f64) -> f64 {
    x * (1.0 - least) + least
}

/// `max(0, m + (1 − m) · ½ (1 + cos(2 π c p)))`, p = (s − w) / (n − w), c waves, m the least share.
pub fn cosine(at: Moment, cycles: f64, least: f64) -> f64 {
    at.rise().unwrap_or_else(|| above(least, wave(cycles, at.progress())).max(0.0))
}

/// `max(0, ½ (1 + cos(π (c p mod 1))))`, 0 at the end.
pub fn cosine_with_restarts(at: Moment, cycles: f64) -> f64 {
    at.rise().unwrap_or_else(|| match at.progress() {
        progress if progress >= 1.0 => 0.0,
        progress => (0.5 * (1.0 + (PI * (cycles * progress).rem_euclid(1.0)).cos())).max(0.0),
    })
}

/// `((lr − e) (1 − p)^k + e) / lr`, e the last learning rate.
pub fn polynomial(at: Moment, learning_rate: f64, end: f64, power: f64) -> f64 {
    at.rise().unwrap_or_else(|| {
        let left = (1.0 - at.progress()).max(0.0);
        ((learning_rate - end) * left.powf(power) + end) / learning_rate
    })
}

/// 1 after the warm-up.
pub fn constant_with_warmup(at: Moment) -> f64 {
    at.rise().unwrap_or(1.0)
}

/// `1 / √((s + t − w) / t)`; t is w where it is not given, and 10 000 without a warm-up.
pub fn inverse_sqrt(at: Moment, timescale: Option<f64>) -> f64 {
    at.rise().unwrap_or_else(|| {
        let scale = timescale.unwrap_or(if at.warmup == 0 { 10_000.0 } else { at.warmup as f64 });
        1.0 / ((at.step as f64 + (scale - at.warmup as f64)) / scale).sqrt()
    })
}

/// As [`cosine`] one step ahead; the warm-up rises from `first` (or 1 / w) to 1.
pub fn cosine_warmup_with_min_lr(at: Moment, cycles: f64, least: f64, first: Option<f64>) -> f64 {
    let (step, warmup) = (at.step as f64, at.warmup as f64);
    match first {
        None if at.step < at.warmup => (step + 1.0) / warmup.max(1.0),
        Some(first) if at.step < at.warmup => first + (1.0 - first) * step / (warmup - 1.0).max(1.0),
        _ => {
            let progress = (step - warmup + 1.0) / (at.total as f64 - warmup).max(1.0);
            above(least, wave(cycles, progress)).max(0.0)
        }
    }
}

/// Rise, plateau and fall, between the least share and 1; the least share behind them.
pub fn warmup_stable_decay(at: Moment, stages: Stages) -> f64 {
    let (step, warmup) = (at.step as f64, at.warmup as f64);
    if let Some(progress) = at.rise() {
        let risen = match stages.rises {
            Slope::Linear => progress,
            Slope::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
            Slope::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
        };
        return above(stages.least, risen).max(0.0);
    }
    let stable = stages.stable.unwrap_or(at.total as f64 - warmup - stages.decay);
    if step < warmup + stable {
        return 1.0;
    }
    if step >= warmup + stable + stages.decay {
        return stages.least;
    }
    let progress = (step - warmup - stable) / stages.decay.max(1.0);
    let fallen = match stages.falls {
        Slope::Linear => 1.0 - progress,
        Slope::Cosine => wave(stages.cycles, progress),
        Slope::OneMinusSqrt => 1.0 - progress.sqrt(),
    };
    above(stages.least, fallen).max(0.0)
}

impl Curve {
    /// The share of the peak `learning_rate` at a step.
    pub fn factor(self, at: Moment, learning_rate: f64) -> f64 {
        match self {
            Curve::Linear => linear(at),
            Curve::Cosine(cycles, least) => cosine(at, cycles, least),
            Curve::CosineWithRestarts(cycles) => cosine_with_restarts(at, cycles),
            Curve::Polynomial(end, power) => polynomial(at, learning_rate, end, power),
            Curve::Constant => 1.0,
            Curve::ConstantWithWarmup => constant_with_warmup(at),
            Curve::InverseSqrt(timescale) => inverse_sqrt(at, timescale),
            Curve::CosineWarmupWithMinLr(cycles, least, first) => cosine_warmup_with_min_lr(at, cycles, least, first),
            Curve::WarmupStableDecay(stages) => warmup_stable_decay(at, stages),
        }
    }

    /// The schedule of this name with transformers' parameters (`lr_scheduler_kwargs`) for a peak of `learning_rate`. The
    /// error says which parameter is wrong, missing or unknown.
    pub fn new(kind: Scheduler, parameters: &Map<String, Value>, learning_rate: f64) -> Result<Curve, String> {
        let mut given = Parameters { kind, given: parameters.clone() };
        let curve = match kind {
            Scheduler::Linear => Curve::Linear,
            Scheduler::Cosine => Curve::Cosine(given.or("num_cycles", 0.5)?, 0.0),
            Scheduler::CosineWithRestarts => Curve::CosineWithRestarts(given.or("num_cycles", 1.0)?),
            Scheduler::Polynomial => {
                let (end, power) = (given.or("lr_end", 1e-7)?, given.or("power", 1.0)?);
                if learning_rate <= end {
                    return Err(format!("lr_end is {end}, but must be below learning_rate ({learning_rate})"));
                }
                Curve::Polynomial(end, power)
            }
            Scheduler::Constant => Curve::Constant,
            Scheduler::ConstantWithWarmup => Curve::ConstantWithWarmup,
            Scheduler::InverseSqrt => match given.number("timescale")? {
                Some(steps) if steps <= 0.0 => return Err(format!("timescale is {steps}, but must be above 0")),
                timescale => Curve::InverseSqrt(timescale),
            },
            Scheduler::CosineWithMinLr => {
                Curve::Cosine(given.or("num_cycles", 0.5)?, given.least_share(learning_rate)?)
            }
            Scheduler::CosineWarmupWithMinLr => Curve::CosineWarmupWithMinLr(
                given.or("num_cycles", 0.5)?,
                given.least_share(learning_rate)?,
                given.number("warmup_lr_rate")?,
            ),
            Scheduler::WarmupStableDecay => Curve::WarmupStableDecay(Stages {
                decay: given
                    .steps("num_decay_steps")?
                    .ok_or("num_decay_steps is missing: the steps of the fall, such as {\"num_decay_steps\": 100}")?,
                stable: given.steps("num_stable_steps")?,
                rises: given.slope("warmup_type", Slope::Linear)?,
                falls: given.slope("decay_type", Slope::Cosine)?,
                least: given.or("min_lr_ratio", 0.0)?,
                cycles: given.or("num_cycles", 0.5)?,
            }),
        };
        given.nothing_is_left().map(|()| curve)
    }
}

/// What each schedule may be told.
fn parameters_of(kind: Scheduler) -> &'static [&'static str] {
    match kind {
        Scheduler::Linear | Scheduler::Constant | Scheduler::ConstantWithWarmup => &[],
        Scheduler::Cosine | Scheduler::CosineWithRestarts => &["num_cycles"],
        Scheduler::Polynomial => &["lr_end", "power"],
        Scheduler::InverseSqrt => &["timescale"],
        Scheduler::CosineWithMinLr => &["num_cycles", "min_lr", "min_lr_rate"],
        Scheduler::CosineWarmupWithMinLr => &["num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"],
        Scheduler::WarmupStableDecay => {
            &["num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"]
        }
    }
}

/// Parameters by name; what has been read is taken out.
struct Parameters {
    kind: Scheduler,
    given: Map<String, Value>,
}

impl Parameters {
    fn number(&mut self, name: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.given.shift_remove(name).filter(|value| !value.is_null()) else { return Ok(None) };
        // PyYAML takes 1e-6 (without a dot) for a text, which transformers turns into a number.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let number = text.parse().ok().filter(|x: &f64| x.is_finite());
        number.map(Some).ok_or_else(|| format!("{name} is {value}, but takes a number"))
    }
    fn or(&mut self, name: &str, default: f64) -> Result<f64, String> {
        Ok(self.number(name)?.unwrap_or(default))
    }
    fn steps(&mut self, name: &str) -> Result<Option<f64>, String> {
        match self.number(name)? {
            Some(n) if n < 0.0 || n.fract() != 0.0 => Err(format!("{name} is {n}, but takes a whole number of steps")),
            steps => Ok(steps),
        }
    }
    fn slope(&mut self, name: &str, default: Slope) -> Result<Slope, String> {
        use crate::named::Named;
        let Some(value) = self.given.shift_remove(name).filter(|value| !value.is_null()) else { return Ok(default) };
        let slope = value.as_str().and_then(Slope::from_name);
        slope.ok_or_else(|| format!("{name} is {value}, but takes one of {}", Slope::NAMES.join(", ")))
    }
    /// min_lr as a share of the peak, or min_lr_rate: one of them must be given.
    fn least_share(&mut self, learning_rate: f64) -> Result<f64, String> {
        match (self.number("min_lr")?, self.number("min_lr_rate")?) {
            (Some(_), Some(_)) => Err("min_lr contradicts min_lr_rate; give one of them".into()),
            (Some(_), None) if learning_rate == 0.0 => Err("min_lr is a share of learning_rate, which is 0".into()),
            (Some(least), None) => Ok(least / learning_rate),
            (None, Some(share)) => Ok(share),
            (None, None) => Err(format!(
                "min_lr (or min_lr_rate, as a share of learning_rate) is missing, which {} falls to",
                self.kind.name()
            )),
        }
    }
    fn nothing_is_left(self) -> Result<(), String> {
        let Some(name) = self.given.keys().next() else { return Ok(()) };
        let known = parameters_of(self.kind);
        let takes = if known.is_empty() { "none".into() } else { known.join(", ") };
        Err(format!("{} has no parameter {name}; it takes {takes}", self.kind.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::Named;

    /// tests/golden/schedules.json: `transformers.get_scheduler`, version 5.24, every step of runs, to the bit.
    #[test]
    fn every_schedule_is_transformers() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/golden/schedules.json")).expect("golden values");
        for case in &cases {
            let text = |name: &str| case[name].as_str().expect("text");
            let (warmup, total) = (case["warmup"].as_u64().unwrap(), case["total"].as_u64().unwrap());
            let learning_rate: f64 = text("learning_rate").parse().unwrap();
            let kind = Scheduler::from_name(text("name")).expect("a schedule");
            let curve = Curve::new(kind, case["kwargs"].as_object().unwrap(), learning_rate).expect("fits");
            for (step, rate) in case["rates"].as_array().unwrap().iter().enumerate() {
                let at = Moment { step: step as u64, warmup, total };
                let (got, want) = (learning_rate * curve.factor(at, learning_rate), rate.as_str().unwrap());
                assert_eq!(got, want.parse::<f64>().unwrap(), "step {step} of {case}");
            }
        }
        let count = |name: &str| cases.iter().filter(|case| case["name"] == name).count();
        assert!(Scheduler::NAMES.iter().all(|name| count(name) >= 2), "two settings each");
    }

    #[test]
    fn parameters_that_do_not_fit() {
        for (kind, parameters, told) in [
            (Scheduler::Linear, r#"{"power": 2}"#, "linear has no parameter power; it takes none"),
            (Scheduler::Cosine, r#"{"cycles": 2}"#, "cosine has no parameter cycles; it takes num_cycles"),
            (Scheduler::Cosine, r#"{"num_cycles": "two"}"#, "num_cycles is \"two\", but takes a number"),
            (Scheduler::CosineWithMinLr, "{}", "min_lr (or min_lr_rate, as a share of learning_rate) is missing"),
            (Scheduler::CosineWithMinLr, r#"{"min_lr": 0, "min_lr_rate": 0}"#, "min_lr contradicts min_lr_rate"),
            (Scheduler::Polynomial, r#"{"lr_end": 1}"#, "lr_end is 1, but must be below learning_rate (0.001)"),
            (Scheduler::InverseSqrt, r#"{"timescale": 0}"#, "timescale is 0, but must be above 0"),
            (Scheduler::WarmupStableDecay, "{}", "num_decay_steps is missing"),
            (Scheduler::WarmupStableDecay, r#"{"num_decay_steps": 1.5}"#, "num_decay_steps is 1.5, but takes a whole"),
            (
                Scheduler::WarmupStableDecay,
                r#"{"num_decay_steps": 5, "decay_type": "log"}"#,
                "decay_type is \"log\", but takes one of linear, cosine, 1-sqrt",
            ),
        ] {
            let got = Curve::new(kind, &serde_json::from_str(parameters).unwrap(), 1e-3).expect_err("does not fit");
            assert!(got.starts_with(told), "{got}");
        }
        let written = Curve::new(Scheduler::Polynomial, &serde_json::from_str(r#"{"lr_end": "1e-6"}"#).unwrap(), 1e-3);
        assert_eq!(written, Ok(Curve::Polynomial(1e-6, 1.0)));
    }
}
