//! Traces: a span for each attempt, sent to an OpenTelemetry collector (OTLP over HTTP).
//!
//! Spans are made by hand where attempts are made, not out of those of `tracing`: where no collector is
//! configured they cost nothing. Those that ended wait in a bounded queue for a thread that sends them in
//! batches; what finds it full is left out. No event ever waits for a collector.

mod post;
mod span;

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanBuilder, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use tracing::warn;
use url::Url;

use crate::domain::{event::Event, execution::WorkerId, handler::Handler, plan::Attempt, trace::Trace};
use post::Post;
pub use span::Span;

/// For one batch, its repetitions included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// For what is still to be sent at the end.
const FINAL_EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where spans go, and of which events.
pub struct TraceSettings {
    pub endpoint: Url,
    /// Of the events that come without a trace: 0 to 1.
    pub sample_ratio: f64,
}

/// Makes spans, and sends them. A clone is the same.
#[derive(Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Nothing is sent yet. Needs a runtime of tokio, which carries what is sent.
    ///
    /// # Errors
    /// If the endpoint cannot be used: TLS finds no authorities that it could trust.
    pub fn start(settings: &TraceSettings, of: &WorkerId) -> anyhow::Result<Self> {
        let endpoint = format!("{}/v1/traces", settings.endpoint.as_str().trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Post::to(&settings.endpoint, EXPORT_TIMEOUT)?)
            .with_timeout(EXPORT_TIMEOUT)
            .with_endpoint(endpoint)
            .build()
            .context("telemetry.otlp_endpoint")?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource(of))
            .build();
        let tracer = provider.tracer("provisiond");
        Ok(Self { provider, tracer })
    }

    /// The span of an event that came in `queue` without a trace, whose attempts are to have one in
    /// common; none if it came with one.
    pub fn begin(&self, came: &Trace, event: &Event, queue: &str) -> Option<Span> {
        if parent(came).has_active_span() {
            return None;
        }
        Some(self.span(&Trace::default(), queue, messaging(event, queue)))
    }

    /// The span of one attempt that is about to be made, below what `trace` names.
    pub fn attempt(
        &self,
        trace: &Trace,
        event: &Event,
        queue: &str,
        handler: &Handler,
        attempt: Attempt,
    ) -> Span {
        let attributes = messaging(event, queue).chain(span::attempt(handler, attempt));
        self.span(trace, queue, attributes)
    }

    fn span(&self, trace: &Trace, queue: &str, attributes: impl IntoIterator<Item = KeyValue>) -> Span {
        let builder = SpanBuilder::from_name(format!("process {queue}"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes);
        Span::new(self.tracer.build_with_context(builder, &parent(trace)), trace.state.clone())
    }

    /// Sends what ended so far, for a few seconds at most.
    pub async fn end(self) {
        let sending = move || self.provider.shutdown_with_timeout(FINAL_EXPORT_TIMEOUT);
        let sent = tokio::time::timeout(FINAL_EXPORT_TIMEOUT, tokio::task::spawn_blocking(sending)).await;
        if !matches!(sent, Ok(Ok(Ok(())))) {
            warn!("the last spans could not be sent");
        }
    }
}

/// Who sends.
fn resource(of: &WorkerId) -> Resource {
    Resource::builder()
        .with_service_name("provisiond")
        .with_attributes([
            KeyValue::new("service.version", of.version.clone()),
            KeyValue::new("service.instance.id", format!("{}:{}", of.host, of.pid)),
            KeyValue::new("host.name", of.host.clone()),
        ])
        .build()
}

/// What the event says of itself, in the words of OpenTelemetry's messaging conventions.
fn messaging(event: &Event, queue: &str) -> impl Iterator<Item = KeyValue> + use<> {
    [
        KeyValue::new("messaging.system", "rabbitmq"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.destination.name", queue.to_owned()),
        KeyValue::new("messaging.rabbitmq.destination.routing_key", event.name.to_string()),
        KeyValue::new("messaging.message.id", event.id.to_string()),
    ]
    .into_iter()
}

/// The span that `trace` names; none if it names none that W3C would take for one.
fn parent(trace: &Trace) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(trace))
}

struct Headers<'a>(&'a Trace);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.0.parent.as_deref(),
            "tracestate" => self.0.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}
