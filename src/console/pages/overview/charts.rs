//! The charts of the overview: executions by outcome, events, durations.

use crate::{
    console::pages::{
        chart::{Bar, Hit, Line, as_float, ceiling, line, place, stacked},
        fields::Fields,
        format::{duration, grouped},
    },
    store::{Activity, ActivityPoint, Counts},
};

/// A chart and the labels around it.
pub struct Chart {
    pub title: &'static str,
    /// The value at the top of the chart.
    pub top: String,
    pub bars: Vec<Bar>,
    pub lines: Vec<Line>,
    pub hits: Vec<Hit>,
    pub from: String,
    pub to: &'static str,
    pub legend: Vec<Legend>,
    pub is_empty: bool,
}

/// One series in the legend: its colour, label, total, and a link.
pub struct Legend {
    pub class: &'static str,
    pub label: &'static str,
    pub value: String,
    pub href: String,
}

/// The series from bottom to top: CSS class, label, and disposition. The last is empty for `skipped`, because several
/// dispositions have this status.
const OUTCOMES: [(&str, &str, &str); 5] = [
    ("s1", "done", "done"),
    ("s5", "forbidden", "forbidden"),
    ("s4", "skipped", ""),
    ("s2", "retrying", "retrying"),
    ("s3", "dead-lettered", "dead_lettered"),
];

const fn outcomes_of(counts: &Counts) -> [u64; 5] {
    [counts.done, counts.forbidden, counts.skipped, counts.retrying, counts.dead_lettered]
}

pub fn outcomes(activity: &Activity) -> Chart {
    let columns: Vec<[u64; 5]> = activity.points.iter().map(|point| outcomes_of(&point.counts)).collect();
    let max = columns.iter().map(|column| column.iter().sum::<u64>()).max().unwrap_or_default();
    let top = ceiling(as_float(max));
    let since = Fields::default().with("since", activity.since.to_string());
    let totals = outcomes_of(&activity.total);
    let legend = OUTCOMES.iter().zip(totals).map(|((class, label, disposition), total)| Legend {
        class,
        label,
        value: grouped(total),
        href: match *disposition {
            "" => since.with("status", "skipped").href("/executions"),
            word => since.with("disposition", word).href("/executions"),
        },
    });
    let describe = |counts: &Counts| {
        let parts = OUTCOMES.iter().zip(outcomes_of(counts)).filter(|(_, count)| *count > 0);
        let parts: Vec<String> =
            parts.map(|((_, label, _), count)| format!("{} {label}", grouped(count))).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    };
    Chart {
        title: "Executions by outcome",
        top: format!("{} {}", whole_number(top), per(activity)),
        bars: stacked(&columns, OUTCOMES.map(|(class, ..)| class), top),
        legend: legend.collect(),
        ..base_chart(activity, max == 0, describe)
    }
}

pub fn events(activity: &Activity) -> Chart {
    let columns: Vec<[u64; 1]> = activity.points.iter().map(|point| [point.counts.events]).collect();
    let max = columns.iter().map(|[count]| *count).max().unwrap_or_default();
    let top = ceiling(as_float(max));
    let since = Fields::default().with("since", activity.since.to_string());
    Chart {
        title: "Events taken",
        top: format!("{} {}", whole_number(top), per(activity)),
        bars: stacked(&columns, ["s5"], top),
        legend: vec![Legend {
            class: "s5",
            label: "events, without retries",
            value: grouped(activity.total.events),
            href: since.href("/executions"),
        }],
        ..base_chart(activity, max == 0, |counts| format!("{} events", grouped(counts.events)))
    }
}

pub fn durations(activity: &Activity) -> Chart {
    let series_of = |take: fn(&Counts) -> Option<f64>| -> Vec<Option<f64>> {
        activity.points.iter().map(|point| take(&point.counts)).collect()
    };
    let series = [series_of(|c| c.p50_ms), series_of(|c| c.p95_ms), series_of(|c| c.p99_ms)];
    let max = series.iter().flatten().flatten().fold(0.0_f64, |max, value| max.max(*value));
    let top = ceiling(max);
    let total = &activity.total;
    let since = Fields::default().with("since", activity.since.to_string()).href("/executions");
    let legend = [("s1", "median", total.p50_ms), ("s2", "p95", total.p95_ms), ("s3", "p99", total.p99_ms)];
    let describe = |counts: &Counts| match counts.p50_ms {
        None => "no successful attempts".to_owned(),
        median => format!(
            "median {}, p95 {}, p99 {}",
            milliseconds(median),
            milliseconds(counts.p95_ms),
            milliseconds(counts.p99_ms)
        ),
    };
    Chart {
        title: "Duration of successful attempts",
        top: milliseconds(Some(top)),
        lines: series
            .iter()
            .zip(["l1", "l2", "l3"])
            .map(|(values, class)| line(values, class, top))
            .collect(),
        legend: legend
            .map(|(class, label, value)| Legend {
                class,
                label,
                value: milliseconds(value),
                href: since.clone(),
            })
            .into(),
        ..base_chart(activity, max <= 0.0, describe)
    }
}

/// The parts that all charts have: the labels of the time axis, and a tooltip and a link for each interval.
fn base_chart(activity: &Activity, is_empty: bool, describe: impl Fn(&Counts) -> String) -> Chart {
    let count = activity.points.len();
    let hits = activity.points.iter().enumerate().map(|(index, point)| {
        let (x, width) = place(index, count);
        Hit {
            x,
            width,
            tooltip: format!("{} UTC: {}", clock(point), describe(&point.counts)),
            href: interval_href(activity, point),
        }
    });
    Chart {
        title: "",
        top: String::new(),
        bars: Vec::new(),
        lines: Vec::new(),
        hits: hits.collect(),
        from: activity.points.first().map(|point| format!("{} UTC", clock(point))).unwrap_or_default(),
        to: "now",
        legend: Vec::new(),
        is_empty,
    }
}

fn clock(point: &ActivityPoint) -> String {
    point.at.strftime("%H:%M").to_string()
}

/// The link to the executions of one interval.
fn interval_href(activity: &Activity, point: &ActivityPoint) -> String {
    let end = point.at + jiff::SignedDuration::from_secs(i64::from(activity.step_seconds));
    Fields::default().with("since", point.at.to_string()).with("until", end.to_string()).href("/executions")
}

const fn per(activity: &Activity) -> &'static str {
    if activity.step_seconds == 60 { "a minute" } else { "an hour" }
}

fn whole_number(value: f64) -> String {
    grouped(rounded(value))
}

pub fn milliseconds(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.1} ms"),
        Some(value) => duration(rounded(value)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "durations are positive and far below 2^52"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// Events per second in the last complete interval.
pub fn rate(activity: &Activity) -> String {
    let complete = activity.points.iter().rev().nth(1);
    let rate = complete.map_or(0.0, |point| as_float(point.counts.events) / f64::from(activity.step_seconds));
    if rate >= 100.0 { grouped(rounded(rate)) } else { format!("{rate:.1}") }
}
