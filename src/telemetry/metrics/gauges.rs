//! Gauges that are set when the metrics are scraped.

use jiff::Timestamp;
use metrics::gauge;

use crate::domain::process::{LinkReport, ProcessReport};

/// Sets the gauges from `report`.
pub fn set_gauges(report: &ProcessReport, has_database: bool) {
    gauge!("provisiond_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    gauge!("provisiond_database_up").set(bool_value(has_database));
    gauge!("provisiond_draining").set(bool_value(report.draining));
    if let Some(worker) = &report.worker {
        link("worker: consume", &worker.consuming);
        link("worker: publish", &worker.publishing);
        gauge!("provisiond_registry_handlers").set(number(worker.handlers));
        gauge!("provisiond_consumers_wedged").set(number(worker.wedged.len().try_into().unwrap_or(u64::MAX)));
        if let Some(read_at) = worker.registry_read_at {
            gauge!("provisiond_registry_age_seconds")
                .set(Timestamp::now().duration_since(read_at).as_secs_f64());
        }
    }
    if let Some(recorder) = &report.recorder {
        link("recorder: consume", &recorder.link);
        if let Some(behind) = recorder.behind_ms {
            gauge!("provisiond_recorder_lag_seconds").set(number(behind) / 1000.0);
        }
    }
}

/// Sets the limits of this worker: deliveries of one event type at a time, and scripts at a time.
pub fn set_limits(deliveries: u16, scripts: usize) {
    gauge!("provisiond_deliveries_limit").set(f64::from(deliveries));
    gauge!("provisiond_script_slots").set(u32::try_from(scripts).map_or(f64::INFINITY, f64::from));
}

fn link(connection: &'static str, report: &LinkReport) {
    gauge!("provisiond_broker_up", "connection" => connection).set(bool_value(report.connected));
    gauge!("provisiond_broker_blocked", "connection" => connection).set(bool_value(report.blocked));
}

const fn bool_value(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point numbers")]
const fn number(n: u64) -> f64 {
    n as f64
}
