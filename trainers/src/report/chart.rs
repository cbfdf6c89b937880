//! Curves as SVG: metrics against steps, a panel a metric, a line a run.
use crate::run::Series;
use plotters::prelude::*;

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

/// Values beyond it are drawn there: the difference of two of them must be a number, or the axis has no marks to end with.
const FARTHEST: f64 = 1e300;

/// Least and greatest of some numbers, with a margin; a line that does not move lies in the middle.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values = values.map(|x| x.clamp(-FARTHEST, FARTHEST));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let margin = if high > low { 0.05 * (high - low) } else { 0.5 * high.abs().max(1.0) };
    (low - margin, high + margin)
}

/// A picture in SVG: a panel a metric, a line a run (`labels`), a heading and a legend. Errors: what plotters says.
pub fn picture_of(
    title: Option<&str>,
    labels: &[&str],
    panels: &[(&str, Vec<Series>)],
) -> std::result::Result<String, String> {
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
        let points = series.iter().map(|(x, y)| (*x, y.clamp(-FARTHEST, FARTHEST)));
        chart.draw_series(LineSeries::new(points, style)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_panels_lines_and_labels() {
        let runs = vec![vec![(1.0, 0.5), (2.0, 0.7)], vec![(1.0, 0.5), (2.0, 0.1)]];
        let svg = picture_of(Some("A & B"), &["first", "second"], &[("gold", runs), ("flat", vec![vec![(1.0, 3.0)]])])
            .unwrap();
        for text in ["<svg", "gold", "flat", "first", "second", "A &amp; B", "polyline", "#D55E00"] {
            assert!(svg.contains(text), "{text} is not in the picture");
        }
    }

    #[test]
    fn bounds_leave_room() {
        assert_eq!(bounds([0.0, 1.0].into_iter()), (-0.05, 1.05));
        assert_eq!(bounds([2.0].into_iter()), (1.0, 3.0));
        let (low, high) = bounds([f64::MIN, f64::MAX].into_iter());
        assert!((high - low).is_finite());
    }

    /// A run that has diverged is drawn, too: neither does it take for ever nor does a point fall off the picture.
    #[test]
    fn the_largest_numbers_are_drawn() {
        for [a, b] in [[f64::MIN, f64::MAX], [1e300, 1.0], [5e-324, 0.0], [0.3, 0.1 + 0.2]] {
            let svg = picture_of(None, &["run"], &[("loss", vec![vec![(1.0, a), (2.0, b)]])]).unwrap();
            assert!(svg.contains("polyline"), "{a} {b}");
        }
    }
}
