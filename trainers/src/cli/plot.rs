//! `lapidary plot`: metrics of one or several runs against their steps, as an SVG picture: a panel a metric.
use crate::error::{Error, Result};
use crate::options::{PictureOptions, PlotOptions};
use crate::run::durable::write_file;
use crate::run::{MetricsFile, Series};
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 820;
const PANEL_HEIGHT: u32 = 230;
const HEADING_HEIGHT: u32 = 40;
const LEGEND_HEIGHT: u32 = 34;
/// Colours that are told apart by most eyes (M. Okabe and K. Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A run and how it is called in the picture.
struct Run {
    label: String,
    metrics: MetricsFile,
}

/// Draws the picture.
pub fn run(options: &PlotOptions) -> Result<()> {
    let picture = &options.picture;
    if picture.out.exists() && !picture.overwrite_output_file {
        return Err(Error::file(&picture.out, "is there already; --overwrite_output_file writes over it"));
    }
    let runs =
        picture.run_dirs.0.iter().enumerate().map(|(i, path)| open(path, i, picture)).collect::<Result<Vec<Run>>>()?;
    let mut panels = Vec::new();
    for metric in &picture.metrics {
        let all: Vec<Series> = runs.iter().map(|run| smoothed(&run.metrics.series(metric), picture.smooth)).collect();
        if all.iter().all(Vec::is_empty) {
            return Err(unknown_metric(metric, &runs));
        }
        panels.push((metric.as_str(), all));
    }
    let labels: Vec<&str> = runs.iter().map(|run| run.label.as_str()).collect();
    let svg = draw(picture.title.as_deref(), &labels, &panels).map_err(Error::internal)?;
    write_file(&picture.out, svg.as_bytes())?;
    eprintln!("{}: {} metrics of {} runs", picture.out.display(), panels.len(), runs.len());
    Ok(())
}

fn open(given: &Path, index: usize, picture: &PictureOptions) -> Result<Run> {
    let metrics = MetricsFile::open(given)?;
    let own = given.file_name().map_or_else(|| given.display().to_string(), |name| name.to_string_lossy().into_owned());
    let label = picture.labels.0.get(index).cloned().unwrap_or(own);
    Ok(Run { label, metrics })
}

/// Each value as the mean of the last `n`, itself included.
fn smoothed(series: &[(f64, f64)], n: usize) -> Series {
    let mean = |i: usize| {
        let of = &series[(i + 1).saturating_sub(n)..=i];
        of.iter().map(|(_, y)| y).sum::<f64>() / of.len() as f64
    };
    series.iter().enumerate().map(|(i, (step, _))| (*step, mean(i))).collect()
}

fn unknown_metric(metric: &str, runs: &[Run]) -> Error {
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

/// Least and greatest of some numbers, with a margin; a line that does not move lies in the middle.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let margin = if high > low { 0.05 * (high - low) } else { 0.5 * high.abs().max(1.0) };
    (low - margin, high + margin)
}

fn draw(title: Option<&str>, labels: &[&str], panels: &[(&str, Vec<Series>)]) -> std::result::Result<String, String> {
    let said = |e: DrawingAreaErrorKind<_>| e.to_string();
    let heading = if title.is_some() { HEADING_HEIGHT } else { 10 };
    let mut svg = String::new();
    {
        let size = (WIDTH, heading + PANEL_HEIGHT * panels.len() as u32 + LEGEND_HEIGHT);
        let whole = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        whole.fill(&WHITE).map_err(said)?;
        if let Some(title) = title {
            let style = ("sans-serif", 19).into_font();
            whole.draw(&Text::new(title.to_string(), (16, 12), style)).map_err(said)?;
        }
        let (_, below) = whole.split_vertically(heading);
        let (charts, legend) = below.split_vertically(PANEL_HEIGHT * panels.len() as u32);
        for (area, (metric, all)) in charts.split_evenly((panels.len(), 1)).iter().zip(panels) {
            panel(area, metric, all)?;
        }
        for (i, label) in labels.iter().enumerate() {
            let (x, style) = (70 + i as i32 * 740 / labels.len() as i32, COLOURS[i % COLOURS.len()].stroke_width(3));
            legend.draw(&PathElement::new(vec![(x, 14), (x + 26, 14)], style)).map_err(said)?;
            legend.draw(&Text::new(label.to_string(), (x + 32, 7), ("sans-serif", 14).into_font())).map_err(said)?;
        }
        whole.present().map_err(said)?;
    }
    Ok(svg)
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    metric: &str,
    all: &[Series],
) -> std::result::Result<(), String> {
    let points = || all.iter().flatten();
    let (_, last) = bounds(points().map(|(x, _)| *x));
    let (low, high) = bounds(points().map(|(_, y)| *y));
    let mut chart = ChartBuilder::on(area)
        .caption(metric, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..last.max(1.0), low..high)
        .map_err(|e| e.to_string())?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_labels(10).y_labels(6).draw().map_err(|e| e.to_string())?;
    for (i, series) in all.iter().enumerate() {
        let style = COLOURS[i % COLOURS.len()].stroke_width(2);
        chart.draw_series(LineSeries::new(series.iter().copied(), style)).map_err(|e| e.to_string())?;
    }
    Ok(())
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

    #[test]
    fn a_picture_has_its_panels_lines_and_labels() {
        let runs = vec![vec![(1.0, 0.5), (2.0, 0.7)], vec![(1.0, 0.5), (2.0, 0.1)]];
        let svg =
            draw(Some("A & B"), &["first", "second"], &[("gold", runs), ("flat", vec![vec![(1.0, 3.0)]])]).unwrap();
        for text in ["<svg", "gold", "flat", "first", "second", "A &amp; B", "polyline", "#D55E00"] {
            assert!(svg.contains(text), "{text} is not in the picture");
        }
    }

    #[test]
    fn bounds_leave_room() {
        assert_eq!(bounds([0.0, 1.0].into_iter()), (-0.05, 1.05));
        assert_eq!(bounds([2.0].into_iter()), (1.0, 3.0));
    }
}
