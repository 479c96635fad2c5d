//! `health`: asks the process that serves on this machine whether it is healthy.

use super::{context::Context, error::CliError};
use crate::monitoring;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Check whether the process is ready (/readyz) instead of healthy (/healthz)
    #[arg(long)]
    ready: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let Some(address) = context.config.telemetry.listen.address else {
        return Err(CliError::failed(
            "telemetry.listen is \"off\", so provisiond serve does not report its health",
        ));
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = tokio::task::spawn_blocking(move || monitoring::ask(address, path))
        .await
        .map_err(anyhow::Error::new)??;
    let answer: serde_json::Value = serde_json::from_str(&answer)
        .map_err(|_| CliError::failed(format!("{address} is not provisiond: check telemetry.listen")))?;
    context.output.value(&answer, |_| if args.ready { "ready\n".to_owned() } else { "healthy\n".to_owned() })
}
