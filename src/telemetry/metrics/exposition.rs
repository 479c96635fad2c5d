//! Gauges whose series come and go: handlers that are renamed or deleted, circuits that close.
//!
//! A series of the `metrics` recorder lasts as long as the process. These are rendered for each scrape instead.

use std::fmt::Write as _;

/// Gauges in Prometheus' text format.
#[derive(Default)]
pub struct Exposition(String);

/// The labels of one series, and its value.
pub type Sample = (Vec<(&'static str, String)>, f64);

impl Exposition {
    /// Adds a gauge with these series; adds nothing if there are none.
    pub fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let labels: Vec<_> =
                labels.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(&value))).collect();
            let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
        }
        self.0.push('\n');
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// <https://prometheus.io/docs/instrumenting/exposition_formats/>: backslash, double quote and line feed.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.gauge("empty", "Nothing", []);
        exposition.gauge("g", "A gauge", [(vec![("name", "a\"b\\c\nd".to_owned())], 2.0)]);
        assert_eq!(
            exposition.into_text(),
            "# HELP g A gauge\n# TYPE g gauge\ng{name=\"a\\\"b\\\\c\\nd\"} 2\n\n"
        );
    }
}
