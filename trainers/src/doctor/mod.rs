//! `lapidary doctor`: what computes here, whether it computes right, how fast it can be, and what a training step will cost.
//!
//! `devices` lists and opens, `ceilings` measures, `cost` predicts; this file puts their findings into one text.
mod ceilings;
mod cost;
#[cfg(feature = "gpu")]
pub mod counted;
mod devices;
mod table;

use crate::error::Result;
use crate::options::DoctorOptions;
use crate::run::memory::{available_bytes, show_bytes};
pub use ceilings::Ceilings;
use devices::Found;
use engine::verify::{Report, verify_backend};
use std::fmt::Write;
use table::Table;

/// What was found.
pub struct Findings {
    /// For people, several tables.
    pub text: String,
    /// Kernels that do not agree with the reference, on any device.
    pub n_failed: usize,
}

/// Looks at every device that the options name (with auto: at all there are).
pub fn examine(options: &DoctorOptions) -> Result<Findings> {
    let model = options.step.model_name_or_path.as_deref().map(cost::Planned::open).transpose()?;
    let devices::Search { found, missing } = devices::find(options.device.device, options.device.threads)?;
    let mut text = machine();
    text += &devices::describe(&found);
    for line in missing {
        let _ = writeln!(text, "{line}");
    }
    let mut n_failed = 0;
    if options.checks.check_kernels {
        let reports: Vec<Vec<Report>> = found.iter().map(|d| verify_backend(&d.device, d.tolerance)).collect();
        n_failed = reports.iter().flatten().filter(|r| !r.passed).count();
        text += &kernels(&found, &reports);
    }
    let ceilings = found.iter().map(|d| Ceilings::measure(&*d.device, d.is_software)).collect::<Result<Vec<_>>>()?;
    text += &ceilings::describe(&found, &ceilings);
    match model {
        Some(model) => text += &cost::describe(&model, &options.step, &found, &ceilings)?,
        None => text += "\nWhat a training step of a model will cost: give --model_name_or_path.\n",
    }
    Ok(Findings { text, n_failed })
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let free = available_bytes().map_or(String::new(), |bytes| format!(", {} of memory free", show_bytes(bytes)));
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    format!("lapidary {version} on {os} {arch}: {cpus} CPUs{free}\n")
}

/// How many cases agree with the reference on each device, and which do not.
fn kernels(found: &[Found], reports: &[Vec<Report>]) -> String {
    let mut table = Table::new("kernels against the reference", &["--device", "cases", "agree", "largest error"]);
    let mut failures = String::new();
    for (device, reports) in found.iter().zip(reports) {
        let agree = reports.iter().filter(|r| r.passed).count();
        let largest = reports.iter().map(|r| r.max_error).fold(0.0, f64::max);
        table.row(&[&device.flag, &reports.len().to_string(), &agree.to_string(), &format!("{largest:.0e}")]);
        for report in reports.iter().filter(|r| !r.passed).take(10) {
            let _ = writeln!(failures, "  {}: {report}", device.flag);
        }
    }
    table.to_string() + &failures
}
