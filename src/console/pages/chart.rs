//! Computes the bars and lines of an SVG chart, in units that the browser stretches to the size of the page.
//!
//! Labels are HTML around the SVG, because stretched text is hard to read.

use std::fmt::Write as _;

pub const WIDTH: u32 = 600;
pub const HEIGHT: u32 = 120;

/// One rectangle of a series.
#[derive(Debug, PartialEq, Eq)]
pub struct Bar {
    pub class: &'static str,
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// The clickable area over one interval: its tooltip, and a link to the executions in it.
#[derive(Debug)]
pub struct Hit {
    pub x: u32,
    pub width: u32,
    pub tooltip: String,
    pub href: String,
}

/// The line of a series, as an SVG path.
#[derive(Debug)]
pub struct Line {
    pub class: &'static str,
    pub path: String,
}

/// The smallest of 1, 2, 5, 10, 20, … that is at least `value`. Round limits keep the scale of a live chart steady.
pub fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(10.0 * power)
}

/// Stacked bars. The first value of a column is at the bottom.
pub fn stacked<const N: usize>(columns: &[[u64; N]], classes: [&'static str; N], top: f64) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let (x, width) = place(index, columns.len());
        let mut below = 0;
        for (value, class) in column.iter().zip(classes) {
            if *value == 0 {
                continue;
            }
            // A small value stays visible.
            let height = scaled(as_float(*value), top).max(2).min(HEIGHT - below);
            below += height;
            bars.push(Bar { class, x, y: HEIGHT - below, width: width.saturating_sub(2).max(1), height });
        }
    }
    bars
}

/// A line through the values, with a gap for each missing value.
pub fn line(values: &[Option<f64>], class: &'static str, top: f64) -> Line {
    let (mut path, mut pen_up) = (String::new(), true);
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen_up = true;
            continue;
        };
        let (x, width) = place(index, values.len());
        let (x, y) = (x + width / 2, HEIGHT - scaled(*value, top).min(HEIGHT));
        // `h1` makes a single point visible, as a short dash.
        let _ = if pen_up { write!(path, "M{x} {y}h1") } else { write!(path, "L{x} {y}") };
        pen_up = false;
    }
    Line { class, path }
}

/// The x coordinate and the width of a column.
pub fn place(index: usize, count: usize) -> (u32, u32) {
    let x_of = |index: usize| u32::try_from(index * WIDTH as usize / count.max(1)).unwrap_or(WIDTH);
    (x_of(index), x_of(index + 1) - x_of(index))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within 0 and HEIGHT, or cut to it"
)]
fn scaled(value: f64, top: f64) -> u32 {
    (value / top * f64::from(HEIGHT)).round().clamp(0.0, f64::from(HEIGHT)) as u32
}

#[expect(clippy::cast_precision_loss, reason = "a picture is not that exact")]
pub const fn as_float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_a_round_number() {
        let tops = [0.0, 0.3, 1.0, 1.1, 4.9, 5.1, 99.0, 101.0].map(ceiling);
        assert!(
            tops.iter().zip([1.0, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 200.0]).all(|(a, b)| (a - b).abs() < 1e-9),
            "{tops:?}"
        );
    }

    #[test]
    fn bars_stand_on_each_other_and_stay_inside() {
        let bars = stacked(&[[60, 40], [0, 0], [1, 1_000_000]], ["a", "b"], 100.0);
        let places: Vec<_> = bars.iter().map(|bar| (bar.class, bar.x, bar.y, bar.height)).collect();
        assert_eq!(places, [("a", 0, 48, 72), ("b", 0, 0, 48), ("a", 400, 118, 2), ("b", 400, 0, 118)]);
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_was() {
        let path = line(&[Some(0.0), Some(10.0), None, Some(5.0)], "l", 10.0).path;
        assert_eq!(path, "M75 120h1L225 0M525 60h1");
    }
}
