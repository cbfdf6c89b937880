//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere; on standard error.
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The progress of a run, in optimiser steps.
#[derive(Debug)]
pub struct Progress {
    /// None: not a terminal.
    bar: Option<ProgressBar>,
    total_steps: u64,
    /// Steps that a resumed run had done already: they took no time here.
    first_step: u64,
    tokens: u64,
    started: Instant,
}

impl Progress {
    /// `first_step`: steps done already, 0 unless the run is resumed.
    pub fn new(total_steps: u64, first_step: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar.set_position(first_step);
            bar
        });
        Progress { bar, total_steps, first_step, tokens: 0, started: Instant::now() }
    }

    /// A step is done: `step` of them so far, this one over `tokens` tokens.
    pub fn step(&mut self, step: u64, tokens: u64, loss: f64) {
        self.tokens += tokens;
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(self.message(step, loss, self.started.elapsed()));
        }
    }

    /// A step was logged: a line, where there is no bar.
    pub fn logged(&self, step: u64, loss: f64) {
        if self.bar.is_none() {
            eprintln!("step {step}/{} {}", self.total_steps, self.message(step, loss, self.started.elapsed()));
        }
    }

    /// Something to say that stays on the screen.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Tokens a second so far.
    pub fn tokens_per_second(&self) -> f64 {
        rate(self.tokens, self.started.elapsed())
    }

    /// Leaves the bar as it is and goes to a new line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }

    /// "loss 2.345  1.2k tokens/s  3 min 20 s left"
    fn message(&self, step: u64, loss: f64, elapsed: Duration) -> String {
        let done = step.saturating_sub(self.first_step);
        let left = self.total_steps.saturating_sub(step);
        let mut text = format!("loss {loss:.4}  {} tokens/s", short_number(rate(self.tokens, elapsed)));
        if done > 0 && left > 0 {
            let seconds = elapsed.as_secs_f64() / done as f64 * left as f64;
            text += &format!("  {} left", duration(seconds));
        }
        text
    }
}

fn rate(n: u64, elapsed: Duration) -> f64 {
    n as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// "950", "1.2k", "35k", "1.3M"
fn short_number(x: f64) -> String {
    match x {
        x if x < 999.5 => format!("{x:.0}"),
        x if x < 9_950.0 => format!("{:.1}k", x / 1e3),
        x if x < 999_500.0 => format!("{:.0}k", x / 1e3),
        x => format!("{:.1}M", x / 1e6),
    }
}

/// "45 s", "3 min 20 s", "2 h 5 min"
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_a_resumed_run() {
        let progress =
            Progress { bar: None, total_steps: 100, first_step: 50, tokens: 12_000, started: Instant::now() };
        let text = progress.message(60, 2.34567, Duration::from_secs(10));
        assert_eq!(text, "loss 2.3457  1.2k tokens/s  40 s left");
        assert_eq!(progress.message(100, 2.0, Duration::from_secs(10)), "loss 2.0000  1.2k tokens/s");
    }

    #[test]
    fn numbers_and_durations() {
        for (x, text) in [(0.0, "0"), (950.2, "950"), (1234.0, "1.2k"), (35_400.0, "35k"), (1.26e6, "1.3M")] {
            assert_eq!(short_number(x), text);
        }
        for (s, text) in [(0.4, "0 s"), (59.9, "1 min 0 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")] {
            assert_eq!(duration(s), text);
        }
    }
}
