//! `handlers test`: one call with a sample event, and its result.

use std::sync::Arc;

use crate::{
    cli::{
        context::{Context, read_data},
        error::CliError,
        output::{field_list, lines, response_fields},
        settings,
    },
    domain::{event::ObjectId, execution::Status, handler::HandlerId},
    operations::Sample,
    runner::{Runner, Sent, Trial},
};

#[derive(clap::Args)]
pub(in crate::cli) struct Test {
    /// Id of the handler; it may be disabled
    id: HandlerId,
    /// Data of the event, a JSON object; default: a sample; @FILE reads a file, - reads stdin
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// Object that the event is about: a number or a text
    #[arg(long, default_value = "12", allow_hyphen_values = true, value_parser = ObjectId::typed)]
    object_id: ObjectId,
}

pub(super) async fn run(context: &Context, test: Test) -> Result<(), CliError> {
    let data = test.data.as_deref().map(read_data).transpose()?;
    let runner = Arc::new(Runner::new(settings::runner(&context.config))?);
    let trials = settings::trials(&context.config, context.store()?, runner);
    let trial = trials.run(test.id, &Sample { object_id: test.object_id, data }).await?;
    context.output.value(&trial, text)?;
    if trial.status == Status::Success { Ok(()) } else { Err(CliError::Reported) }
}

fn text(trial: &Trial) -> String {
    let (target, headers_or_args, body) = match &trial.sent {
        Sent::Http { method, url, headers, body } => {
            let headers = lines(headers.iter().map(|(name, value)| format!("{name}: {value}")));
            (format!("{method} {url}"), headers, body)
        }
        Sent::Script { path, args, stdin } => (path.clone(), lines(args.iter()), stdin),
    };
    let request_fields = [
        ("Request", target),
        ("With", headers_or_args.trim_end().to_owned()),
        ("Sent", body.get().to_owned()),
    ];
    let result_fields = [
        ("Duration", format!("{} ms", trial.duration_ms)),
        ("Status", trial.status.to_string()),
        ("Error", trial.error.clone().unwrap_or_default()),
        ("Verdict", trial.verdict_told()),
        ("Modified", trial.modified.as_ref().map(|body| body.get().to_owned()).unwrap_or_default()),
        ("A worker", trial.consequence()),
    ];
    field_list(&[&request_fields[..], &response_fields(trial.response.as_ref()), &result_fields].concat())
}
