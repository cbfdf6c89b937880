//! `lapidary plot`: metrics of one or several runs against their steps, as an SVG picture: a panel a metric.
use crate::error::{Error, Result};
use crate::options::{PictureOptions, PlotOptions};
use crate::plural::counted;
use crate::report::chart::picture_of;
use crate::run::durable::write_file;
use crate::run::{MetricsFile, Series};
use std::path::Path;

/// A run and how it is called in the picture.
struct PlottedRun {
    label: String,
    metrics: MetricsFile,
}

/// Draws the picture.
pub fn run(options: &PlotOptions) -> Result<()> {
    let picture = &options.picture;
    if picture.out.exists() && !picture.overwrite_output_file {
        return Err(Error::file(&picture.out, "is there already; --overwrite_output_file writes over it"));
    }
    let runs = picture
        .run_dirs
        .0
        .iter()
        .enumerate()
        .map(|(i, path)| open(path, i, picture))
        .collect::<Result<Vec<PlottedRun>>>()?;
    let mut panels = Vec::new();
    for metric in &picture.metrics {
        let all: Vec<Series> = runs.iter().map(|run| smoothed(&run.metrics.series(metric), picture.smooth)).collect();
        if all.iter().all(Vec::is_empty) {
            return Err(unknown_metric(metric, &runs));
        }
        panels.push((metric.as_str(), all));
    }
    let labels: Vec<&str> = runs.iter().map(|run| run.label.as_str()).collect();
    let svg = picture_of(picture.title.as_deref(), &labels, &panels).map_err(Error::internal)?;
    write_file(&picture.out, svg.as_bytes())?;
    let (panels, runs) = (counted(panels.len(), "metric"), counted(runs.len(), "run"));
    tell!("{}: {panels} of {runs}", picture.out.display());
    Ok(())
}

fn open(given: &Path, index: usize, picture: &PictureOptions) -> Result<PlottedRun> {
    let metrics = MetricsFile::open(given)?;
    metrics.left_out().iter().for_each(|said| tell!("warning: {said}"));
    let own = given.file_name().map_or_else(|| given.display().to_string(), |name| name.to_string_lossy().into_owned());
    let label = picture.labels.0.get(index).cloned().unwrap_or(own);
    Ok(PlottedRun { label, metrics })
}

/// Each value as the mean of the last `n`, itself included.
fn smoothed(series: &[(f64, f64)], n: usize) -> Series {
    let mean = |i: usize| {
        let of = &series[(i + 1).saturating_sub(n)..=i];
        of.iter().map(|(_, y)| y).sum::<f64>() / of.len() as f64
    };
    series.iter().enumerate().map(|(i, (step, _))| (*step, mean(i))).collect()
}

fn unknown_metric(metric: &str, runs: &[PlottedRun]) -> Error {
    let mut names: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(|run| run.metrics.names()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let near = crate::options::given::suggestion(metric, "", names.iter().copied());
    let of = runs.first().map(|run| run.metrics.path.display().to_string()).unwrap_or_default();
    Error::Input(format!("metrics: no run has logged {metric}{near}; {of} has {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_the_last_few() {
        let series = [(1.0, 2.0), (2.0, 4.0), (3.0, 0.0)];
        assert_eq!(smoothed(&series, 2), [(1.0, 2.0), (2.0, 3.0), (3.0, 2.0)]);
        assert_eq!(smoothed(&series, 1), series);
    }
}
