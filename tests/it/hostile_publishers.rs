//! Whatever bytes a publisher writes, the worst that happens is one dead letter.

use serde_json::{Value, json};

use crate::support::{
    Endpoint, World,
    console::{Api, answer},
    envelope, eventually,
    raw_publisher::{RawPublisher, entry, long, short},
};

pub const MESSAGE_ID: u16 = 0x0080;
const HEADERS: u16 = 0x2000;
const GOOD: u64 = 25;

/// Properties that lapin cannot read, as flags and bytes, and what the dead letter says of each.
pub fn unreadable_properties() -> Vec<(u16, Vec<u8>, String)> {
    let bytes = b"\xff\xfe\x00\x81\x92";
    let texts = [
        (0x8000, "content_type"),
        (0x4000, "content_encoding"),
        (0x0400, "correlation_id"),
        (0x0200, "reply_to"),
        (MESSAGE_ID, "message_id"),
        (0x0020, "type"),
        (0x0008, "app_id"),
        (0x0004, "cluster_id"),
    ];
    let texts = texts.map(|(flag, name)| (flag, short(bytes), format!("{name} is not UTF-8 (fffe008192)")));
    let mut deep = entry(b"x", b't', &[1]);
    for _ in 0..200 {
        deep = entry(b"deep", b'F', &long(&deep));
    }
    let tables = [
        (entry(bytes, b't', &[1]), "the name of a header is not UTF-8 (fffe008192)"),
        (
            entry(b"h", b'F', &long(&entry(bytes, b't', &[1]))),
            "header \"h\" contains a value that cannot be read",
        ),
        (
            entry(b"h", b'A', &long(&[b'F', 0, 0, 0, 4, 1, 0xff, b't', 1])),
            "header \"h\" contains a value that cannot",
        ),
        (deep, "nested deeper than 32"),
    ];
    let tables = tables.map(|(table, error)| (HEADERS, long(&table), error.to_owned()));
    texts.into_iter().chain(tables).collect()
}

async fn publish_good(world: &World, first: u64) {
    for id in first..first + GOOD {
        for event in ["clients.create", "clients.update"] {
            world.publish(event, Some(&format!("{event}-{id}")), id, &json!({})).await;
        }
    }
}

#[blocking_test]
async fn what_cannot_be_read_becomes_a_dead_letter_and_costs_nobody_else() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    for event in ["clients.create", "clients.update"] {
        world.handler("CRM", event, &["--http", &endpoint.url("/")]);
    }
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let mut publisher = RawPublisher::connect(&world.amqp_url).await;
    let exchange = world.broker.name("events");
    publish_good(&world, 0).await;
    let mut expected = Vec::new();
    let mut refused = 0;
    for (n, (flags, properties, error)) in (0..).zip(unreadable_properties()) {
        let body = envelope("clients.create", 666_000 + n, &json!({}));
        let sent = (flags, properties.as_slice());
        if publisher.publish(&exchange, b"clients.create", sent, body.as_bytes()).await.is_ok() {
            expected.push(error);
        } else {
            // A broker that reads what it passes on refuses it itself, with the publisher's connection.
            refused += 1;
            publisher = RawPublisher::connect(&world.amqp_url).await;
        }
    }
    assert!(expected.len() >= 8, "{refused} were refused by the broker");
    publish_good(&world, GOOD).await;

    let dead_letters = world.wait_for_dead_letters(expected.len()).await;
    for error in &expected {
        let dead_letter = dead_letters
            .iter()
            .find(|dead_letter| dead_letter["error"].as_str().is_some_and(|e| e.contains(error)));
        let dead_letter =
            dead_letter.unwrap_or_else(|| panic!("no dead letter says {error:?}: {dead_letters:#?}"));
        assert_eq!(
            (&dead_letter["reason"], &dead_letter["event_name"]),
            (&json!("malformed"), &json!("clients.create"))
        );
        let shown = world.json(&["dead-letters", "show", dead_letter["id"].as_str().unwrap()]);
        assert!(shown["body"].to_string().contains("666"), "its bytes are kept: {shown:#}");
    }
    let good = world.wait_for_executions(4 * usize::try_from(GOOD).unwrap(), &["--status", "success"]).await;
    assert!(good.iter().all(|execution| execution["attempt"] == json!(1)));
    assert_eq!(endpoint.count(), good.len(), "each was called once, and nothing else was");
    for process in [&worker, &recorder] {
        assert!(!process.log().contains("connection to the broker lost"), "{}", process.log());
    }
    // One is replayed like any other.
    let replayed = dead_letters[0]["id"].as_str().unwrap();
    world.run(&["dead-letters", "replay", replayed, "--yes"]).assert_done();
    endpoint.wait_for(good.len() + 1).await;
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn a_routing_key_that_cannot_be_read_is_shown_as_far_as_it_can() {
    let mut world = World::new().await;
    let recorder = world.recorder().await;
    let mut publisher = RawPublisher::connect(&world.amqp_url).await;
    let exchange = world.broker.name("events");
    let id = short(b"e1");
    for key in [b"clients.\xe4ndern".as_slice(), b"\xff\xfe\x00", b"no.such.event"] {
        publisher.publish(&exchange, key, (MESSAGE_ID, &id), b"{}").await.expect("taken");
    }
    let dead_letters = world.wait_for_dead_letters(3).await;
    let has_error = |text: &str| {
        dead_letters.iter().any(|dead_letter| {
            dead_letter["reason"] == json!("unrouted")
                && dead_letter["error"].as_str().is_some_and(|e| e.contains(text))
        })
    };
    assert!(has_error("routing_key is not UTF-8 (636c69656e74732ee46e6465726e)"), "{dead_letters:#?}");
    assert!(has_error("routing_key is not UTF-8 (fffe00)"), "{dead_letters:#?}");
    assert!(has_error("\"no.such.event\": it is not in the catalogue"), "{dead_letters:#?}");
    let names: Vec<&Value> = dead_letters.iter().map(|dead_letter| &dead_letter["event_name"]).collect();
    assert!(names.contains(&&json!("clients.\u{fffd}ndern")), "{names:?}");
    assert!(!recorder.log().contains("connection to the broker lost"), "{}", recorder.log());
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn what_cannot_be_read_can_be_peeked_at() {
    let mut world = World::new().await;
    world.set("recorder.drain_dead_letters", "false");
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let mut publisher = RawPublisher::connect(&world.amqp_url).await;
    let exchange = world.broker.name("events");
    let id = short(b"\xffe1");
    publisher.publish(&exchange, b"nowhere.\xff", (MESSAGE_ID, &id), b"{}").await.expect("taken");
    eventually("it is in the dead letters", || async {
        world.broker.depth("dead-letters").await.is_some_and(|(messages, _)| messages == 1)
    })
    .await;
    let peeked = world.json(&["dead-letters", "peek"]).to_string();
    assert!(peeked.contains("routing_key is not UTF-8") && peeked.contains("message_id is not"), "{peeked}");
    world.keep(worker);
    world.keep(recorder);
    world.abandon().await;
}

#[blocking_test]
async fn showing_a_body_takes_a_few_times_its_size() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let deep =
        format!("{{\"event\":{{}},\"data\":{{\"a\":{}{}}}}}", "[".repeat(300_000), "]".repeat(300_000));
    let wide = format!("{{\"data\":{}{}{}}}", "[".repeat(120), vec!["1"; 400_000].join(","), "]".repeat(120));
    let lines = format!("{{\"data\":\n[{}]}}", vec!["1"; 400_000].join("\n,"));
    for body in [&deep, &wide, &lines] {
        world.broker.publish("clients.create", None, body.as_bytes()).await;
    }
    let dead_letters = world.wait_for_dead_letters(3).await;
    let (viewer, _) = api.sign_in("vic").await;
    let (operator, csrf) = api.sign_in("ann").await;
    let before = api.process.peak_kib() / 1024;
    for dead_letter in &dead_letters {
        let path = format!("/dead-letters/{}", dead_letter["id"].as_str().unwrap());
        for (path, cookie) in [(format!("{path}?whole=yes"), &viewer), (format!("{path}/edit"), &operator)] {
            let page = answer(api.request("GET", &path).header("cookie", cookie)).await;
            assert_eq!(page.status, 200, "{path}");
            assert!(page.text.len() < 12 << 20, "{path}: {} bytes", page.text.len());
        }
        // Every line is another one.
        let edited = "2\n".repeat(450_000);
        let form = [("csrf", csrf.as_str()), ("body", &edited), ("step", "review")];
        let review = api.request("POST", &format!("{path}/edit")).header("cookie", &operator);
        let review = answer(review.header("sec-fetch-site", "same-origin").form(&form)).await;
        assert!(review.text.len() < 12 << 20, "{} bytes", review.text.len());
        let shown = world.run(&["dead-letters", "show", dead_letter["id"].as_str().unwrap()]);
        assert!(shown.assert_done().stdout().len() < 8 << 20);
    }
    let grown = api.process.peak_kib() / 1024 - before;
    assert!(grown < 250, "{grown} MiB more than the {before} MiB before");
    for process in [worker, recorder, api.process] {
        world.keep(process);
    }
    world.end().await;
}

#[blocking_test]
async fn messages_with_a_reserved_header_are_dead_lettered() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let mut publisher = RawPublisher::connect(&world.amqp_url).await;
    let exchange = world.broker.name("events");
    for (n, (kind, value)) in (0..).zip([(b'S', long(b"")), (b't', vec![1]), (b'S', long(b"forged"))]) {
        let table = long(&entry(b"x-provisioning-unreadable", kind, &value));
        let body = envelope("clients.create", n, &json!({}));
        let sent = (HEADERS, table.as_slice());
        publisher.publish(&exchange, b"clients.create", sent, body.as_bytes()).await.expect("confirmed");
    }
    let dead_letters = world.wait_for_dead_letters(3).await;
    for dead_letter in &dead_letters {
        let error = dead_letter["error"].as_str().expect("why");
        assert!(
            error.contains("x-provisioning-unreadable is reserved for provisiond")
                || error.contains("forged"),
            "{error}"
        );
    }
    assert_eq!(endpoint.count(), 0);
    world.end().await;
}
