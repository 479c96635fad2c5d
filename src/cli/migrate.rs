//! `migrate`: brings the database's tables up to date.

use super::{context::Context, error::CliError, output::lines};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let applied = context.store()?.migrate().await?;
    context.output.value(&applied, |applied| {
        if applied.is_empty() {
            "the database is up to date\n".to_owned()
        } else {
            lines(applied.iter().map(|migration| format!("applied {migration}")))
        }
    })
}
