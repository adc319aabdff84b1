//! Charts as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One line: its name and points.
pub type Series = (String, Vec<(f64, f64)>);

/// Seen on white and on black alike.
const COLOURS: [RGBColor; 6] = [
    RGBColor(56, 132, 220),
    RGBColor(34, 150, 84),
    RGBColor(204, 116, 32),
    RGBColor(160, 92, 196),
    RGBColor(214, 72, 60),
    RGBColor(120, 132, 150),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn svg(width: u32, height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?)).map_err(|e| e.to_string())?;
    }
    // What is black or white follows the page, which may be dark; a chart is as wide as it was drawn, or as
    // its page.
    let text = text.replace("#000000", "currentColor").replace("#FFFFFF", "var(--paper, #fff)");
    let size = format!("<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\"");
    Ok(text.replacen(
        &size,
        &format!("<svg width=\"{width}\" viewBox=\"0 0 {width} {height}\" role=\"img\""),
        1,
    ))
}

/// A chart of several lines with a legend over steps, which are whole numbers from 0 on; points that are not
/// finite are left out.
///
/// # Errors
/// In the library's words, when it cannot draw.
pub fn lines(title: &str, [x, y]: [&str; 2], series: &[Series]) -> Result<String, String> {
    let is_finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let points = || series.iter().flat_map(|s| &s.1).copied().filter(is_finite);
    let right = points().map(|p| p.0).fold(1.0, f64::max).ceil() as i64;
    let bottom = points().map(|p| p.1).fold(0.0, f64::min);
    let top = points().map(|p| p.1).fold(0.1, f64::max);
    // The legend stands below, so that it hides no line; the chart is narrow, so that its text can be read on
    // a phone.
    const SIZE: (u32, u32) = (520, 320);
    const LEGEND: (i32, i32) = (170, 22);
    let columns = (SIZE.0 as i32 - 16) / LEGEND.0;
    let rows = series.len().div_ceil(columns as usize) as u32;
    svg(SIZE.0, SIZE.1 + LEGEND.1 as u32 * rows + 8, |area| {
        let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let (area, below) = area.split_vertically(SIZE.1);
        // The last label stands in the middle under its tick, so it needs room on the right.
        let mut chart = ChartBuilder::on(&area)
            .caption(title, font(17))
            .margin(8)
            .margin_right(28)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(0..right, 1.05 * bottom..1.05 * top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(COLOURS[5].mix(0.3))
            .axis_style(COLOURS[5])
            .label_style(font(14))
            .x_labels(6)
            .y_labels(6)
            .x_desc(x)
            .y_desc(y)
            .draw()?;
        for (at, (name, points)) in series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let points = points.iter().copied().filter(is_finite).map(|(x, y)| (x.round() as i64, y));
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            let (column, row) = (at as i32 % columns, at as i32 / columns);
            let (left, middle) = (16 + LEGEND.0 * column, LEGEND.1 / 2 + LEGEND.1 * row);
            below.draw(&PathElement::new([(left, middle), (left + 16, middle)], colour.stroke_width(3)))?;
            let style = font(14).pos(Pos::new(HPos::Left, VPos::Center));
            below.draw(&Text::new(name.clone(), (left + 22, middle), style))?;
        }
        Ok(())
    })
}

/// A chart of bars, one under another, each with its name on the left and its number on the right.
///
/// # Errors
/// In the library's words, when it cannot draw.
pub fn bars(title: &str, counts: &[(String, f64)]) -> Result<String, String> {
    const ROW: i32 = 22;
    const LEFT: i32 = 190;
    const WIDTH: i32 = 560;
    let most = counts.iter().map(|(_, count)| *count).filter(|c| c.is_finite()).fold(1e-9, f64::max);
    let height = 34 + ROW * counts.len().max(1) as i32;
    svg(860, height as u32, |area| {
        let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let middle = |horizontal| Pos::new(horizontal, VPos::Center);
        area.draw(&Text::new(title.to_owned(), (430, 14), font(16).pos(middle(HPos::Center))))?;
        for (at, (name, count)) in counts.iter().enumerate() {
            let y = 34 + ROW * at as i32 + ROW / 2;
            let length = (count.max(0.0) / most * f64::from(WIDTH)).round() as i32;
            let bar = [(LEFT, y - 8), (LEFT + length.max(1), y + 8)];
            area.draw(&Rectangle::new(bar, COLOURS[0].filled()))?;
            let name: String = match name.chars().count() {
                0..=28 => name.clone(),
                _ => name.chars().take(27).chain(['…']).collect(),
            };
            area.draw(&Text::new(name, (LEFT - 8, y), font(13).pos(middle(HPos::Right))))?;
            area.draw(&Text::new(number(*count), (LEFT + length + 8, y), font(13).pos(middle(HPos::Left))))?;
        }
        Ok(())
    })
}

/// A number as short as it can be read.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// A table of what was said (columns) against what was right (rows), darker where there is more. Every row's
/// shades are shares of that row; its last count is of answers that are none of the names.
///
/// # Errors
/// In the library's words, when it cannot draw.
pub fn confusion(title: &str, names: &[String], counts: &[Vec<u64>]) -> Result<String, String> {
    const CELL: i32 = 38;
    /// Pixels of a letter of names, at most and on average.
    const LETTER: i32 = 8;
    const LONGEST: usize = 28;
    let columns: Vec<String> = names.iter().cloned().chain(["(other)".to_owned()]).collect();
    let longest = columns.iter().map(|n| n.chars().count().min(LONGEST)).max().unwrap_or(0) as i32;
    let left = 24 + LETTER * longest;
    // Names of columns stand upright above them.
    let top = 52 + LETTER * longest;
    let side = names.len() as i32;
    let (width, height) = (left + CELL * (side + 1) + 20, top + CELL * side + 20);
    svg(width.max(LETTER * title.chars().count() as i32 + 40) as u32, height as u32, |area| {
        let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let place = |horizontal, vertical| Pos::new(horizontal, vertical);
        let short = |name: &String| match name.chars().count() {
            0..=LONGEST => name.clone(),
            _ => name.chars().take(LONGEST - 1).chain(['…']).collect(),
        };
        area.draw(&Text::new(title.to_owned(), (8, 18), font(16).pos(place(HPos::Left, VPos::Center))))?;
        for (column, name) in columns.iter().enumerate() {
            let x = left + CELL * column as i32 + CELL / 2;
            let upright = ("sans-serif", 13).into_font().transform(FontTransform::Rotate270).color(&BLACK);
            let above = upright.pos(place(HPos::Left, VPos::Center));
            area.draw(&Text::new(short(name), (x, top - 8), above))?;
        }
        for (row, name) in names.iter().enumerate() {
            let y = top + CELL * row as i32 + CELL / 2;
            let right = font(13).pos(place(HPos::Right, VPos::Center));
            area.draw(&Text::new(short(name), (left - 8, y), right))?;
            let row_counts = counts.get(row).map(Vec::as_slice).unwrap_or_default();
            let total = row_counts.iter().sum::<u64>().max(1) as f64;
            for (column, count) in row_counts.iter().take(columns.len()).enumerate() {
                let (x, top) = (left + CELL * column as i32, top + CELL * row as i32);
                let share = *count as f64 / total;
                let colour = if row == column { COLOURS[0] } else { COLOURS[4] };
                area.draw(&Rectangle::new(
                    [(x, top), (x + CELL, top + CELL)],
                    colour.mix(0.8 * share).filled(),
                ))?;
                let style = font(13).pos(place(HPos::Center, VPos::Center));
                area.draw(&Text::new(count.to_string(), (x + CELL / 2, top + CELL / 2), style))?;
            }
        }
        Ok(())
    })
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
        // The legend is below the chart, whose last label says where its axis ends.
        let below = |name: &str| {
            let tag = svg[..svg.find(&format!("{name}\n")).unwrap()].rsplit("<text").next().unwrap();
            let y = tag.split(" y=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            y.parse::<i32>().unwrap() > 320
        };
        assert!(below("first") && below("second"), "{svg}");
    }

    #[test]
    fn bars_are_as_long_as_their_counts() {
        let svg = bars("Sizes", &[("small".into(), 10.0), ("large <b>".into(), 5.0)]).unwrap();
        assert!(svg.contains("width=\"560\"") && svg.contains("width=\"280\""), "{svg}");
        assert!(!svg.contains("<b>"), "names are text, not markup");
        assert!(bars("Nothing", &[]).is_ok());
    }

    #[test]
    fn a_confusion_table_has_all_its_counts() {
        let names = ["a".to_string(), "b".to_string()];
        let svg = confusion("Which", &names, &[vec![31, 2, 0], vec![7, 43, 19]]).unwrap();
        assert!(
            ["31", "2", "7", "43", "19", "(other)"].iter().all(|word| svg.contains(&format!("{word}\n"))),
            "{svg}"
        );
    }
}
