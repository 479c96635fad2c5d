//! Parses the task of the form.

use std::{collections::BTreeMap, str::FromStr};

use super::HandlerForm;
use crate::{
    console::pages::fields::Errors,
    domain::{
        handler::HandlerSpec,
        task::{HeaderName, HeaderValue, MASK, Task, TaskType, by_name},
    },
};

impl HandlerForm {
    pub(super) fn task(&self, before: Option<&HandlerSpec>, errors: &mut Errors) -> Option<Task> {
        match errors.take("task", self.task.parse())? {
            TaskType::Http => self.http(before, errors),
            TaskType::Script => {
                let path = errors.take("path", given(&self.path, "enter the path of the script"));
                let args = self.args.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
                Some(Task::Script { path: path?, args })
            }
        }
    }

    fn http(&self, before: Option<&HandlerSpec>, errors: &mut Errors) -> Option<Task> {
        let url = given(&self.url, "enter the URL to call");
        let url = errors.take("url", url);
        let host = self.headers.lines().filter_map(|line| line.split_once(':'));
        let host = host
            .map(|(name, value)| (name.trim(), value.trim()))
            .find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let kept = before.zip(url.as_ref());
        let kept = kept.and_then(|(spec, url)| spec.task.headers_kept_for(url, host.map(|(_, value)| value)));
        let headers = errors.take("headers", headers(&self.headers, kept.unwrap_or(&BTreeMap::new())));
        Some(Task::Http { url: url?, headers: headers? })
    }
}

/// Parses headers, one `Name: value` a line. The value `***` keeps the value in `known`.
pub(super) fn headers(
    typed: &str,
    known: &BTreeMap<HeaderName, HeaderValue>,
) -> Result<BTreeMap<HeaderName, HeaderValue>, String> {
    let mut headers = Vec::new();
    for line in typed.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("{line:?} does not have the form Name: value"))?;
        let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
        let value = match (value.trim(), known.get(&name)) {
            (MASK, Some(stored)) => stored.clone(),
            (MASK, None) => {
                return Err(format!(
                    "{}: type the value; {MASK} keeps a stored value, but only for the same scheme, host, port and header Host",
                    name.as_str()
                ));
            }
            (value, _) => {
                HeaderValue::typed(&name, value).map_err(|why| format!("{}: {why}", name.as_str()))?
            }
        };
        headers.push((name, value));
    }
    by_name(headers).map_err(|error| error.to_string())
}

/// Parses a field that must not be empty.
fn given<T: FromStr<Err: ToString>>(text: &str, missing: &str) -> Result<T, String> {
    if text.is_empty() {
        return Err(missing.to_owned());
    }
    text.parse().map_err(|error: T::Err| error.to_string())
}
