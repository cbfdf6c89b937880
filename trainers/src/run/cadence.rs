//! After which optimiser steps a run logs, evaluates and saves: transformers' rules.
use crate::options::{RecordOptions, Strategy};
use crate::run::schedule::RunLength;

/// What is due after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// A line of metrics.
    pub log: bool,
    /// An evaluation.
    pub evaluate: bool,
    /// A checkpoint.
    pub save: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Every {
    Never,
    Steps(u64),
    Epoch,
}

/// When things are due in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    length: RunLength,
    log: Every,
    evaluate: Every,
    save: Every,
}

impl Cadence {
    /// eval_steps that are not given are logging_steps.
    pub fn new(options: &RecordOptions, length: RunLength) -> Self {
        let every = |strategy, steps: crate::options::Steps| match strategy {
            Strategy::No => Every::Never,
            Strategy::Steps => Every::Steps(steps.of(length.total_steps)),
            Strategy::Epoch => Every::Epoch,
        };
        Cadence {
            length,
            log: every(options.logging_strategy, options.logging_steps),
            evaluate: every(options.eval_strategy, options.eval_steps.unwrap_or(options.logging_steps)),
            save: every(options.save_strategy, options.save_steps),
        }
    }

    /// What is due when `steps` optimiser steps are done, and with them perhaps an epoch. The end of the run counts as the end of an epoch; a run that
    /// logs, evaluates or saves every so many steps also does so at its end, and one that logs does so after its first
    /// step: nothing that was trained stays without a number.
    pub fn after(&self, steps: u64, ends_epoch: bool) -> Due {
        let is_last = steps == self.length.total_steps;
        let is_due = |every| match every {
            Every::Never => false,
            Every::Steps(n) => steps.is_multiple_of(n),
            Every::Epoch => is_last || ends_epoch,
        };
        let is_due_at_last = |every| is_due(every) || is_last && every != Every::Never;
        Due {
            log: is_due_at_last(self.log) || self.log != Every::Never && steps == 1,
            evaluate: is_due_at_last(self.evaluate),
            save: is_due_at_last(self.save),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{ResumeFrom, Steps};
    use crate::run::schedule::run_length;

    /// 4 steps an epoch, 10 in all.
    fn due(change: impl Fn(&mut RecordOptions)) -> [Vec<u64>; 3] {
        let mut options = RecordOptions {
            logging_strategy: Strategy::Steps,
            logging_steps: Steps::Count(3),
            logging_first_step: false,
            report_to: None,
            eval_strategy: Strategy::No,
            eval_steps: None,
            eval_on_start: false,
            save_strategy: Strategy::Steps,
            save_steps: Steps::Count(500),
            save_total_limit: None,
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            resume_from_checkpoint: ResumeFrom::Nothing,
        };
        change(&mut options);
        let length = run_length(16, 4, 1, 2.5, None);
        let cadence = Cadence::new(&options, length);
        let after = |step: u64| cadence.after(step, length.ends_epoch(step));
        let steps = |due: fn(Due) -> bool| (1..=10).filter(|step| due(after(*step))).collect();
        [steps(|due| due.log), steps(|due| due.evaluate), steps(|due| due.save)]
    }

    #[test]
    fn steps_and_epochs() {
        assert_eq!(due(|_| ()), [vec![1, 3, 6, 9, 10], vec![], vec![10]]);
        assert_eq!(due(|o| o.logging_strategy = Strategy::Epoch)[0], [1, 4, 8, 10]);
        assert_eq!(due(|o| o.logging_strategy = Strategy::No)[0], Vec::<u64>::new());
        assert_eq!(due(|o| o.eval_strategy = Strategy::Epoch)[1], [4, 8, 10]);
        assert_eq!(due(|o| o.eval_strategy = Strategy::Steps)[1], [3, 6, 9, 10]);
        assert_eq!(due(|o| (o.eval_strategy, o.eval_steps) = (Strategy::Steps, Some(Steps::Count(5))))[1], [5, 10]);
        assert_eq!(due(|o| o.save_steps = Steps::Share(0.35))[2], [4, 8, 10]);
        assert_eq!(due(|o| o.save_strategy = Strategy::Epoch)[2], [4, 8, 10]);
        assert_eq!(due(|o| o.save_strategy = Strategy::No)[2], Vec::<u64>::new());
    }
}
