//! `lapidary exercise`: a copy of the sources with a bug to find, hints, the test that must pass again, the answer.
use crate::error::{Error, Result};
use crate::exercises::clone::{Attempt, copy_sources, find, usual_directory};
use crate::exercises::seen_by::{TestVerdict, target_directory};
use crate::exercises::{self, Exercise};
use crate::options::{ExerciseOptions, LearningOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Columns of the texts that are printed.
const WIDTH: usize = 100;

/// A text in lines of at most [`WIDTH`] columns, as far as its words allow.
fn wrapped(text: &str) -> String {
    let (mut lines, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let n = word.chars().count();
        if column > 0 && column + 1 + n > WIDTH {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += n;
    }
    lines
}

/// Text on standard output.
fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::output)
}

/// Lists the exercises, begins one, or helps with one that was begun.
pub fn run(options: &ExerciseOptions) -> Result<()> {
    let asked = &options.learning;
    let here = std::env::current_dir().map_err(|e| Error::file(".", e))?;
    let clone = find(&here)?;
    let all = exercises::all(&clone)?;
    let Some(number) = asked.number else { return list(&clone, &all) };
    let Some(exercise) = all.iter().find(|exercise| exercise.number == number) else {
        let numbers = all.first().zip(all.last()).map(|(a, b)| format!("; they are {} to {}", a.name(), b.name()));
        return Err(Error::input(format!("there is no exercise {number:02}{}", numbers.unwrap_or_default())));
    };
    if asked.answer {
        return say(&format!("{}\n{}\n", exercise.difference(&clone)?, wrapped(&exercise.answer)));
    }
    if !asked.hint && !asked.check {
        return begin(&clone, &here, exercise, asked);
    }
    let Some(progress) = Attempt::find(&clone, exercise)? else {
        let name = exercise.name();
        return Err(Error::input(format!("exercise {name} was not begun; lapidary exercise {name} makes its copy")));
    };
    if asked.hint { hint(&clone, exercise, progress) } else { check(&clone, exercise, &progress) }
}

fn list(clone: &Path, all: &[Exercise]) -> Result<()> {
    let mut text = String::new();
    for exercise in all {
        let begun =
            Attempt::find(clone, exercise)?.map_or(String::new(), |p| format!("  begun in {}", p.directory.display()));
        text += &format!("{}  {}  (book/src/{}){begun}\n", exercise.name(), exercise.title, exercise.chapter);
    }
    say(&(text + "\nlapidary exercise NUMBER copies the sources with a bug in them.\n"))
}

/// Makes the copy, or says where it is, and what is to be done with it.
fn begin(clone: &Path, here: &Path, exercise: &Exercise, asked: &LearningOptions) -> Result<()> {
    let name = exercise.name();
    let begun = Attempt::find(clone, exercise)?;
    let given = asked.output_dir.as_ref().map(|path| here.join(path));
    let there =
        begun.as_ref().filter(|p| p.directory.is_dir() && given.as_ref().is_none_or(|given| *given == p.directory));
    if let Some(progress) = there.filter(|_| !asked.overwrite_output_dir) {
        say(&format!(
            "Exercise {name} is in {}, with what you have changed there; --overwrite begins anew.\n\n",
            progress.directory.display()
        ))?;
        return say(&task(exercise, &progress.directory));
    }
    let directory = there.map(|p| p.directory.clone()).or(given).unwrap_or_else(|| usual_directory(clone, exercise));
    if there.is_none() && directory != usual_directory(clone, exercise) && !is_empty(&directory)? {
        return Err(Error::file(
            &directory,
            format!("is no copy of exercise {name} and not empty; give another directory"),
        ));
    }
    copy_sources(clone, &directory)?;
    exercise.plant(&directory)?;
    let progress = Attempt { directory, hints: 0 };
    progress.save(clone, exercise)?;
    say(&task(exercise, &progress.directory))
}

/// Whether nothing is in a directory, or it is not there.
fn is_empty(directory: &PathBuf) -> Result<bool> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::file(directory, e)),
    }
}

fn task(exercise: &Exercise, directory: &Path) -> String {
    let (name, title, symptom) = (exercise.name(), &exercise.title, wrapped(&exercise.symptom));
    format!(
        "Exercise {name}: {title} (book/src/{chapter})\n\n{symptom}\n\n\
         The sources with the bug: {directory}\n\
         Find it and put it right there. Then, from your clone:\n\n  \
         lapidary exercise {name} --check    runs the test that must pass again\n  \
         lapidary exercise {name} --hint     gives the next of {n} hints\n  \
         lapidary exercise {name} --answer   shows the bug\n",
        chapter = exercise.chapter,
        directory = directory.display(),
        n = exercise.hints.len(),
    )
}

fn hint(clone: &Path, exercise: &Exercise, progress: Attempt) -> Result<()> {
    let n = exercise.hints.len();
    let Some(hint) = exercise.hints.get(progress.hints) else {
        return say(&format!(
            "There are no more hints; lapidary exercise {} --answer shows the bug.\n",
            exercise.name()
        ));
    };
    let given = progress.hints + 1;
    say(&format!("{}\n", wrapped(&format!("Hint {given} of {n}: {hint}"))))?;
    Attempt { hints: given, ..progress }.save(clone, exercise)
}

/// Runs the exercise's test in the copy; an error as long as it fails.
fn check(clone: &Path, exercise: &Exercise, progress: &Attempt) -> Result<()> {
    let (name, command) = (exercise.name(), exercise.test.command());
    say(&format!("{command}\n"))?;
    let outcome = exercise.test.run(&progress.directory, &target_directory(clone), |line| say(&format!("{line}\n")))?;
    match outcome {
        TestVerdict::Passed => say(&format!(
            "\nExercise {name}: found. The test passes; --answer shows what was planted, and why it matters.\n"
        )),
        TestVerdict::Failed => Err(Error::input(format!("exercise {name}: not yet; {command} fails as above"))),
        TestVerdict::Missing => {
            let test = &exercise.test.name;
            Err(Error::input(format!("exercise {name}: the copy has no test {test} any more; --overwrite begins anew")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_and_no_word_is_lost() {
        let text = "a bb\nccc ".repeat(60);
        let found = wrapped(&text);
        assert!(found.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(found.lines().rev().skip(1).all(|line| line.chars().count() > WIDTH - 4));
        assert!(found.split_whitespace().eq(text.split_whitespace()));
        assert_eq!(wrapped(&"x".repeat(WIDTH + 1)), "x".repeat(WIDTH + 1));
    }
}
