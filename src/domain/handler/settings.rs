//! The settings of a handler that have a default, in one table: the command line, the form, the pages and the API
//! read it.

use std::{fmt::Display, num::NonZeroU32, str::FromStr, time::Duration};

use super::{HandlerDefaults, HandlerSpec, Timeout};
use crate::domain::{retry::InvalidRetry, time::parse_duration};

/// One setting.
pub struct Setting {
    /// The member in JSON, for a retry setting that of `retry`; the option of the command line, with `-` for `_`.
    pub name: &'static str,
    /// The name on pages and in tables.
    pub label: &'static str,
    /// One line of help.
    pub help: &'static str,
    pub kind: SettingKind,
    pub group: SettingGroup,
    get: fn(&HandlerSpec) -> Option<String>,
    set: fn(&mut HandlerSpec, Option<&str>) -> Result<(), String>,
    applied: fn(&HandlerSpec, &HandlerDefaults) -> String,
}

/// How a value is entered.
#[derive(Clone, Copy)]
pub enum SettingKind {
    /// One of a few words, each with its text in a form.
    Choice(&'static [(&'static str, &'static str)]),
    /// A text. The word stands for it in a usage line.
    Text(&'static str),
    Number(&'static str),
}

/// Where a form shows a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SettingGroup {
    /// At once.
    Main,
    /// What it does to other handlers and to the event.
    Effect,
    Limits,
    /// A member of `retry`.
    Retry,
}

impl Setting {
    /// The handler's own value. `None`: the default applies.
    pub fn get(&self, spec: &HandlerSpec) -> Option<String> {
        (self.get)(spec)
    }

    /// Sets the value, or for `None` the default.
    ///
    /// # Errors
    /// What the value must be.
    pub fn set(&self, spec: &mut HandlerSpec, text: Option<&str>) -> Result<(), String> {
        (self.set)(spec, text)
    }

    /// The value that applies, for people.
    pub fn applied(&self, spec: &HandlerSpec, defaults: &HandlerDefaults) -> String {
        (self.applied)(spec, defaults)
    }

    /// The settings of one part of the form.
    pub fn of_group(group: SettingGroup) -> impl Iterator<Item = &'static Self> {
        SETTINGS.iter().filter(move |setting| setting.group == group)
    }
}

pub static SETTINGS: [Setting; 11] = [
    Setting {
        name: "status",
        label: "Status",
        help: "Whether the handler runs",
        kind: SettingKind::Choice(&[
            ("enabled", "Enabled"),
            ("disabled", "Disabled"),
            ("archived", "Archived"),
        ]),
        group: SettingGroup::Main,
        get: |spec| Some(spec.status.to_string()),
        set: |spec, text| set_or_default(&mut spec.status, text),
        applied: |spec, _| spec.status.to_string(),
    },
    Setting {
        name: "priority",
        label: "Priority",
        help: "Run order: 1 runs first; equal priorities run by id",
        kind: SettingKind::Number("N"),
        group: SettingGroup::Main,
        get: |spec| Some(spec.priority.to_string()),
        set: |spec, text| set_or_default(&mut spec.priority, text),
        applied: |spec, _| spec.priority.to_string(),
    },
    Setting {
        name: "mode",
        label: "Mode",
        help: "With intercept, its answer may change or forbid the event",
        kind: SettingKind::Choice(&[("notify", "Notify"), ("intercept", "Intercept")]),
        group: SettingGroup::Effect,
        get: |spec| Some(spec.mode.to_string()),
        set: |spec, text| set_or_default(&mut spec.mode, text),
        applied: |spec, _| spec.mode.to_string(),
    },
    Setting {
        name: "on_failure",
        label: "On failure",
        help: "With halt, the handlers after it wait until it succeeds; an intercept handler always halts",
        kind: SettingKind::Choice(&[
            ("continue", "Continue with the next handler"),
            ("halt", "Halt the handlers after it"),
        ]),
        group: SettingGroup::Effect,
        get: |spec| Some(spec.on_failure.to_string()),
        set: |spec, text| set_or_default(&mut spec.on_failure, text),
        applied: |spec, _| spec.on_failure().to_string(),
    },
    Setting {
        name: "timeout",
        label: "Timeout",
        help: "Longest duration of one attempt, such as 30s, at most 10m",
        kind: SettingKind::Text("DURATION"),
        group: SettingGroup::Limits,
        get: |spec| spec.timeout.map(|timeout| duration(timeout.duration())),
        set: |spec, text| set_optional(&mut spec.timeout, text, str::parse::<Timeout>),
        applied: |spec, defaults| with_note(spec.timeout.is_some(), duration(defaults.timeout_of(spec))),
    },
    Setting {
        name: "max_concurrency",
        label: "Max concurrency",
        help: "Attempts at a time in each worker; without it, no limit of its own",
        kind: SettingKind::Number("N"),
        group: SettingGroup::Limits,
        get: |spec| spec.max_concurrency.map(|limit| limit.to_string()),
        set: |spec, text| {
            let parse =
                |text: &str| text.parse::<NonZeroU32>().map_err(|_| "must be a whole number, 1 or more");
            set_optional(&mut spec.max_concurrency, text, parse)
        },
        applied: |spec, _| {
            spec.max_concurrency.map_or_else(|| "no limit".to_owned(), |limit| format!("{limit} per worker"))
        },
    },
    Setting {
        name: "max_attempts",
        label: "Attempts",
        help: "Number of attempts, including the first: 1 to 100",
        kind: SettingKind::Number("N"),
        group: SettingGroup::Retry,
        get: |spec| spec.retry.max_attempts.map(|attempts| attempts.to_string()),
        set: |spec, text| {
            set_optional(&mut spec.retry.max_attempts, text, |t| {
                t.parse().map_err(|_| "must be a whole number")
            })
        },
        applied: |spec, defaults| {
            with_note(spec.retry.max_attempts.is_some(), defaults.retry_of(spec).max_attempts.to_string())
        },
    },
    Setting {
        name: "initial_interval",
        label: "First delay",
        help: "Delay between the first attempt and the second, such as 5s",
        kind: SettingKind::Text("DURATION"),
        group: SettingGroup::Retry,
        get: |spec| spec.retry.initial_interval.map(duration),
        set: |spec, text| set_optional(&mut spec.retry.initial_interval, text, interval),
        applied: |spec, defaults| {
            let applied = defaults.retry_of(spec).initial_interval;
            with_note(spec.retry.initial_interval.is_some(), duration(applied))
        },
    },
    Setting {
        name: "multiplier",
        label: "Multiplier",
        help: "Each further delay is this many times the previous one: 1 to 100",
        kind: SettingKind::Number("X"),
        group: SettingGroup::Retry,
        get: |spec| spec.retry.multiplier.map(|multiplier| multiplier.to_string()),
        set: |spec, text| set_optional(&mut spec.retry.multiplier, text, number),
        applied: |spec, defaults| {
            with_note(spec.retry.multiplier.is_some(), defaults.retry_of(spec).multiplier.to_string())
        },
    },
    Setting {
        name: "max_interval",
        label: "Longest delay",
        help: "Longest delay between two attempts, such as 6h",
        kind: SettingKind::Text("DURATION"),
        group: SettingGroup::Retry,
        get: |spec| spec.retry.max_interval.map(duration),
        set: |spec, text| set_optional(&mut spec.retry.max_interval, text, interval),
        applied: |spec, defaults| {
            with_note(spec.retry.max_interval.is_some(), duration(defaults.retry_of(spec).max_interval))
        },
    },
    Setting {
        name: "jitter",
        label: "Jitter",
        help: "Random variation of each delay, as a fraction from 0 to below 1",
        kind: SettingKind::Number("X"),
        group: SettingGroup::Retry,
        get: |spec| spec.retry.jitter.map(|jitter| jitter.to_string()),
        set: |spec, text| set_optional(&mut spec.retry.jitter, text, number),
        applied: |spec, defaults| {
            with_note(spec.retry.jitter.is_some(), defaults.retry_of(spec).jitter.to_string())
        },
    },
];

impl HandlerSpec {
    /// Sets each given value, or for `None` its default, and returns the errors, each with the name of its setting.
    pub fn set_all<'a>(
        &mut self,
        values: impl IntoIterator<Item = (&'static Setting, Option<&'a str>)>,
    ) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        for (setting, text) in values {
            errors.extend(setting.set(self, text).err().map(|error| (setting.name, error)));
        }
        if let Err(InvalidRetry { key, allowed }) = self.retry.validate() {
            errors.push((key, format!("must be {allowed}")));
        }
        errors
    }
}

fn set_or_default<T: FromStr<Err: Display> + Default>(
    field: &mut T,
    text: Option<&str>,
) -> Result<(), String> {
    *field = text.map_or_else(|| Ok(T::default()), str::parse).map_err(|error| error.to_string())?;
    Ok(())
}

fn set_optional<T, E: Display>(
    field: &mut Option<T>,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), String> {
    *field = text.map(parse).transpose().map_err(|error| error.to_string())?;
    Ok(())
}

/// An applied value, with a note if it is not the handler's own.
fn with_note(is_own: bool, value: String) -> String {
    if is_own { value } else { format!("{value}, as configured") }
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("must be a number with its unit, such as 5s or 6h")
}

fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "must be a number")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_member_that_has_a_default_is_a_setting() {
        let mut spec = HandlerSpec::blank();
        let given = ["disabled", "7", "intercept", "halt", "20s", "2", "3", "10s", "1.5", "1h", "0.5"];
        let values = SETTINGS.iter().zip(given.map(Some));
        assert_eq!(spec.set_all(values), []);
        let json = serde_json::to_value(&spec).expect("JSON");
        let members = |json: &serde_json::Value| -> BTreeSet<String> {
            json.as_object().expect("an object").keys().cloned().collect()
        };
        let mut expected = members(&json);
        for other in ["name", "event", "task", "retry"] {
            assert!(expected.remove(other), "{other}");
        }
        expected.extend(members(&json["retry"]));
        assert_eq!(SETTINGS.iter().map(|setting| setting.name.to_owned()).collect::<BTreeSet<_>>(), expected);
        // What a setting shows is what it takes.
        for (setting, given) in SETTINGS.iter().zip(given) {
            assert_eq!(setting.get(&spec).as_deref(), Some(given), "{}", setting.name);
        }
        assert_eq!(spec.set_all(SETTINGS.iter().map(|setting| (setting, None))), []);
        assert_eq!(spec, HandlerSpec::blank());
    }

    #[test]
    fn an_error_names_its_setting() {
        let mut spec = HandlerSpec::blank();
        let values = SETTINGS.iter().map(|setting| (setting, Some("soon")));
        let names: Vec<_> = spec.set_all(values).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>());
        let retry = [("max_interval", "1s"), ("initial_interval", "5s")];
        let values = retry.map(|(name, text)| {
            (SETTINGS.iter().find(|setting| setting.name == name).expect("a setting"), Some(text))
        });
        let errors = spec.set_all(values);
        assert_eq!(errors.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["max_interval"], "{errors:?}");
    }
}
