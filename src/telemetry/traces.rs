//! Traces: one span for each attempt, sent to an OpenTelemetry collector (OTLP over HTTP).
//!
//! Spans are created explicitly around attempts, and not from `tracing` spans, so that they cost nothing without a
//! collector. Finished spans wait in a bounded queue for a thread that sends them in batches; a span that finds the
//! queue full is dropped. No event ever waits for a collector.

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

/// For one batch, including its retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the last spans at shutdown.
const FINAL_EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where spans are sent, and for which events.
pub struct TraceSettings {
    pub endpoint: Url,
    /// The share of events without an incoming trace that are traced: 0 to 1.
    pub sample_ratio: f64,
}

/// Creates spans, and sends them. Clones share everything.
#[derive(Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Prepares sending. Requires a tokio runtime, which runs the requests.
    ///
    /// # Errors
    /// If the endpoint cannot be used: TLS finds no certificate authority to trust.
    pub fn start(settings: &TraceSettings, worker: &WorkerId) -> anyhow::Result<Self> {
        let endpoint = format!("{}/v1/traces", settings.endpoint.as_str().trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Post::to(&settings.endpoint, EXPORT_TIMEOUT)?)
            .with_timeout(EXPORT_TIMEOUT)
            .with_endpoint(endpoint)
            .build()
            .context("cannot use telemetry.otlp_endpoint")?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource(worker))
            .build();
        let tracer = provider.tracer("provisiond");
        Ok(Self { provider, tracer })
    }

    /// The common parent of the attempts of an event; `None` if the event arrived with a trace.
    pub fn begin(&self, incoming: &Trace, event: &Event, queue: &str) -> Option<Span> {
        if parent(incoming).has_active_span() {
            return None;
        }
        Some(self.span(&Trace::default(), queue, messaging(event, queue)))
    }

    /// The span of one attempt that is about to start, as a child of `trace`.
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

    /// Sends the finished spans, for a few seconds at most.
    pub async fn end(self) {
        let sending = move || self.provider.shutdown_with_timeout(FINAL_EXPORT_TIMEOUT);
        let sent = tokio::time::timeout(FINAL_EXPORT_TIMEOUT, tokio::task::spawn_blocking(sending)).await;
        if !matches!(sent, Ok(Ok(Ok(())))) {
            warn!("cannot send the last spans to the collector");
        }
    }
}

/// The attributes of this process.
fn resource(worker: &WorkerId) -> Resource {
    Resource::builder()
        .with_service_name("provisiond")
        .with_attributes([
            KeyValue::new("service.version", worker.version.clone()),
            KeyValue::new("service.instance.id", format!("{}:{}", worker.host, worker.pid)),
            KeyValue::new("host.name", worker.host.clone()),
        ])
        .build()
}

/// The attributes of the event, named as in OpenTelemetry's messaging conventions.
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

/// The span that `trace` names; none if it is not a valid W3C trace context.
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
