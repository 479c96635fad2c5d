//! Checks how the secrets of handlers are stored, and whether this process can decrypt them.

use super::report::{Finding, State, finding, ok};
use crate::{config::Config, domain::handler::Handler, store::Store};

const WHAT: &str = "secrets";

pub(super) async fn check(config: &Config, store: &Store, handlers: &[Handler], report: &mut Vec<Finding>) {
    let found = match store.find_secrets().await {
        Ok(found) => found,
        Err(error) => {
            return report.push(finding(WHAT, State::Failed, format!("{:#}", anyhow::Error::new(error))));
        }
    };
    let has_key = config.secrets.seals.has_key();
    let (current, stale) = (found.current, found.stale);
    for (id, why) in &found.unreadable {
        let name =
            handlers.iter().find(|handler| handler.id == *id).map(|handler| handler.spec.name.to_string());
        let of = name.map_or_else(|| format!("handler {id}"), |name| format!("handler {id} ({name})"));
        let told = format!("a secret of {of} cannot be used, so its attempts are deferred: {why}");
        report.push(finding(WHAT, State::Failed, told));
    }
    if current + stale == 0 && !found.unreadable.is_empty() {
        return;
    }
    report.push(match (has_key, current, stale) {
        (true, _, 0) => ok(WHAT, format!("the secrets of {} are encrypted with secrets.key", handlers_told(current))),
        (true, ..) => finding(
            WHAT,
            State::Warning,
            format!("the secrets of {} are stored unencrypted or with an earlier key: provisiond migrate encrypts them with secrets.key", handlers_told(stale)),
        ),
        (false, 0, 0) => ok(WHAT, "no handler has secrets; without secrets.key they would be stored unencrypted".into()),
        (false, ..) => finding(
            WHAT,
            State::Warning,
            format!(
                "signing secrets and header values of {} are stored unencrypted: set secrets.key (openssl rand \
                 -base64 32) for every process, then run provisiond migrate",
                handlers_told(current + stale)
            ),
        ),
    });
}

/// `1 handler`, `2 handlers`.
pub(in crate::cli) fn handlers_told(number: usize) -> String {
    format!("{number} handler{}", if number == 1 { "" } else { "s" })
}
