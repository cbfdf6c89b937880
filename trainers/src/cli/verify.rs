//! `lapidary verify`: whether a run's directory still holds what was written into it.
use crate::error::{Error, Result};
use crate::options::VerifyOptions;
use crate::run::durable::hash_file;
use crate::run::{Checkpoint, FileHash, Manifest};
use std::path::Path;

/// Says each file and checkpoint that is whole. Errors: those that are not, a line each.
pub fn run(options: &VerifyOptions) -> Result<()> {
    let run = &options.verified.run_dir;
    let manifest = manifest_of(run)?;
    let mut wrong = Vec::new();
    let finished = manifest.outputs.iter().map(|(name, hash)| (name.clone(), check(&run.join(name), hash)));
    let saved = Checkpoint::list(run)?.into_iter().map(|checkpoint| {
        let name = checkpoint.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        (name, Checkpoint::open(&checkpoint.path).map(|_| ()))
    });
    let mut n_whole = 0;
    for (name, found) in finished.chain(saved) {
        match found {
            Ok(()) => {
                n_whole += 1;
                println(&format!("whole  {name}"))?;
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if manifest.finished.is_none() {
        println("the run has not come to its end: only its checkpoints have hashes")?;
    } else if manifest.outputs.is_empty() {
        println("the run was finished by an older version, which wrote no hashes of the finished model")?;
    }
    match wrong.is_empty() {
        true => println(&format!("{n_whole} of {n_whole} whole")),
        false => Err(Error::Output(wrong.join("\n"))),
    }
}

/// A run's manifest. Errors: the directory is no run's.
pub fn manifest_of(run: &Path) -> Result<Manifest> {
    Manifest::of(run).ok_or_else(|| Error::file(run, "is no run's directory: it has no manifest.json of this program"))
}

fn check(path: &Path, expected: &FileHash) -> Result<()> {
    match hash_file(path)? == *expected {
        true => Ok(()),
        false => Err(Error::file(path, "is not what was written: its SHA-256 is another")),
    }
}

/// A line on standard output.
pub fn println(line: &str) -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").map_err(Error::output)
}
