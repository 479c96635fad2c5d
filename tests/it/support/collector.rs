//! An OpenTelemetry collector: takes spans (OTLP over HTTP, protobuf), and keeps them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use super::{Call, Endpoint, Reply, eventually};

/// A span that came.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace_id: String,
    pub id: String,
    /// Empty: it begins its trace.
    pub parent: String,
    pub state: String,
    pub kind: SpanKind,
    pub status: StatusCode,
    pub status_message: String,
    pub attributes: BTreeMap<String, String>,
    /// Of who sent it.
    pub resource: BTreeMap<String, String>,
}

pub struct Collector(Endpoint);

impl Collector {
    pub async fn start() -> Self {
        Self(Endpoint::start(|_, _| Reply::status(200).body("")).await)
    }

    pub fn url(&self) -> String {
        self.0.url("")
    }

    pub fn spans(&self) -> Vec<Span> {
        self.0.calls().iter().flat_map(spans_in).collect()
    }

    pub async fn wait_for(&self, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans"), || async { self.spans().len() >= count }).await;
        let spans = self.spans();
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }
}

fn spans_in(call: &Call) -> Vec<Span> {
    assert_eq!(call.path, "/v1/traces");
    assert_eq!(call.header("content-type"), "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(call.body.clone()).expect("an export of spans");
    let mut found = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = table(&resource_spans.resource.expect("a resource").attributes);
        for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let status = span.status.clone().unwrap_or_default();
            found.push(Span {
                trace_id: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind(),
                status: status.code(),
                status_message: status.message,
                attributes: table(&span.attributes),
                resource: resource.clone(),
                name: span.name,
                state: span.trace_state,
            });
        }
    }
    found
}

fn table(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes.iter().map(|kv| (kv.key.clone(), kv.value.as_ref().map(text).unwrap_or_default())).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("neither text nor number: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
