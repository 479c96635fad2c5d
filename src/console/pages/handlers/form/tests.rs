use std::collections::BTreeMap;

use super::{read::headers, *};
use crate::domain::task::{HeaderName, HeaderValue};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().fold(Fields::default(), |fields, (name, value)| fields.with(name, *value))
}

#[test]
fn a_minimal_handler_is_valid() {
    let typed = [
        ("name", "CRM"),
        ("event", "clients.create"),
        ("task", "http"),
        ("url", "127.0.0.1:5000/api"),
        ("priority", "1"),
    ];
    let mut form = HandlerForm::typed(&fields(&typed), None);
    let spec = form.spec(None).expect("it says all that is needed");
    assert_eq!((spec.name.as_str(), spec.task.target()), ("CRM", "http://127.0.0.1:5000/api"));
    assert_eq!((i32::from(spec.priority), spec.timeout), (1, None));
    assert!(!form.rest_is_set());
}

#[test]
fn every_invalid_field_has_an_error() {
    let typed = [
        ("name", " "),
        ("event", ""),
        ("task", "http"),
        ("url", "ftp://x"),
        ("headers", "no colon"),
        ("priority", "0"),
        ("timeout", "11m"),
        ("max_concurrency", "0"),
        ("max_attempts", "101"),
        ("initial_interval", "soon"),
    ];
    let mut form = HandlerForm::typed(&fields(&typed), None);
    assert!(form.spec(None).is_none());
    for field in [
        "name",
        "event",
        "url",
        "headers",
        "priority",
        "timeout",
        "max_concurrency",
        "max_attempts",
        "initial_interval",
    ] {
        assert!(!form.error(field).is_empty(), "{field}");
    }
    assert_eq!(form.url, "ftp://x", "what was typed is kept");
}

#[test]
fn masked_header_values_are_kept() {
    let known: BTreeMap<HeaderName, HeaderValue> =
        headers("Authorization: Bearer hunter2\nX-Old: 1", &BTreeMap::new()).expect("headers");
    let typed = "authorization: ***\n\nx-new: a: b\n";
    let changed = headers(typed, &known).expect("headers");
    let values: Vec<_> = changed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(values, [("authorization", "Bearer hunter2"), ("x-new", "a: b")]);
    assert!(headers("x-other: ***", &known).is_err());
}
