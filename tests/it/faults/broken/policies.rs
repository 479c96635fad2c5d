//! Policies of the broker's operator that apply to our queues, too.

use serde_json::{Value, json};

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        fault_rig::{FaultRig, Setup},
    },
    support::{
        Endpoint, Services, World,
        console::{Api, answer},
        eventually,
    },
};

both_forms!(early_retries);

/// A policy on the queues whose names match the pattern, until [`clear_policy`].
async fn set_policy(services: &Services, world: &World, pattern: &str, definition: &Value) {
    let pattern = format!("^{}{pattern}", world.broker.name("").replace('.', "[.]"));
    let definition = definition.to_string();
    services.ctl(&["set_policy", &world.broker.prefix, &pattern, &definition, "--apply-to", "queues"]).await;
}

async fn clear_policy(services: &Services, world: &World) {
    services.ctl(&["clear_policy", &world.broker.prefix]).await;
}

/// Retries come before their time, and none is lost.
async fn early_retries(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), interval: "4s", ..Setup::default() };
    let mut rig = FaultRig::with("a policy that hurries", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        set_policy(&services, &rig.world, "delay[.]", &json!({ "message-ttl": 300 })).await;
        rig.recovered().await;
        clear_policy(&services, &rig.world).await;
    }
    rig.end(Allowed::default()).await;
}

fn policies(world: &World) -> Vec<Value> {
    let ran = world.run(&["check", "--output", "json"]);
    let report: Vec<Value> = serde_json::from_slice(&ran.output.stdout).expect("JSON");
    report.into_iter().filter(|finding| finding["what"] == "policies").collect()
}

fn policy_findings(world: &World) -> (String, String) {
    let text = |finding: &Value| finding["found"].as_str().expect("a text").to_owned();
    let findings = policies(world);
    let states: Vec<_> = findings.iter().map(|finding| finding["state"].as_str().expect("a state")).collect();
    (states.join(","), findings.iter().map(text).collect::<Vec<_>>().join("\n"))
}

#[blocking_test]
async fn harmful_policies_are_reported_before_they_do_harm() {
    let services = Services::breakable().await;
    let mut world = World::on(&services.amqp_url, Some(&services.database_url)).await;
    let (state, text) = policy_findings(&world);
    assert!(state == "ok" && text.contains("amqp.management_url"), "{state} {text}");
    world.set("amqp.management_url", &services.start_management().await);
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let worker = world.worker().await;
    eventually("the management API tells of the queues", || async {
        policy_findings(&world).1.contains("no policy")
    })
    .await;

    set_policy(&services, &world, "", &json!({ "message-ttl": 700 })).await;
    let harm = format!("the policy {:?} (message-ttl 700) drops unprocessed messages", world.broker.prefix);
    eventually("check tells of the policy", || async { policy_findings(&world).1.contains(&harm) }).await;
    let (state, text) = policy_findings(&world);
    assert_eq!(state, "failed,failed", "{text}");
    assert!(text.contains("delivers retries too early") && text.contains("and 17 more"), "{text}");
    assert!(text.contains(&world.broker.name("execution-log")), "{text}");
    let status = world.run(&["status"]).stdout();
    assert!(status.contains(&harm) && status.contains("too early"), "{status}");
    let console = Api::start(&mut world).await;
    let harmful = console.get("/stats").await["policies"]["harmful"].clone();
    let harms: Vec<_> = harmful.as_array().expect("a list").iter().map(|policy| &policy["harm"]).collect();
    assert!(harms.contains(&&json!("loses")) && harms.contains(&&json!("hurries")), "{harmful}");
    let (cookie, _) = console.sign_in("vic").await;
    let page = answer(console.request("GET", "/").header("cookie", cookie)).await.text;
    assert!(page.contains("drops unprocessed messages"), "{page}");
    console.end().await;
    let again = world.worker().await;
    eventually("the log tells of the policy", || async {
        again.log().contains("delivers retries too early")
    })
    .await;

    // A database that was restored to an earlier moment has forgotten an event type.
    world.run(&["events", "add", "clients.odd"]).assert_done();
    world.rows("DELETE FROM event_types WHERE name = 'clients.odd'", &[]).await;
    eventually("check and status tell of the queue", || async {
        let names_queue =
            |command: &str| world.run(&[command]).stdout().contains("provisiond events add clients.odd");
        names_queue("check") && names_queue("status")
    })
    .await;

    // So it is: nobody records, and what was to be recorded is gone.
    world.publish("clients.create", None, 1, &json!({})).await;
    endpoint.wait_for(1).await;
    eventually("the record vanished", || async { world.broker.depth("execution-log").await == Some((0, 0)) })
        .await;
    let recorder = world.recorder().await;

    clear_policy(&services, &world).await;
    eventually("the policy is gone", || async { policy_findings(&world).0 == "ok" }).await;
    world.set("amqp.management_url", "http://guest:wrong@127.0.0.1:1");
    let (state, text) = policy_findings(&world);
    assert!(state == "warning" && text.contains("cannot read") && !text.contains("wrong"), "{state} {text}");
    services.stop_management().await;
    for process in [worker, again, recorder] {
        world.keep(process);
    }
    world.end().await;
}
