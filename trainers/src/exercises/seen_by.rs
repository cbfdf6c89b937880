//! The test that sees a bug: which command of cargo runs it, and what came of it.
use crate::error::{Error, Result};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A test, and what it is compiled into.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenBy {
    /// `engine` or `trainers` for the tests inside that library, otherwise a file of its own, without `.rs`.
    pub target: String,
    /// The test's whole name, with its modules.
    pub name: String,
}

/// What came of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestVerdict {
    /// It passes.
    Passed,
    /// It fails, or is not reached because the sources do not compile.
    Failed,
    /// There is no test of this name any more.
    Missing,
}

impl SeenBy {
    /// What cargo is told. The features of all dependencies are those of the whole workspace, so that none is built again.
    pub fn arguments(&self) -> Vec<&str> {
        let target: &[&str] = match self.target.as_str() {
            "engine" => &["--workspace", "--exclude", "lapidary-trainers", "--lib"],
            "trainers" => &["--workspace", "--exclude", "lapidary-engine", "--lib"],
            file => &["--test", file],
        };
        [&["test"], target, &["--", "--exact", &self.name]].concat()
    }

    /// The command as one would type it.
    pub fn command(&self) -> String {
        format!("cargo {}", self.arguments().join(" "))
    }

    /// Runs the test of the sources in `directory`; what cargo builds goes to `built`. `say` hears what the test prints.
    pub fn run(&self, directory: &Path, built: &Path, mut say: impl FnMut(&str) -> Result<()>) -> Result<TestVerdict> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(self.arguments()).current_dir(directory).env("CARGO_TARGET_DIR", built).stdout(Stdio::piped());
        let failed =
            |e: std::io::Error| Error::input(format!("cargo cannot be run: {e}; is Rust's toolchain installed?"));
        let mut child = command.spawn().map_err(failed)?;
        let mut outcomes = Counted::default();
        let mut heard = Ok(());
        if let Some(output) = child.stdout.take() {
            heard = BufReader::new(output).lines().try_for_each(|line| {
                let line = line.map_err(Error::internal)?;
                outcomes.take(&line);
                say(&line)
            });
        }
        if heard.is_err() {
            // Nobody listens any more.
            let _ = child.kill();
        }
        let succeeded = child.wait().map_err(failed)?.success();
        heard.map(|()| outcomes.outcome(succeeded))
    }
}

/// Where cargo puts what it builds for a clone: so the dependencies that are built there serve its copies.
pub fn target_directory(clone: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| clone.join("target"), |given| clone.join(given))
}

/// Tests that passed and failed, over all of cargo's result lines.
#[derive(Default)]
struct Counted {
    passed: usize,
    failed: usize,
}

impl Counted {
    /// Takes in a line `test result: ok. 1 passed; 0 failed; …`; other lines say nothing.
    fn take(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            let (number, what) = part.split_once(' ').unwrap_or_default();
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }

    fn outcome(&self, succeeded: bool) -> TestVerdict {
        match (succeeded, self.passed) {
            (true, 0) => TestVerdict::Missing,
            (true, _) => TestVerdict::Passed,
            (false, _) => TestVerdict::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let of = |target: &str| SeenBy { target: target.into(), name: "a::b".into() }.command();
        assert_eq!(of("gradients"), "cargo test --test gradients -- --exact a::b");
        assert_eq!(of("engine"), "cargo test --workspace --exclude lapidary-trainers --lib -- --exact a::b");
    }

    #[test]
    fn outcomes() {
        let of = |lines: &[&str], succeeded| {
            let mut counted = Counted::default();
            lines.iter().for_each(|line| counted.take(line));
            counted.outcome(succeeded)
        };
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s";
        let one = none.replace("0 passed", "1 passed");
        assert_eq!(of(&[none, "test a ... ok", &one], true), TestVerdict::Passed);
        assert_eq!(of(&[none, none], true), TestVerdict::Missing);
        assert_eq!(of(&["test result: FAILED. 0 passed; 1 failed; 0 ignored"], false), TestVerdict::Failed);
        assert_eq!(of(&[], false), TestVerdict::Failed);
    }
}
