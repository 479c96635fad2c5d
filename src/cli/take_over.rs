//! `take-over`: what is under the prefix in the broker is this database's from now on.

use anyhow::Context as _;
use serde::Serialize;

use super::{context::Context, error::CliError};
use crate::broker::{OtherInstallation, installation_name, look_at_mark, take_over};

#[derive(Serialize)]
struct TakenOver {
    installation: String,
    /// Whose it was, if that is known and another.
    before: Option<String>,
}

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let id =
        context.store()?.installation().await.context("asking the database which installation this is")?;
    let installation = id.ok_or_else(|| {
        CliError::failed("the database has no tables of this version: run provisiond migrate")
    })?;
    let broker = context.broker()?;
    let connection = broker.dial("take over").await?;
    let names = &broker.topology.names;
    let before = match look_at_mark(&connection, names, installation).await {
        Ok(_) => None,
        Err(error) => Some(error.downcast::<OtherInstallation>()?.other()),
    };
    take_over(&connection, names, installation).await?;
    let taken = TakenOver { installation: installation_name(installation), before };
    context.output.value(&taken, |taken| {
        let (prefix, installation) = (names.prefix(), &taken.installation);
        match &taken.before {
            Some(before) => format!(
                "everything called {prefix}.* belongs to installation {installation} now; it belonged to {before}. \
                 Processes of that one are refused from their next connection on: end them\n"
            ),
            None => format!("everything called {prefix}.* belongs to installation {installation}\n"),
        }
    })
}
