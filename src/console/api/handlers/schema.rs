//! The schemas of a handler in the API document, derived from that of [`HandlerSpec`].

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{KnownFormat, Object, ObjectBuilder, OneOfBuilder, SchemaFormat, Type},
    },
};

use crate::domain::handler::{Handler, HandlerSpec};

/// A handler to create.
pub(super) struct NewHandler;
/// A change of a handler.
pub(super) struct HandlerPatch;

type Named = Vec<(String, RefOr<Schema>)>;

fn spec() -> Object {
    match HandlerSpec::schema() {
        RefOr::T(Schema::Object(object)) => object,
        _ => Object::new(),
    }
}

fn add(object: &mut Object, name: &str, property: ObjectBuilder) {
    object.properties.insert(name.to_owned(), property.build().into());
}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

impl PartialSchema for NewHandler {
    fn schema() -> RefOr<Schema> {
        let mut object = spec();
        object.description = Some("A handler: it runs a task for each event of its type".to_owned());
        let sign = ObjectBuilder::new().schema_type(Type::Boolean);
        add(
            &mut object,
            "sign",
            sign.description(Some("Sign its requests with a new secret, which the answer shows once")),
        );
        let secret = text("Sign its requests with this secret").write_only(true);
        let secret = secret.pattern(Some("^whsec_[A-Za-z0-9+/]{43}=$")).examples([json!(EXAMPLE_SECRET)]);
        add(&mut object, "signing_secret", secret);
        object.examples = vec![
            json!({"name": "CRM", "event": "clients.create", "priority": 1,
                "task": {"type": "http", "url": "http://127.0.0.1:5000/api"}}),
            json!({"name": "Switch", "event": "clients.balance_zero", "timeout": "20s",
                "task": {"type": "script", "path": "sync.py", "args": ["--fast"]}}),
        ];
        object.into()
    }
}

const EXAMPLE_SECRET: &str = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=";

impl ToSchema for NewHandler {
    fn schemas(schemas: &mut Named) {
        HandlerSpec::schemas(schemas);
    }
}

impl PartialSchema for HandlerPatch {
    fn schema() -> RefOr<Schema> {
        let mut object = spec();
        object.description = Some("The fields to change; null sets the default".to_owned());
        object.required.clear();
        for (name, property) in &mut object.properties {
            // These have no default.
            if !["name", "event", "task"].contains(&name.as_str()) {
                let null = ObjectBuilder::new().schema_type(Type::Null);
                *property = OneOfBuilder::new().item(property.clone()).item(null).into();
            }
        }
        object.examples = vec![json!({"status": "disabled"}), json!({"priority": 5, "timeout": null})];
        object.into()
    }
}

impl ToSchema for HandlerPatch {
    fn schemas(schemas: &mut Named) {
        HandlerSpec::schemas(schemas);
    }
}

/// A response has more members than a request.
impl PartialSchema for Handler {
    fn schema() -> RefOr<Schema> {
        let mut object = spec();
        object.description = Some("A handler as it is stored".to_owned());
        object.additional_properties = None;
        let number = |description: &str| {
            let format = Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
            ObjectBuilder::new().schema_type(Type::Integer).format(format).description(Some(description))
        };
        let time = |description: &str| {
            text(description).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        };
        add(&mut object, "id", number("Assigned by the database"));
        add(&mut object, "version", number("The version, which each change increases; also the ETag"));
        let signed = ObjectBuilder::new().schema_type(Type::Boolean);
        add(
            &mut object,
            "signed",
            signed.description(Some("Whether its requests are signed; the secret is not shown")),
        );
        add(&mut object, "created_at", time("When it was created"));
        add(&mut object, "updated_at", time("When it was changed last"));
        let all = ["id", "version", "signed", "created_at", "updated_at"];
        object.required.extend(all.map(str::to_owned));
        object.into()
    }
}

impl ToSchema for Handler {
    fn schemas(schemas: &mut Named) {
        HandlerSpec::schemas(schemas);
    }
}
