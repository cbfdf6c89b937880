//! What a person sees while a run goes on: a table with a row for each logged step, and on a terminal a bar below it; on
//! standard error.
use super::metrics::HEADLINES;
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
    table: StepTable,
}

/// The table of logged steps: the metrics of [`HEADLINES`] that the row below its head has.
#[derive(Debug, Default)]
struct StepTable {
    columns: Vec<&'static (&'static str, &'static str)>,
    rows: usize,
}

impl StepTable {
    /// So many columns fit into a line of 120 characters beside step, speed and time left.
    const MOST: usize = 8;
    /// After so many rows its head stands again.
    const HEAD_EVERY: usize = 25;

    /// The lines to add for a logged step: a row, before it now and then the head.
    fn row(&mut self, step: u64, total: u64, values: &[(&str, f64)], rest: &str) -> String {
        let of = |name: &str| values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let number = total.to_string().len().max(4);
        let mut text = String::new();
        if self.rows.is_multiple_of(Self::HEAD_EVERY) {
            // Chosen anew each time: what the first row did not have may have come since.
            self.columns = HEADLINES.iter().filter(|(name, _)| of(name).is_some()).take(Self::MOST).collect();
            text += &format!("{:>number$}", "step");
            self.columns.iter().for_each(|(_, head)| text += &format!(" {head:>10}"));
            text += "  tokens/s\n";
        }
        self.rows += 1;
        text += &format!("{step:>number$}");
        for (name, _) in &self.columns {
            text += &format!(" {:>10}", of(name).map_or("–".into(), short_value));
        }
        text + rest
    }
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
        Progress { bar, total_steps, first_step, tokens: 0, started: Instant::now(), table: StepTable::default() }
    }

    /// A step is done: `step` of them so far, this one over `tokens` tokens.
    pub fn step(&mut self, step: u64, tokens: u64, loss: f64) {
        self.tokens += tokens;
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(self.message(step, loss, self.started.elapsed()));
        }
    }

    /// A step was logged: a row of the table, with the time that is left where no bar says it.
    pub fn logged(&mut self, step: u64, values: &[(&str, f64)]) {
        let mut rest = format!("  {:>8}", short_number(self.tokens_per_second()));
        if let (None, Some(left)) = (&self.bar, self.left(step, self.started.elapsed())) {
            rest += &format!("  {left} left");
        }
        let text = self.table.row(step, self.total_steps, values, &rest);
        self.say(&text);
    }

    /// Something to say that stays on the screen.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
    }

    /// Tokens a second so far.
    pub fn tokens_per_second(&self) -> f64 {
        rate(self.tokens, self.started.elapsed())
    }

    /// Takes the bar away: the table's last row says all.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Time since the run began or was resumed.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// "loss 2.345  1.2k tokens/s  3 min 20 s left"
    fn message(&self, step: u64, loss: f64, elapsed: Duration) -> String {
        let mut text = format!("loss {loss:.4}  {} tokens/s", short_number(rate(self.tokens, elapsed)));
        if let Some(left) = self.left(step, elapsed) {
            text += &format!("  {left} left");
        }
        text
    }

    /// How long the rest takes, if it goes on as it did.
    fn left(&self, step: u64, elapsed: Duration) -> Option<String> {
        let (done, left) = (step.saturating_sub(self.first_step), self.total_steps.saturating_sub(step));
        (done > 0 && left > 0).then(|| duration(elapsed.as_secs_f64() / done as f64 * left as f64))
    }
}

/// A metric's value in ten characters: "0.6931", "12.31", "1.2e-6", "–" for none.
pub fn short_value(x: f64) -> String {
    match x.abs() {
        _ if x.is_nan() => "–".into(),
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{x:.1e}"),
        a if a < 10.0 => format!("{x:.4}"),
        a if a < 1000.0 => format!("{x:.2}"),
        _ => format!("{x:.0}"),
    }
}

fn rate(n: u64, elapsed: Duration) -> f64 {
    n as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// "950", "1.2k", "35k", "1.3M"
pub fn short_number(x: f64) -> String {
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
        let progress = Progress {
            bar: None,
            total_steps: 100,
            first_step: 50,
            tokens: 12_000,
            started: Instant::now(),
            table: StepTable::default(),
        };
        let text = progress.message(60, 2.34567, Duration::from_secs(10));
        assert_eq!(text, "loss 2.3457  1.2k tokens/s  40 s left");
        assert_eq!(progress.message(100, 2.0, Duration::from_secs(10)), "loss 2.0000  1.2k tokens/s");
    }

    #[test]
    fn the_table_shows_what_says_whether_a_run_works() {
        let mut table = StepTable::default();
        let first = [("loss", 0.5931), ("grad_norm", 2.0), ("rewards/accuracies", 0.0), ("rewards/margins", 1e-5)];
        let text = table.row(1, 30, &first, "  1.2k");
        assert_eq!(
            text,
            "step       loss   accuracy     margin  tokens/s\n   1     0.5931          0     1.0e-5  1.2k"
        );
        assert_eq!(table.row(2, 30, &[("loss", f64::NAN)], ""), "   2          –          –          –");
        (2..StepTable::HEAD_EVERY).for_each(|_| assert!(!table.row(3, 30, &first, "").contains("step")));
        assert!(table.row(26, 30, &first, "").starts_with("step"), "the head again");
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
