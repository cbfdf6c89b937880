//! `lapidary reproduce`: a run once more, from its own options, every logged number compared.
use super::place::WorkPlace;
use super::verify::{manifest_of, println};
use super::{carry_out, diff, read};
use crate::error::{Error, Result};
use crate::options::ReproduceOptions;
use crate::run::parting::compare;
use crate::run::{CONFIG, Manifest, MetricsFile, interrupt};
use std::ffi::OsString;
use std::path::Path;

/// How far numbers may lie apart on another kind of device (book: "Devices and the same bits").
const ACROSS_DEVICES: f64 = 1e-3;

/// Runs the run again and says whether its numbers come again. Errors: they do not, and which is the first.
pub fn run(options: &ReproduceOptions) -> Result<()> {
    let given = &options.reproduced;
    let (before, logged) = (manifest_of(&given.run_dir)?, MetricsFile::open(&given.run_dir)?);
    let last = logged.lines().iter().filter_map(|line| line.get("step")?.as_u64()).max();
    let last = last.ok_or_else(|| Error::file(&logged.path, "has no number to compare with"))?;
    let until = given.until.unwrap_or(last).min(last);
    let place = WorkPlace::new("reproduce", given.output_dir.as_deref())?;
    let output_dir = &place.path;
    again(&before, &given.run_dir.join(CONFIG), output_dir, given.device.as_deref(), until)?;
    let after = manifest_of(output_dir)?;
    let tolerance =
        given.tolerance.unwrap_or(if same_kind(&before.device, &after.device) { 0.0 } else { ACROSS_DEVICES });
    let found = compare(&logged, &MetricsFile::open(output_dir)?, until, tolerance);
    let mut lines = diff::about(&before, &after);
    if tolerance > 0.0 {
        lines.push(format!("numbers count as equal up to {tolerance}"));
    }
    lines.extend(if found.parting.is_none() { diff::weights(&before, &after) } else { vec![] });
    lines.iter().try_for_each(|line| println(line))?;
    match found.parting {
        None => println(&format!("reproduced: {}", diff::said(&found))),
        Some(_) => Err(Error::Output(format!("not reproduced: {}", diff::said(&found)))),
    }
}

/// Carries the command out again as far as step `until`, into a directory of its own.
fn again(before: &Manifest, config: &Path, output_dir: &Path, device: Option<&str>, until: u64) -> Result<()> {
    let mut arguments: Vec<OsString> = vec!["lapidary".into(), (&before.command).into()];
    arguments.extend(["--config".into(), config.into(), "--output_dir".into(), output_dir.into()]);
    arguments.extend(["--resume_from_checkpoint".into(), "never".into(), "--no_push_to_hub".into()]);
    arguments.extend(device.into_iter().flat_map(|device| ["--device".into(), device.into()]));
    let request = read(arguments)?;
    interrupt::stop_after(Some(until));
    let done = carry_out(request);
    interrupt::stop_after(None);
    match done {
        // Stopped where it was to stop; a signal of the user's comes before that, and ends the comparison.
        Err(Error::Stopped(_)) if reached(output_dir, until) => Ok(()),
        other => other,
    }
}

/// Whether the run has come to this step: its last checkpoint says so.
fn reached(run: &Path, step: u64) -> bool {
    let last = crate::run::Checkpoint::list(run).ok().and_then(|mut all| all.pop());
    last.is_some_and(|checkpoint| checkpoint.step >= step)
}

/// Whether two devices are to give the same bits: the CPU with any number of threads, or a GPU of the same name.
fn same_kind(a: &str, b: &str) -> bool {
    a == b || (a.starts_with("cpu ") && b.starts_with("cpu "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_devices() {
        assert!(same_kind("cpu (2 threads, avx2)", "cpu (8 threads, avx512)"));
        assert!(!same_kind("cpu (2 threads, avx2)", "llvmpipe (Vulkan)"));
        assert!(same_kind("llvmpipe (Vulkan)", "llvmpipe (Vulkan)") && !same_kind("A", "B"));
    }
}
