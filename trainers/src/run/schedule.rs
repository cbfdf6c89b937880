//! How long a run is, and its learning rate at each optimiser step: transformers' arithmetic, as pure functions. The
//! schedules themselves are in `curves.rs`.
use crate::curves::{Curve, Moment};
use crate::error::{Error, Result};
use crate::options::TrainingOptions;

/// How many batches and optimiser steps a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLength {
    /// Batches of one pass over the data; the last may be smaller.
    pub batches_per_epoch: u64,
    /// Batches whose gradients make one optimiser step; fewer at the end of an epoch.
    pub batches_per_step: u64,
    /// Optimiser steps of one pass over the data.
    pub steps_per_epoch: u64,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
}

/// steps per epoch = max(1, ⌈⌈rows / batch⌉ / accumulation⌉); total = max_steps, or ⌈epochs · steps per epoch⌉
/// (transformers, `Trainer.set_initial_training_values`). `n_rows` counts sequences after packing; of 0 rows there are 0 batches.
pub fn run_length(
    n_rows: usize,
    batch_size: usize,
    accumulation: usize,
    num_train_epochs: f64,
    max_steps: Option<u64>,
) -> RunLength {
    let batches_per_epoch = n_rows.div_ceil(batch_size.max(1)) as u64;
    let batches_per_step = accumulation.max(1) as u64;
    let steps_per_epoch = batches_per_epoch.div_ceil(batches_per_step).max(1);
    let total_steps = max_steps.unwrap_or_else(|| (num_train_epochs * steps_per_epoch as f64).ceil() as u64);
    RunLength { batches_per_epoch, batches_per_step, steps_per_epoch, total_steps }
}

impl RunLength {
    /// Which epoch (from 0) optimiser step `step` (from 0) belongs to, and which of its batches the step takes.
    pub fn batches_of(&self, step: u64) -> (u64, std::ops::Range<u64>) {
        let (epoch, step_in_epoch) = (step / self.steps_per_epoch, step % self.steps_per_epoch);
        let start = step_in_epoch * self.batches_per_step;
        (epoch, start.min(self.batches_per_epoch)..(start + self.batches_per_step).min(self.batches_per_epoch))
    }

    /// Passes over the data after `steps` optimiser steps: the metric `epoch`.
    pub fn epochs_after(&self, steps: u64) -> f64 {
        let Some(last) = steps.checked_sub(1) else { return 0.0 };
        let (epoch, batches) = self.batches_of(last);
        epoch as f64 + batches.end as f64 / self.batches_per_epoch.max(1) as f64
    }

    /// Whether an epoch ends with the `steps`-th optimiser step.
    pub fn ends_epoch(&self, steps: u64) -> bool {
        steps > 0 && steps.is_multiple_of(self.steps_per_epoch)
    }
}

/// Steps of warm-up: `warmup_steps` as it is from 1 on, else as a share of all steps, rounded up.
pub fn warmup_length(warmup_steps: f64, total_steps: u64) -> u64 {
    if warmup_steps >= 1.0 { warmup_steps as u64 } else { (total_steps as f64 * warmup_steps).ceil() as u64 }
}

/// The learning rate of every step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How the learning rate moves.
    pub curve: Curve,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps of the rise.
    pub warmup_steps: u64,
    /// Optimiser steps of the run.
    pub total_steps: u64,
}

impl Schedule {
    /// The schedule that the options describe, for a run of so many steps. Errors: lr_scheduler_kwargs do not fit it.
    pub fn new(options: &TrainingOptions, total_steps: u64) -> Result<Self> {
        // An explicit warmup_steps wins over the older warmup_ratio. A ratio of 1 is all steps, not one.
        let warmup_steps = match options.warmup_ratio {
            Some(ratio) if options.warmup_steps == 0.0 => (total_steps as f64 * ratio).ceil() as u64,
            _ => warmup_length(options.warmup_steps, total_steps),
        };
        let (kind, parameters, learning_rate) =
            (options.lr_scheduler_type, &options.lr_scheduler_kwargs.0, options.learning_rate);
        let curve = Curve::new(kind, parameters, learning_rate)
            .map_err(|detail| Error::Input(format!("lr_scheduler_kwargs: {detail}")))?;
        Ok(Schedule { curve, learning_rate, warmup_steps, total_steps })
    }

    /// Learning rate of optimiser step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let at = Moment { step, warmup: self.warmup_steps, total: self.total_steps };
        self.learning_rate * self.curve.factor(at, self.learning_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(curve: Curve, learning_rate: f64, warmup_steps: u64, total_steps: u64) -> Vec<f64> {
        let schedule = Schedule { curve, learning_rate, warmup_steps, total_steps };
        (0..total_steps).map(|step| schedule.at(step)).collect()
    }

    /// `learning_rate` of the golden trajectories sft_warmup_decay_clip and sft_text (TRL 1.16), to the bit.
    #[test]
    fn linear_is_that_of_trl() {
        let warm = [0.0, 0.0003333333333333333, 0.0006666666666666666, 0.001, 0.0008, 0.0006, 0.0004, 0.0002];
        assert_eq!(rates(Curve::Linear, 1e-3, 3, 8), warm);
        let plain = [0.001, 0.000875, 0.00075, 0.000625, 0.0005, 0.000375, 0.00025, 0.000125];
        assert_eq!(rates(Curve::Linear, 1e-3, 0, 8), plain);
    }

    #[test]
    fn beyond_the_end() {
        assert_eq!(Schedule { curve: Curve::Linear, learning_rate: 1.0, warmup_steps: 0, total_steps: 4 }.at(9), 0.0);
        // More warm-up than steps, as with a warm-up meant for a longer run.
        assert_eq!(rates(Curve::Linear, 1.0, 8, 4), [0.0, 0.125, 0.25, 0.375]);
        assert_eq!(rates(Curve::Cosine(0.5, 0.0), 1.0, 8, 4), [0.0, 0.125, 0.25, 0.375]);
    }

    #[test]
    fn warmup_as_count_and_share() {
        for (warmup, total, steps) in [(0.0, 100, 0), (1.0, 100, 1), (10.0, 100, 10), (0.05, 100, 5), (0.03, 8, 1)] {
            assert_eq!(warmup_length(warmup, total), steps);
        }
    }

    #[test]
    fn lengths() {
        let length = |rows, batch, accumulation, epochs, max| run_length(rows, batch, accumulation, epochs, max);
        for (got, batches, per_epoch, total) in [
            (length(100, 8, 1, 3.0, None), 13, 13, 39),
            (length(100, 8, 4, 3.0, None), 13, 4, 12),
            (length(100, 8, 4, 0.3, None), 13, 4, 2),
            (length(3, 8, 4, 1.0, None), 1, 1, 1),
            (length(100, 8, 4, 3.0, Some(5)), 13, 4, 5),
            (length(100, 8, 4, 1.0, Some(50)), 13, 4, 50),
        ] {
            assert_eq!((got.batches_per_epoch, got.steps_per_epoch, got.total_steps), (batches, per_epoch, total));
        }
    }

    #[test]
    fn batches_of_steps() {
        let run = run_length(100, 8, 4, 2.0, None);
        assert_eq!(run.batches_of(0), (0, 0..4));
        assert_eq!(run.batches_of(3), (0, 12..13));
        assert_eq!(run.batches_of(4), (1, 0..4));
        assert_eq!((run.epochs_after(0), run.epochs_after(4), run.epochs_after(8)), (0.0, 1.0, 2.0));
        assert_eq!(run.epochs_after(1), 4.0 / 13.0);
        assert!(run.ends_epoch(4) && !run.ends_epoch(3) && !run.ends_epoch(0));
    }
}
