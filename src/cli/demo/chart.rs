//! Lines over steps as SVG.

use plotters::prelude::*;

/// One line: its name and points.
pub type Series = (String, Vec<(f64, f64)>);

const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 102, 184),
    RGBColor(17, 113, 58),
    RGBColor(184, 98, 20),
    RGBColor(130, 60, 160),
    RGBColor(168, 38, 28),
    RGBColor(90, 100, 117),
];

/// A chart of several lines with a legend.
///
/// # Errors
/// What the library says when it cannot draw.
pub fn lines(title: &str, [x, y]: [&str; 2], series: &[Series]) -> Result<String, String> {
    let points = || series.iter().flat_map(|s| &s.1).filter(|p| p.0.is_finite() && p.1.is_finite());
    let right = points().map(|p| p.0).fold(1.0, f64::max);
    let top = points().map(|p| p.1).fold(0.1, f64::max);
    let mut svg = String::new();
    draw(&mut svg, title, [x, y], series, right, 1.05 * top).map_err(|e| e.to_string())?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    [x, y]: [&str; 2],
    series: &[Series],
    right: f64,
    top: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, (860, 320)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc(x).y_desc(y).draw()?;
    for (i, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let drawn = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite());
        let line = LineSeries::new(drawn, colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_named() {
        let series = vec![
            ("first".to_string(), vec![(0.0, 3.0), (10.0, 1.0)]),
            ("second".to_string(), vec![(5.0, 2.0), (10.0, f64::NAN)]),
        ];
        let svg = lines("Loss", ["step", "loss"], &series).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("first") && svg.contains("second"));
        assert!(svg.matches("<polyline").count() >= 2 && !svg.contains("NaN"), "{svg}");
    }
}
