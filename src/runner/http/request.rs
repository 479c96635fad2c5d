//! The headers of a request.

use std::collections::BTreeMap;

use http::{
    HeaderMap,
    header::{self, HeaderName as Name, HeaderValue as Value},
};

use super::super::Call;
use crate::domain::task::{HeaderName, HeaderValue};

const USER_AGENT: &str = concat!("provisiond/", env!("CARGO_PKG_VERSION"));

/// All headers of `call`: ours, and `handler_headers`. The latter may replace content type and user agent but
/// none of the others: the type `HeaderName` refuses them.
pub fn headers(
    call: &Call<'_>,
    handler_headers: &BTreeMap<HeaderName, HeaderValue>,
    unix_seconds: i64,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16 + handler_headers.len());
    headers.insert(header::CONTENT_TYPE, Value::from_static("application/json"));
    headers.insert(header::USER_AGENT, Value::from_static(USER_AGENT));
    for (name, value) in handler_headers {
        if let (Ok(name), Ok(mut value)) = (Name::try_from(name.as_str()), Value::try_from(value.as_str())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    // The types of ids and names allow only printable ASCII. A trace header with other characters is left
    // out.
    let mut put = |name: &'static str, text: &str| {
        if let Ok(value) = Value::from_str(text) {
            headers.insert(Name::from_static(name), value);
        }
    };
    let id = call.delivery_id();
    put("webhook-id", &id);
    put("webhook-timestamp", &unix_seconds.to_string());
    if !call.secrets.is_empty() {
        let sign =
            |secret: &crate::domain::secret::SigningSecret| secret.sign(&id, unix_seconds, &call.event.body);
        put("webhook-signature", &call.secrets.iter().map(sign).collect::<Vec<_>>().join(" "));
    }
    put("x-provisioning-event", call.event.name.as_str());
    put("x-provisioning-attempt", &call.attempt.number().to_string());
    if let Some(traceparent) = call.traceparent {
        put("traceparent", traceparent);
        // `tracestate` has no meaning without `traceparent`.
        if let Some(tracestate) = call.tracestate {
            put("tracestate", tracestate);
        }
    }
    headers
}
