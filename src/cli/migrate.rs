//! `migrate`: applies pending migrations, and encrypts stored secrets with the current `secrets.key`.

use super::{check::secrets::handler_count_text, context::Context, error::CliError, output::lines};

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let applied = store.migrate().await?;
    let resealed = store.reseal_secrets().await?;
    context.output.value(&applied, |applied| {
        if applied.is_empty() {
            "the database is up to date\n".to_owned()
        } else {
            lines(applied.iter().map(|migration| format!("applied {migration}")))
        }
    })?;
    if let Some(newer) = store.migration_state().await?.newer_warning() {
        Context::hint(&newer);
    }
    if resealed.handlers > 0 {
        let state = if context.config.secrets.seals.has_key() {
            "are now encrypted with secrets.key"
        } else {
            "are now stored unencrypted, because secrets.key is not set"
        };
        Context::hint(&format!("the secrets of {} {state}", handler_count_text(resealed.handlers)));
    }
    if resealed.unreadable.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = resealed.unreadable.iter().map(ToString::to_string).collect();
    Err(CliError::failed(format!(
        "the secrets of these handlers cannot be decrypted and stay as they are: {}; add the key they were encrypted with \
         to secrets.previous_keys, or give the handlers new secrets (handlers rotate-secret, handlers update --header)",
        ids.join(", ")
    )))
}
