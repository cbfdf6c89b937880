//! The book's exercises: a bug to find in a copy of the sources, with what one sees of it, hints, an answer and the test that fails.
//!
//! Each is a file `exercises/NN-name/exercise.yaml` of the repository. Modules in reading order.
pub mod clone;
pub mod seen_by;

use crate::error::{Error, Result};
use seen_by::SeenBy;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the exercises are, from the repository's root.
pub const DIRECTORY: &str = "exercises";
/// What each consists of.
const FILE: &str = "exercise.yaml";

/// A bug to find.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exercise {
    /// Its number, from its directory's name.
    #[serde(skip)]
    pub number: usize,
    /// What it is about; says nothing of the bug.
    pub title: String,
    /// The page of `book/src` that it belongs to.
    pub chapter: String,
    /// The file that the bug is in, from the repository's root.
    pub file: PathBuf,
    /// Text of that file that stands there exactly once.
    pub right: String,
    /// What stands in its place with the bug.
    pub wrong: String,
    /// What a person sees who trains with the bug.
    pub symptom: String,
    /// Hints, each nearer to the bug.
    pub hints: Vec<String>,
    /// The test that fails with the bug and passes without it.
    pub test: SeenBy,
    /// Why this is wrong, and why nothing else says so.
    pub answer: String,
}

impl Exercise {
    /// "07", as commands and directories have it.
    pub fn name(&self) -> String {
        format!("{:02}", self.number)
    }

    /// Puts the bug into the sources below `root`. Errors: the right text does not stand there exactly once.
    pub fn plant(&self, root: &Path) -> Result<()> {
        self.replace(root, &self.right, &self.wrong)
    }

    /// Takes the bug out again. Errors: the wrong text does not stand there exactly once.
    pub fn mend(&self, root: &Path) -> Result<()> {
        self.replace(root, &self.wrong, &self.right)
    }

    fn replace(&self, root: &Path, old: &str, new: &str) -> Result<()> {
        let path = root.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        let times = text.matches(old).count();
        if times != 1 {
            let detail = format!("has {times} places like that of exercise {}, which needs one", self.name());
            return Err(Error::file(&path, format!("{detail}; are the sources and the exercises of one version?")));
        }
        fs::write(&path, text.replacen(old, new, 1)).map_err(|e| Error::file(&path, e))
    }

    /// The bug as lines taken away and lines added, whole ones, under the place in the sources below `root`.
    pub fn difference(&self, root: &Path) -> Result<String> {
        let path = root.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        let Some(at) = text.find(&self.right) else {
            return Err(Error::file(&path, format!("has not the text of exercise {}", self.name())));
        };
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let behind = at + self.right.len();
        let end = text[behind..].find('\n').map_or(text.len(), |newline| behind + newline);
        let signed = |sign: char, middle: &str| -> String {
            let whole = format!("{}{middle}{}", &text[start..at], &text[behind..end]);
            whole.lines().map(|line| format!("{sign} {line}\n")).collect()
        };
        let line = text[..at].matches('\n').count() + 1;
        let place = format!("{}:{line}\n", self.file.display());
        Ok(place + &signed('-', &self.wrong) + &signed('+', &self.right))
    }
}

/// All exercises of a repository, by number. Errors: a directory whose name has no number, a file that does not say all that
/// it must, two of one number.
pub fn all(root: &Path) -> Result<Vec<Exercise>> {
    let directory = root.join(DIRECTORY);
    let entries = fs::read_dir(&directory).map_err(|e| Error::file(&directory, e))?;
    let mut found: Vec<Exercise> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::file(&directory, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != clone::WORK {
            found.push(read(&path, &name)?);
        }
    }
    found.sort_by_key(|exercise| exercise.number);
    match found.windows(2).find(|pair| pair[0].number == pair[1].number) {
        Some(twice) => Err(Error::file(directory, format!("has two exercises {}", twice[0].name()))),
        None => Ok(found),
    }
}

fn read(directory: &Path, name: &str) -> Result<Exercise> {
    let number = name.split_once('-').and_then(|(number, _)| number.parse().ok());
    let number = number.ok_or_else(|| Error::file(directory, "is not called NN-name, as exercises are"))?;
    let path = directory.join(FILE);
    let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    let exercise: Exercise = serde_saphyr::from_str(&text).map_err(|e| Error::file(&path, e))?;
    Ok(Exercise { number, ..exercise })
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "title: Sums\nchapter: sums.md\nfile: sums.rs\nright: |-\n  a\n      + b\nwrong: |-\n  a\n      - b\n\
                        symptom: Less.\nhints: [Look.]\ntest: {target: engine, name: sums::tests::sum}\nanswer: A sign.\n";

    /// A repository with one exercise.
    fn place() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("exercises/03-sums");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(dir.path().join("exercises/work/03")).unwrap();
        fs::write(own.join(FILE), YAML).unwrap();
        dir
    }

    #[test]
    fn a_bug_comes_and_goes() {
        let dir = place();
        let exercise = all(dir.path()).unwrap().remove(0);
        assert_eq!((exercise.number, exercise.name().as_str()), (3, "03"));
        let (file, text) = (dir.path().join("sums.rs"), "fn sum() {\n    a\n    + b;\n}\n");
        fs::write(&file, text).unwrap();
        assert_eq!(exercise.difference(dir.path()).unwrap(), "sums.rs:2\n-     a\n-     - b;\n+     a\n+     + b;\n");
        exercise.plant(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text.replace('+', "-"));
        assert!(exercise.plant(dir.path()).unwrap_err().to_string().contains("0 places"));
        exercise.mend(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::write(&file, format!("{text}{text}")).unwrap();
        assert!(exercise.plant(dir.path()).unwrap_err().to_string().contains("2 places"));
    }

    #[test]
    fn what_is_wrong_with_an_exercise_is_told() {
        let dir = place();
        let own = dir.path().join("exercises/03-sums").join(FILE);
        let told = |dir: &Path| all(dir).unwrap_err().to_string();
        fs::write(&own, YAML.replace("symptom", "symptoms")).unwrap();
        assert!(told(dir.path()).contains("symptoms"));
        fs::write(&own, YAML).unwrap();
        fs::create_dir(dir.path().join("exercises/sums")).unwrap();
        assert!(told(dir.path()).contains("NN-name"));
        fs::rename(dir.path().join("exercises/sums"), dir.path().join("exercises/03-more")).unwrap();
        fs::write(dir.path().join("exercises/03-more").join(FILE), YAML).unwrap();
        assert!(told(dir.path()).contains("two exercises 03"));
    }
}
