use super::*;

fn failure(status: u16, name: &'static str, value: &str) -> Failure {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    let url = "https://crm.example/hook/s3cret?key=s3cret".parse().expect("a url");
    failure_of(StatusCode::from_u16(status).expect("a status"), &headers, &url, now())
}

/// 2026-10-21T07:00:00Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(497_935)
}

#[test]
fn retry_after_is_read_where_its_meaning_is_clear() {
    for (value, seconds) in [
        ("120", 120.0),
        ("0", 0.0),
        ("120.5", 120.5),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1680.0),
        ("Wednesday, 21-Oct-26 07:28:00 GMT", 1680.0),
        ("Wed Oct 21 07:28:00 2026", 1680.0),
        ("Wed, 21 Oct 2026 07:28:00 +0000", 1680.0),
        ("Wed, 21 Oct 2026 09:28:00 +0200", 1680.0),
        ("Wed, 21 Oct 2026 07:28:00 UTC", 1680.0),
        ("Wed, 21-Oct-2026 07:28:00 GMT", 1680.0),
        ("21 Oct 2026 07:28:00 GMT", 1680.0),
        ("Thu, 21 Oct 2026 07:28:00 GMT", 1680.0),
        ("2026-10-21T07:28:00Z", 1680.0),
        ("2026-10-21T09:28:00.000+02:00", 1680.0),
        ("2026-10-21 07:28:00Z", 1680.0),
        ("1792567680", 1680.0),
        ("1792567680.5", 1680.5),
        ("1792567680000", 1680.0),
    ] {
        let failure = failure(503, "retry-after", value);
        assert_eq!(failure.retry_after, Some(Duration::from_secs_f64(seconds)), "{value}");
        assert_eq!(failure.error, "answered 503 Service Unavailable", "{value}");
    }
    for value in [u64::MAX.to_string(), "9".repeat(400), "Wed, 21 Oct 2099 07:28:00 GMT".to_owned()] {
        let failure = failure(429, "retry-after", &value);
        assert_eq!(failure.retry_after, Some(MAX_DELAY), "{value}");
        assert!(failure.error.contains("is more than 12 days"), "{}", failure.error);
    }
    assert_eq!(failure(503, "retry-after", "1792565000").retry_after, None, "past");
    let past = failure(503, "retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
    assert_eq!((past.retry_after, past.error.as_str()), (None, "answered 503 Service Unavailable"));
    assert_eq!(failure(500, "retry-after", "120").retry_after, None);
}

#[test]
fn a_retry_after_that_is_not_understood_is_quoted() {
    for value in ["soon", "-3", "1e3", "inf", "120s", "1,5", "120.", ".5", "", "2026-10-21T07:28:00", "é"] {
        let failure = failure(503, "retry-after", value);
        assert_eq!(failure.retry_after, None, "{value}");
        assert!(failure.error.contains(&format!("its Retry-After {value:?} was not understood")), "{value}");
    }
    let long = failure(429, "retry-after", &"x".repeat(5000)).error;
    assert!(long.len() < 250 && long.contains("…"), "{long}");
}

#[test]
fn a_redirect_names_its_target_without_secrets() {
    for (location, expected) in [
        (
            "http://crm.example/hook/s3cret?key=s3cret",
            "it points to http://crm.example/***, with the same path:",
        ),
        ("/hook/s3cret/?key=s3cret", "it points to https://crm.example/***, with a / added to the path:"),
        ("https://crm.example/hook/s3cret?key=s3cret#top", "https://crm.example/***, which is the same url:"),
        ("//other.example:8443/s3cret", "it points to https://other.example:8443/***:"),
        ("https://joe:s3cret@other.example/", "it points to https://other.example/:"),
        ("login?next=s3cret", "it points to https://crm.example/***:"),
        ("ftp://other.example/s3cret", "the answer's Location is a ftp: url"),
        ("mailto:s3cret@x.example", "the answer's Location is a mailto: url"),
        ("https://[s3cret", "the answer's Location is not a url"),
    ] {
        for status in [300, 301, 302, 303, 307, 308] {
            let failure = failure(status, "location", location);
            assert!(failure.error.starts_with(&format!("answered {status} ")), "{}", failure.error);
            assert!(failure.error.contains(expected), "{location}: {}", failure.error);
            assert!(!failure.error.contains("s3cret"), "{}", failure.error);
            assert_eq!(failure.kind, FailureKind::Permanent);
        }
    }
    let long = failure(301, "location", &format!("https://{}/", "a.".repeat(900))).error;
    assert!(long.len() < 400, "{long}");
    let long = failure(301, "location", &format!("https://other.example/{}", "a".repeat(5000))).error;
    assert!(long.contains("it points to https://other.example/***:"), "{long}");
    assert!(failure(301, "x-other", "").error.contains("the answer has no Location"));
    let unmodified = failure(304, "location", "https://other.example/").error;
    assert!(unmodified.contains("not a redirect") && !unmodified.contains("other.example"), "{unmodified}");
}
