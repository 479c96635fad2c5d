//! The options that describe the task of a handler.

use crate::domain::task::{HeaderName, HeaderValue, HttpTarget, ScriptPath, Task, by_name};

/// The task: either `--http` or `--script`, with its options.
#[derive(clap::Args, Clone)]
pub(super) struct TaskArgs {
    /// POST the event to this url; http:// may be omitted
    #[arg(long, value_name = "URL", conflicts_with = "script")]
    http: Option<HttpTarget>,
    /// Run this script with the event on its stdin: an absolute path, or one below script.roots
    #[arg(long, value_name = "PATH")]
    script: Option<ScriptPath>,
    /// Add or replace a header of the request; can be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header, allow_hyphen_values = true, conflicts_with = "script")]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Remove this header; can be repeated
    #[arg(long = "remove-header", value_name = "NAME", conflicts_with = "script")]
    unwanted: Vec<HeaderName>,
    /// Argument of the script; replaces all existing arguments; can be repeated
    #[arg(long = "arg", value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "http")]
    args: Vec<String>,
    /// Remove all existing headers or arguments
    #[arg(long, conflicts_with_all = ["headers", "args"])]
    bare: bool,
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header has the form NAME: VALUE")?;
    let name: HeaderName = name.trim().parse().map_err(|e| format!("{e}"))?;
    let value = HeaderValue::typed(&name, value).map_err(|e| format!("{e}"))?;
    Ok((name, value))
}

impl TaskArgs {
    pub(super) const fn url(&self) -> Option<&HttpTarget> {
        self.http.as_ref()
    }

    /// The task of a new handler.
    ///
    /// # Errors
    /// A header is given twice.
    pub(super) fn task(&self) -> Result<Option<Task>, String> {
        let Self { http, script, headers, args, .. } = self;
        let headers = by_name(headers.iter().cloned()).map_err(|error| error.to_string())?;
        Ok(match (http, script) {
            (Some(url), _) => Some(Task::Http { url: url.clone(), headers }),
            (None, Some(path)) => Some(Task::Script { path: path.clone(), args: args.clone() }),
            (None, None) => None,
        })
    }

    /// Changes `task` as requested. A new path keeps the arguments, and a new url keeps the headers. If the scheme,
    /// host, port or header Host changes, each kept header must be given again: its value may be secret.
    ///
    /// # Errors
    /// What does not fit together.
    pub(super) fn apply(self, task: &mut Task) -> Result<(), String> {
        let new_task = self.task()?;
        let Self { http, script, headers: new_headers, unwanted, args: new_args, bare } = self;
        // A task of another type keeps nothing.
        if let Some(new_task) = new_task.filter(|new_task| new_task.kind() != task.kind()) {
            *task = new_task;
            return Ok(());
        }
        match task {
            Task::Http { url, headers } => {
                if !new_args.is_empty() {
                    return Err("--arg is for scripts, and this handler calls a url".into());
                }
                let is_host_given = new_headers
                    .iter()
                    .any(|(name, value)| name.is_host() && headers.get(name) != Some(value));
                let is_elsewhere = http.as_ref().is_some_and(|new_url| !new_url.has_origin_of(url))
                    || is_host_given
                    || unwanted.iter().any(HeaderName::is_host);
                *url = http.unwrap_or_else(|| url.clone());
                if bare {
                    headers.clear();
                }
                if let Some(name) = unwanted.iter().find(|name| !headers.contains_key(name)) {
                    return Err(format!("the handler has no header {}", name.as_str()));
                }
                headers.retain(|name, _| !unwanted.contains(name));
                let is_kept = |name: &&HeaderName| !new_headers.iter().any(|(new_name, _)| new_name == *name);
                if is_elsewhere && let Some(kept) = headers.keys().find(is_kept) {
                    return Err(format!(
                        "the new url or header Host names another scheme, host or port, and the stored value of {} is not sent there: give it \
                         again (--header), or remove it (--remove-header)",
                        kept.as_str()
                    ));
                }
                headers.extend(new_headers);
            }
            Task::Script { path, args } => {
                if !(new_headers.is_empty() && unwanted.is_empty()) {
                    return Err("--header is for urls, and this handler runs a script".into());
                }
                *path = script.unwrap_or_else(|| path.clone());
                if bare || !new_args.is_empty() {
                    *args = new_args;
                }
            }
        }
        Ok(())
    }
}
