//! The form of a handler: the values as they were typed, and an error for each invalid field.

mod read;

use std::num::NonZeroU32;

use crate::{
    console::pages::{
        fields::{Errors, Fields},
        format::typed,
    },
    domain::{
        handler::{Handler, HandlerId, HandlerSpec, Priority, Timeout},
        task::{MASK, Task, TaskType},
    },
};

/// The values of the form, as they were typed.
#[derive(Clone, Debug, Default)]
pub struct HandlerForm {
    /// `None` for a new handler.
    pub id: Option<HandlerId>,
    pub version: i64,
    pub name: String,
    pub event: String,
    pub task: String,
    pub url: String,
    pub headers: String,
    pub path: String,
    /// The script path that needs no check on this machine: it is stored already, or the form has warned about it.
    pub known_path: String,
    pub args: String,
    pub status: String,
    pub priority: String,
    pub mode: String,
    pub on_failure: String,
    pub timeout: String,
    pub max_concurrency: String,
    pub max_attempts: String,
    pub initial_interval: String,
    pub multiplier: String,
    pub max_interval: String,
    pub jitter: String,
    pub sign: String,
    pub errors: Errors,
}

impl HandlerForm {
    /// The form of a new handler. `event` is empty, or chosen in advance.
    pub fn blank(event: &str) -> Self {
        Self {
            event: event.to_owned(),
            task: TaskType::Http.to_string(),
            priority: Priority::default().to_string(),
            ..Self::default()
        }
    }

    pub fn of(handler: &Handler) -> Self {
        let spec = &handler.spec;
        let mut form = Self {
            id: Some(handler.id),
            version: handler.version,
            name: spec.name.to_string(),
            event: spec.event.to_string(),
            task: spec.task.kind().to_string(),
            status: spec.status.to_string(),
            priority: spec.priority.to_string(),
            mode: spec.mode.to_string(),
            on_failure: spec.on_failure.to_string(),
            timeout: told(spec.timeout.map(|timeout| typed(timeout.duration()))),
            max_concurrency: told(spec.max_concurrency),
            max_attempts: told(spec.retry.max_attempts),
            initial_interval: told(spec.retry.initial_interval.map(typed)),
            multiplier: told(spec.retry.multiplier),
            max_interval: told(spec.retry.max_interval.map(typed)),
            jitter: told(spec.retry.jitter),
            ..Self::default()
        };
        match &spec.task {
            Task::Http { url, headers } => {
                url.as_str().clone_into(&mut form.url);
                form.headers = lines(headers.keys().map(|name| format!("{}: {MASK}", name.as_str())));
            }
            Task::Script { path, args } => {
                path.as_str().clone_into(&mut form.path);
                path.as_str().clone_into(&mut form.known_path);
                form.args = lines(args.iter().cloned());
            }
        }
        form
    }

    pub fn typed(fields: &Fields, id: Option<HandlerId>) -> Self {
        let text = |name| fields.get(name).to_owned();
        Self {
            id,
            version: fields.get("version").parse().unwrap_or_default(),
            name: text("name"),
            event: text("event"),
            task: text("task"),
            url: text("url"),
            headers: fields.lines("headers"),
            path: text("path"),
            known_path: text("known_path"),
            args: fields.lines("args"),
            status: text("status"),
            priority: text("priority"),
            mode: text("mode"),
            on_failure: text("on_failure"),
            timeout: text("timeout"),
            max_concurrency: text("max_concurrency"),
            max_attempts: text("max_attempts"),
            initial_interval: text("initial_interval"),
            multiplier: text("multiplier"),
            max_interval: text("max_interval"),
            jitter: text("jitter"),
            sign: text("sign"),
            errors: Errors::default(),
        }
    }

    /// Parses the form. `None` after adding an error to each invalid field.
    ///
    /// `before` is the stored handler. It has the values of headers, which the form shows as `***`.
    pub fn spec(&mut self, before: Option<&HandlerSpec>) -> Option<HandlerSpec> {
        let mut errors = Errors::default();
        let name = errors.take("name", self.name.parse());
        let event = if self.event.is_empty() {
            errors.take("event", Err("choose the event that it runs on"))
        } else {
            errors.take("event", self.event.parse().map_err(|e| format!("{e}")))
        };
        let task = self.task(before, &mut errors);
        let priority = errors.optional("priority", &self.priority, str::parse).unwrap_or_default();
        let status = errors.optional("status", &self.status, str::parse).unwrap_or_default();
        let mode = errors.optional("mode", &self.mode, str::parse).unwrap_or_default();
        let on_failure = errors.optional("on_failure", &self.on_failure, str::parse).unwrap_or_default();
        let timeout = errors.optional("timeout", &self.timeout, str::parse::<Timeout>);
        let max_concurrency = errors.optional("max_concurrency", &self.max_concurrency, |text| {
            text.parse::<NonZeroU32>().map_err(|_| "must be a whole number, 1 or more; blank: no limit")
        });
        let retry = self.retry(&mut errors);
        let complete = errors.is_empty();
        self.errors = errors;
        let (Some(name), Some(event), Some(task), true) = (name, event, task, complete) else { return None };
        Some(HandlerSpec {
            name,
            event,
            task,
            status,
            priority,
            mode,
            on_failure,
            timeout,
            retry,
            max_concurrency,
        })
    }

    pub fn error(&self, field: &str) -> &str {
        self.errors.of(field)
    }

    pub const fn is_edit(&self) -> bool {
        self.id.is_some()
    }

    pub fn title(&self) -> String {
        if self.is_edit() { format!("Edit {}", self.name) } else { "New Handler".to_owned() }
    }

    pub fn action(&self) -> String {
        self.id.map_or_else(|| "/handlers".to_owned(), |id| format!("/handlers/{id}"))
    }

    pub const fn submit_word(&self) -> &'static str {
        if self.is_edit() { "Save" } else { "Create" }
    }

    /// The first option of the event types. A stored handler has an event type and needs none.
    pub const fn blank_event(&self) -> &'static str {
        if self.is_edit() { "" } else { "Choose…" }
    }

    /// Whether a field in the folded part of the form has a value. The page then shows that part open.
    pub fn rest_is_set(&self) -> bool {
        let texts = [
            &self.headers,
            &self.args,
            &self.timeout,
            &self.max_concurrency,
            &self.max_attempts,
            &self.initial_interval,
            &self.multiplier,
            &self.max_interval,
            &self.jitter,
            &self.sign,
        ];
        texts.iter().any(|text| !text.trim().is_empty())
            || self.mode == "intercept"
            || self.on_failure == "halt"
    }
}

fn told(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
