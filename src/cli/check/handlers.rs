//! Checks what handlers need: https and addresses, scripts, and enough drain time.

use std::path::{Path, PathBuf};

use super::report::{Finding, State, finding, ok};
use crate::{
    cli::settings,
    config::Config,
    domain::handler::{Handler, Status},
    runner,
};

pub(super) fn check_http(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
    let http = &config.http;
    match runner::check_http(&settings::http(config)) {
        Ok(()) => {
            let files = [("http.ca_file", &http.ca_file), ("http.client_cert", &http.client_cert)];
            let files =
                files.iter().filter_map(|(key, file)| Some(format!("{key} {}", file.as_ref()?.display())));
            let parts: Vec<String> =
                std::iter::once("trusts the system's CAs".to_owned()).chain(files).collect();
            report.push(ok("https", parts.join(", ")));
        }
        Err(error) => report.push(finding("https", State::Failed, format!("{error:#}"))),
    }
    report.push(if http.rules.deny.is_empty() {
        let message = "http.deny is empty: handlers may call any address, including cloud metadata";
        finding("addresses", State::Warning, message.into())
    } else {
        let (denied, allowed) = (http.rules.deny.len(), http.rules.allow.len());
        ok(
            "addresses",
            format!("{denied} networks are denied (http.deny), with {allowed} exceptions (http.allow)"),
        )
    });
    for handler in handlers.iter().filter(|h| h.spec.status == Status::Enabled) {
        if let Some(url) = handler.spec.task.url()
            && let Err(why) = runner::check_literal(&http.rules, url)
        {
            let message = format!("handler {} ({}): {why}", handler.id, handler.spec.name);
            report.push(finding("address", State::Failed, message));
        }
    }
}

pub(super) fn check_scripts(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
    let scripts: Vec<_> = handlers
        .iter()
        .filter(|h| h.spec.status == Status::Enabled)
        .filter_map(|h| Some((h, h.spec.task.script()?)))
        .collect();
    check_roots(&config.script.roots, scripts.len(), report);
    let rules = match settings::script_rules(config) {
        Ok(rules) => rules,
        Err(why) => return report.push(finding("script owners", State::Failed, format!("{why:#}"))),
    };
    if !config.script.roots.is_empty()
        && let Err(why) = runner::check_working_dir(config.script.user.as_deref())
    {
        report.push(finding(
            "script dirs",
            State::Failed,
            format!("{why:#}; no script runs until this is repaired"),
        ));
    }
    for (handler, path) in scripts {
        let (state, why) = match rules.examine(path) {
            Err(why) => (State::Failed, why.to_string()),
            Ok(file) => match runner::foreign(&file) {
                Some(kind) => {
                    let file = file.display();
                    (State::Warning, format!("{file} is {kind}: it runs here only with an emulator"))
                }
                None => continue,
            },
        };
        report.push(finding(
            "script",
            state,
            format!("handler {} ({}): {why}", handler.id, handler.spec.name),
        ));
    }
}

/// Checks that each of `script.roots` is a directory. `scripts` is the number of enabled script handlers.
fn check_roots(roots: &[PathBuf], scripts: usize, report: &mut Vec<Finding>) {
    for root in roots.iter().filter(|root| !Path::new(root).is_dir()) {
        report.push(finding(
            "script root",
            State::Failed,
            format!("{} is not a directory, or cannot be read (script.roots)", root.display()),
        ));
    }
    match (roots.is_empty(), scripts == 0) {
        (true, true) => {
            report.push(ok("script roots", "not configured: script handlers are refused".into()));
        }
        (true, false) => {
            let message = format!(
                "not configured, but {scripts} script handlers are enabled and will fail: set script.roots"
            );
            report.push(finding("script roots", State::Failed, message));
        }
        (false, _) if roots.iter().any(|root| !Path::new(root).is_dir()) => {}
        (false, _) => report.push(ok(
            "script roots",
            roots.iter().map(|r| r.display().to_string()).collect::<Vec<_>>().join(", "),
        )),
    }
}

pub(super) fn check_timeouts(config: &Config, handlers: &[Handler], report: &mut Vec<Finding>) {
    let (drain, defaults) = (config.worker.drain_timeout, config.handler_defaults());
    for handler in handlers {
        let timeout = defaults.timeout_of(&handler.spec);
        if timeout > drain {
            let message = format!(
                "handler {} ({}) has a timeout of {timeout:?}, longer than worker.drain_timeout {drain:?}: a shutdown can interrupt it, and then it runs again",
                handler.id, handler.spec.name
            );
            report.push(finding("drain", State::Warning, message));
        }
    }
}
