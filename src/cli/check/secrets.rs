//! Checks how the secrets of handlers are stored, and whether this process can decrypt them.

use super::report::{Finding, State, finding, ok};
use crate::{config::Config, domain::handler::Handler, store::Store};

const LABEL: &str = "secrets";

pub(super) async fn check(config: &Config, store: &Store, handlers: &[Handler], report: &mut Vec<Finding>) {
    let secrets = match store.find_secrets().await {
        Ok(secrets) => secrets,
        Err(error) => {
            return report.push(finding(LABEL, State::Failed, format!("{:#}", anyhow::Error::new(error))));
        }
    };
    let has_key = config.secrets.seals.has_key();
    let (current, stale) = (secrets.current, secrets.stale);
    for (id, why) in &secrets.unreadable {
        let name =
            handlers.iter().find(|handler| handler.id == *id).map(|handler| handler.spec.name.to_string());
        let owner = name.map_or_else(|| format!("handler {id}"), |name| format!("handler {id} ({name})"));
        let message = format!("a secret of {owner} cannot be used, so its attempts are deferred: {why}");
        report.push(finding(LABEL, State::Failed, message));
    }
    if current + stale == 0 && !secrets.unreadable.is_empty() {
        return;
    }
    report.push(match (has_key, current, stale) {
        (true, _, 0) => ok(LABEL, format!("the secrets of {} are encrypted with secrets.key", handler_count_text(current))),
        (true, ..) => finding(
            LABEL,
            State::Warning,
            format!("the secrets of {} are stored unencrypted or with an earlier key: provisiond migrate encrypts them with secrets.key", handler_count_text(stale)),
        ),
        (false, 0, 0) => ok(LABEL, "no handler has secrets; without secrets.key they would be stored unencrypted".into()),
        (false, ..) => finding(
            LABEL,
            State::Warning,
            format!(
                "signing secrets and header values of {} are stored unencrypted: set secrets.key (openssl rand \
                 -base64 32) for every process, then run provisiond migrate",
                handler_count_text(current + stale)
            ),
        ),
    });
}

/// `1 handler`, `2 handlers`.
pub(in crate::cli) fn handler_count_text(number: usize) -> String {
    format!("{number} handler{}", if number == 1 { "" } else { "s" })
}
