//! `lapidary doctor`: prints what was found; kernels that are wrong are a failure.
use crate::doctor::examine;
use crate::error::{Error, Result};
use crate::options::DoctorOptions;
use std::io::Write;

/// Looks, prints, and fails where a kernel does not agree with the reference.
pub fn run(options: &DoctorOptions) -> Result<()> {
    let findings = examine(options)?;
    let written = std::io::stdout().write_all(findings.text.as_bytes());
    written.map_err(Error::output)?;
    match findings.n_failed {
        0 => Ok(()),
        n => Err(Error::internal(format!(
            "{n} cases do not agree with the reference, see above: do not train on that device"
        ))),
    }
}
