//! A step whose loss or gradients are no finite numbers: where that came from, and what becomes of the run.
use super::Job;
use super::learner::Tried;
use crate::error::{Error, Result};
use crate::options::OnNan;
use crate::run::Checkpoint;

/// Rows that are named one by one.
const MOST_ROWS: usize = 8;

/// What is known about such a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Counted from 1.
    pub step: u64,
    /// The step's loss.
    pub loss: f64,
    /// The global norm of its gradients and the first tensor with one that is not finite; None where the loss says it.
    pub gradient: Option<(f64, String)>,
    /// The rows that were learnt from, counted from 0: those of the first micro-batch whose loss is not finite, else all.
    pub rows: Vec<usize>,
}

impl Divergence {
    /// In one sentence.
    pub fn said(&self) -> String {
        let Divergence { step, loss, gradient, rows } = self;
        let what = match gradient {
            Some((norm, tensor)) => format!("the gradient's norm is {norm}, first in {tensor} (loss {loss})"),
            None => format!("the loss is {loss}"),
        };
        let named: Vec<String> = rows.iter().take(MOST_ROWS).map(|row| (row + 1).to_string()).collect();
        let more = if rows.len() > MOST_ROWS { " …" } else { "" };
        match rows.len() {
            0 => format!("step {step}: {what}"),
            1 => format!("step {step}: {what}; the training row is {}", named.join(", ")),
            _ => format!("step {step}: {what}; the training rows are {}{more}", named.join(", ")),
        }
    }
}

impl Job {
    /// The optimiser's step where loss and gradients are numbers: the norm of the gradients. Else what `--on_nan` says;
    /// None where the step is left out.
    pub(super) fn try_step(&mut self, loss: f64) -> Result<Option<f64>> {
        let gradient = match loss.is_finite() {
            true => match self.learner.try_step(self.learning_rate())? {
                Tried::Stepped(norm) => return Ok(Some(norm)),
                Tried::Diverged { norm, tensor } => Some((norm, tensor)),
            },
            false => {
                self.learner.forget();
                None
            }
        };
        let rows = match self.not_finite.and_then(|i| self.rows.get(i)) {
            Some(rows) => rows.clone(),
            None => self.rows.concat(),
        };
        let said = Divergence { step: self.state.global_step + 1, loss, gradient, rows }.said();
        match self.training.on_nan {
            OnNan::Stop => {
                let advice = "lower --learning_rate, look at these rows, or go on without them with --on_nan skip";
                let kept = match Checkpoint::last_good(self.directory.path())?.0 {
                    Some(checkpoint) => format!(" (the last good checkpoint is {})", checkpoint.path.display()),
                    None => String::new(),
                };
                return Err(Error::Input(format!("training has diverged: {said}; {advice}{kept}")));
            }
            OnNan::Skip => self.progress.say(&format!("left out: {said}")),
            OnNan::Rewind => {
                let from = self.rewind()?;
                self.progress.say(&format!("left out, weights as {from}: {said}"));
            }
        }
        Ok(None)
    }

    /// Weights and optimiser as they were in the last good checkpoint, or at the start; which of them, in words.
    fn rewind(&mut self) -> Result<String> {
        let last = Checkpoint::last_good(self.directory.path())?.0.or_else(|| self.resumed.clone());
        self.learner = self.policy.learner(&self.device, &self.source, &self.training, last.as_ref())?;
        Ok(match last {
            Some(checkpoint) => format!("after step {}", checkpoint.step),
            None => "at the start".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let gradient = Some((f64::INFINITY, "model.norm.weight".to_string()));
        let of =
            |gradient, rows: &[usize]| Divergence { step: 7, loss: f64::NAN, gradient, rows: rows.to_vec() }.said();
        assert_eq!(of(None, &[0]), "step 7: the loss is NaN; the training row is 1");
        let told = of(gradient, &[2, 9]);
        assert!(told.contains("norm is inf, first in model.norm.weight") && told.ends_with("rows are 3, 10"), "{told}");
        assert!(of(None, &[1; 9]).ends_with("2, 2 …"));
        assert_eq!(of(None, &[]), "step 7: the loss is NaN");
    }
}
