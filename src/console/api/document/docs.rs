//! The document as a page, without scripts and without requests to other hosts.

mod spans;

use std::sync::Arc;

use askama::Template;
use serde_json::Value;

use crate::console::{
    access::Identity,
    pages::{Answer, Frame, html},
};
use spans::{Span, spans};

/// The document, prepared for the page. Clones share it.
#[derive(Clone)]
pub struct Page(Arc<Shown>);

struct Shown {
    about: Vec<Vec<Span>>,
    groups: Vec<Group>,
    schemas: Vec<SchemaShown>,
}

struct Group {
    name: String,
    description: Vec<Span>,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: Vec<Span>,
    parameters: Vec<Parameter>,
    body: Option<Content>,
    responses: Vec<Reply>,
}

struct Parameter {
    name: String,
    place: String,
    required: bool,
    kind: String,
    description: Vec<Span>,
}

struct Content {
    media: String,
    /// The name of its schema, if it has one.
    schema: Option<String>,
    example: Option<String>,
}

struct Reply {
    status: String,
    description: Vec<Span>,
    content: Option<Content>,
}

struct SchemaShown {
    name: String,
    text: String,
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs<'a> {
    frame: Frame,
    shown: &'a Shown,
}

impl Page {
    pub fn of(document: &Value) -> Self {
        let tags = document["tags"].as_array().into_iter().flatten();
        let groups = tags.map(|tag| Group {
            name: text(tag, "name"),
            description: described(tag),
            operations: operations(document, &tag["name"]),
        });
        let schemas =
            document.pointer("/components/schemas").and_then(Value::as_object).into_iter().flatten();
        let schemas = schemas.map(|(name, schema)| SchemaShown { name: name.clone(), text: pretty(schema) });
        let about = document.get("info").map(|info| text(info, "description")).unwrap_or_default();
        let about = about.split("\n\n").map(spans).collect();
        Self(Arc::new(Shown { about, groups: groups.collect(), schemas: schemas.collect() }))
    }

    pub fn answer(&self, identity: &Identity) -> Answer {
        html(&Docs { frame: Frame::of("REST API", Some(identity)), shown: &self.0 })
    }
}

fn operations(document: &Value, tag: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
    });
    let of_tag =
        all.filter(|(_, _, operation)| operation["tags"].as_array().is_some_and(|tags| tags.contains(tag)));
    of_tag.map(|(path, method, operation)| self::operation(document, path, method, operation)).collect()
}

fn operation(document: &Value, path: &str, method: &str, operation: &Value) -> Operation {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| Parameter {
        name: text(parameter, "name"),
        place: text(parameter, "in"),
        required: parameter["required"] == true,
        kind: kind(&parameter["schema"]),
        description: described(parameter),
    });
    let responses = operation["responses"].as_object().into_iter().flatten().map(|(status, response)| {
        let response = resolved(document, response);
        Reply {
            status: status.clone(),
            description: described(response),
            content: content(document, response),
        }
    });
    Operation {
        id: text(operation, "operationId"),
        method: method.to_uppercase(),
        path: format!("/api/v1{path}"),
        summary: text(operation, "summary"),
        description: described(operation),
        parameters: parameters.collect(),
        body: content(document, &operation["requestBody"]),
        responses: responses.collect(),
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

fn content(document: &Value, value: &Value) -> Option<Content> {
    let (media, content) = value["content"].as_object()?.iter().next()?;
    let schema = &content["schema"];
    // The schema of an optional body is `oneOf` null and the reference.
    let named = schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| one.get("$ref").is_some()));
    let named = named.unwrap_or(schema);
    let name = named["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).map(str::to_owned);
    let example = resolved(document, named)["examples"].as_array().and_then(|all| all.first()).map(pretty);
    Some(Content { media: media.clone(), schema: name, example })
}

/// The type as a short text.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(one) = schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"))
    {
        return kind(one);
    }
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn described(value: &Value) -> Vec<Span> {
    spans(value["description"].as_str().unwrap_or_default())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
