//! `lapidary report`: the report of a run, or of several laid over each other.
use crate::error::{Error, Result};
use crate::options::ReportOptions;
use crate::report::{open_all, page};
use crate::run::REPORT;
use crate::run::durable::write_file;

/// Writes the page: beside the run that it is about, or where `out` says.
pub fn run(options: &ReportOptions) -> Result<()> {
    let about = &options.about;
    let runs = open_all(&about.run_dirs.0)?;
    runs.iter().flat_map(|run| &run.left_out).for_each(|said| tell!("warning: {said}"));
    if let Some(empty) = runs.iter().find(|run| run.metrics.lines().is_empty()) {
        return Err(Error::file(&empty.metrics.path, "nothing was logged yet"));
    }
    let path = match (&about.out, runs.as_slice()) {
        (Some(out), _) if out.exists() && !about.overwrite_output_file => {
            return Err(Error::file(out, "is there already; --overwrite_output_file writes over it"));
        }
        (Some(out), _) => out.clone(),
        (None, [only]) => only.directory.join(REPORT),
        (None, _) => {
            return Err(Error::input("out is missing: a report of several runs is written to the file it names"));
        }
    };
    write_file(&path, page::of(&runs, None)?.as_bytes())?;
    tell!("{}", path.display());
    Ok(())
}
