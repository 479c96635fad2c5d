use super::*;

fn messages_about(queues: &Value) -> Vec<String> {
    let queues: Vec<ManagedQueue> = serde_json::from_value(queues.clone()).expect("queues");
    judge(&Names::new("p"), &queues).iter().map(ToString::to_string).collect()
}

fn queue(name: &str, arguments: &Value, definition: &Value) -> Value {
    serde_json::json!({
        "name": name, "arguments": arguments, "policy": "all", "operator_policy": null,
        "effective_policy_definition": definition,
    })
}

#[test]
fn only_harmful_policies_are_reported() {
    let empty = serde_json::json!({});
    let level = serde_json::json!({ "x-message-ttl": 8000, "x-overflow": "reject-publish" });
    let rejecting = serde_json::json!({ "max-length": 10, "overflow": "reject-publish" });
    for (name, arguments, definition, harm) in [
        ("p.events.a.b", &empty, r#"{"message-ttl":1,"max-length":1,"delivery-limit":1}"#, None),
        ("p.events.a.b", &empty, r#"{"expires":60000}"#, Some("(expires 60000) drops")),
        ("p.events.a.b", &empty, r#"{"consumer-timeout":1620000}"#, None),
        (
            "p.events.a.b",
            &empty,
            r#"{"consumer-timeout":1619999}"#,
            Some("(consumer-timeout 1619999) requeues events"),
        ),
        ("p.execution-log", &empty, r#"{"consumer-timeout":60000}"#, None),
        ("p.delay.v1.level-3", &level, r#"{"message-ttl":8000,"delivery-limit":1}"#, None),
        (
            "p.delay.v1.level-3",
            &level,
            r#"{"message-ttl":7999}"#,
            Some("(message-ttl 7999) delivers retries too"),
        ),
        ("p.delay.v1.level-3", &empty, r#"{"message-ttl":9000}"#, Some("(message-ttl 9000) delivers")),
        ("p.delay.v1.level-3", &level, r#"{"max-length":1}"#, None),
        ("p.delay.v1.level-3", &empty, r#"{"max-length":1}"#, Some("(max-length 1) delivers")),
        ("p.delay.v1.level-3", &level, r#"{"expires":1}"#, Some("(expires 1) drops")),
        ("p.execution-log", &empty, r#"{"message-ttl":60000}"#, Some("(message-ttl 60000) drops")),
        ("p.dead-letters", &empty, r#"{"max-length-bytes":1}"#, Some("(max-length-bytes 1) drops")),
        ("p.dead-letters", &empty, &rejecting.to_string(), None),
        (
            "p.dead-letters",
            &empty,
            r#"{"max-length":1,"overflow":"reject-publish-dlx"}"#,
            Some("(max-length 1) drops"),
        ),
        ("p.unrouted", &empty, r#"{"delivery-limit":5}"#, Some("(delivery-limit 5) drops")),
        ("p.unrouted", &empty, r#"{"dead-letter-exchange":"x","queue-mode":"lazy"}"#, None),
        ("p.watch.1", &empty, r#"{"expires":1,"message-ttl":1}"#, None),
        ("pevents.a", &empty, r#"{"expires":1}"#, None),
        ("another", &empty, r#"{"expires":1}"#, None),
    ] {
        let definition = serde_json::from_str(definition).expect(definition);
        let messages = messages_about(&serde_json::json!([queue(name, arguments, &definition)]));
        match harm {
            None => assert!(messages.is_empty(), "{name} {definition}: {messages:?}"),
            Some(harm) => {
                assert!(
                    messages.len() == 1 && messages[0].contains(harm) && messages[0].ends_with(name),
                    "{name}: {messages:?}"
                );
            }
        }
    }
}

#[test]
fn the_queues_of_one_setting_are_grouped() {
    let (none, ttl) = (serde_json::json!([]), serde_json::json!({ "message-ttl": 5 }));
    let mut queues: Vec<_> =
        (0..6).map(|level| queue(&format!("p.delay.v1.level-{level}"), &none, &ttl)).collect();
    queues.push(queue("p.execution-log", &none, &ttl));
    assert_eq!(
        messages_about(&queues.into()),
        [
            "the policy \"all\" (message-ttl 5) delivers retries too early: p.delay.v1.level-0, p.delay.v1.level-1, \
             p.delay.v1.level-2 and 3 more",
            "the policy \"all\" (message-ttl 5) drops unprocessed messages: p.execution-log",
        ]
    );
}

#[test]
fn an_answer_of_another_shape_is_an_error() {
    for invalid in
        [r#"{"name":"q","effective_policy_definition":["expires"]}"#, r#"{"name":1}"#, r#"{"arguments":{}}"#]
    {
        assert!(serde_json::from_str::<ManagedQueue>(invalid).is_err(), "{invalid}");
    }
    // The form in which RabbitMQ writes a queue without a policy.
    let bare = r#"{"arguments":{},"effective_policy_definition":[],"name":"q","operator_policy":null,"policy":null}"#;
    let bare: ManagedQueue = serde_json::from_str(bare).expect("a queue");
    assert!(bare.effective_policy_definition.get("expires").is_none());
}
