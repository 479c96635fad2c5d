//! The form of a handler: the values as they were typed, and an error for each invalid field.

mod read;

use std::collections::BTreeMap;

use crate::{
    console::pages::fields::{Errors, Fields},
    domain::{
        handler::{Handler, HandlerId, HandlerSpec, SETTINGS, Setting, SettingGroup, SettingKind},
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
    settings: BTreeMap<&'static str, String>,
    pub sign: String,
    pub errors: Errors,
}

impl HandlerForm {
    /// The form of a new handler. `event` is empty, or chosen in advance.
    pub fn blank(event: &str) -> Self {
        Self {
            event: event.to_owned(),
            task: TaskType::Http.to_string(),
            settings: texts(&HandlerSpec::blank()),
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
            settings: texts(spec),
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
            settings: SETTINGS
                .iter()
                .map(|setting| (setting.name, text(setting.name).trim().to_owned()))
                .collect(),
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
        let mut spec = match (name, event, task) {
            (Some(name), Some(event), Some(task)) => HandlerSpec::new(name, event, task),
            // The settings are checked all the same.
            _ => HandlerSpec::blank(),
        };
        let given = |setting: &'static Setting| {
            (setting, self.settings.get(setting.name).map(String::as_str).filter(|text| !text.is_empty()))
        };
        for (name, why) in spec.set_all(SETTINGS.iter().map(given)) {
            errors.add(name, why);
        }
        let complete = errors.is_empty();
        self.errors = errors;
        complete.then_some(spec)
    }

    /// The settings of one part of the form.
    pub fn settings(&self, group: SettingGroup) -> impl Iterator<Item = SettingField<'_>> {
        Setting::of_group(group).map(|setting| SettingField {
            setting,
            id: format!("f-{}", setting.name.replace('_', "-")),
            value: self.settings.get(setting.name).map_or("", String::as_str),
            error: self.error(setting.name),
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
        let blank = texts(&HandlerSpec::blank());
        let is_set = |setting: &Setting| {
            let text = self.settings.get(setting.name).filter(|text| !text.is_empty());
            setting.group != SettingGroup::Main
                && text.is_some_and(|text| blank.get(setting.name) != Some(text))
        };
        let texts = [&self.headers, &self.args, &self.sign];
        texts.iter().any(|text| !text.trim().is_empty()) || SETTINGS.iter().any(is_set)
    }
}

/// A setting in the form.
pub struct SettingField<'a> {
    pub setting: &'static Setting,
    pub id: String,
    pub value: &'a str,
    pub error: &'a str,
}

impl SettingField<'_> {
    /// The words to choose from, each with its text; none for a text or a number.
    pub const fn choices(&self) -> &'static [(&'static str, &'static str)] {
        match self.setting.kind {
            SettingKind::Choice(words) => words,
            SettingKind::Text(_) | SettingKind::Number(_) => &[],
        }
    }

    /// What the template's macro adds to a text field.
    pub const fn extra(&self) -> &'static str {
        match self.setting.kind {
            SettingKind::Number(_) => "number",
            SettingKind::Choice(_) | SettingKind::Text(_) => "",
        }
    }
}

/// The values of all settings; blank for a default that has no value.
fn texts(spec: &HandlerSpec) -> BTreeMap<&'static str, String> {
    SETTINGS.iter().map(|setting| (setting.name, setting.get(spec).unwrap_or_default())).collect()
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
