//! Script handlers: what a script gets, and what its exit code means.

use std::{fs, os::unix::fs::PermissionsExt as _};

use nix::unistd::geteuid;
use serde_json::json;

use crate::support::{World, envelope};

const NOBODY: u32 = 65534;

#[blocking_test]
async fn a_script_gets_the_event_and_its_environment() {
    let mut world = World::new().await;
    world.script("show.sh", "#!/bin/sh\ncat\nenv | sort\nprintf '%s|' \"$@\"\necho oops >&2\n");
    let id = world.handler("show", "clients.create", &["--script", "show.sh", "--arg", "a b", "--arg", "-x"]);
    world.serve().await;
    let body = envelope("clients.create", 12, &json!({"id": 12}));
    world.broker.publish("clients.create", Some("e1"), body.as_bytes()).await;
    let listed = world.wait_for_executions(1, &["--status", "success"]).await;
    let shown = world.json(&["executions", "show", listed[0]["id"].as_str().unwrap()]);
    let stdout = shown["response"]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with(&body), "the event is on stdin");
    for line in [
        "PROVISIONING_ATTEMPT=1",
        "PROVISIONING_EVENT=clients.create",
        "PROVISIONING_EVENT_ID=e1",
        "PROVISIONING_OBJECT_ID=12",
        &format!("PROVISIONING_DELIVERY_ID=e1_{id}"),
        &format!("PROVISIONING_HANDLER_ID={id}"),
        "PROVISIONING_HANDLER_NAME=show",
    ] {
        assert!(stdout.lines().any(|l| l == line), "{line} in {stdout}");
    }
    assert!(!stdout.contains("PROVISIOND_"), "the configuration stays out");
    assert!(stdout.ends_with("a b|-x|"));
    assert_eq!(shown["response"]["stderr"], "oops\n");
    assert_eq!(shown["response"]["exit_code"], 0);
    world.end().await;
}

#[blocking_test]
async fn exit_codes_say_whether_to_try_again() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "1s");
    world.script("data.sh", "#!/bin/sh\nexit 65\n");
    world.script("later.sh", "#!/bin/sh\n[ \"$PROVISIONING_ATTEMPT\" = 2 ] || exit 75\n");
    world.handler("data", "clients.create", &["--script", "data.sh"]);
    world.handler("later", "clients.update", &["--script", "later.sh"]);
    world.handler("outside", "clients.delete", &["--script", "/bin/true"]);
    world.serve().await;
    for event in ["clients.create", "clients.update", "clients.delete"] {
        world.publish(event, Some(event), 1, &json!({})).await;
    }
    let dead_letters = world.wait_for_dead_letters(2).await;
    let error = |id: &str| {
        dead_letters.iter().find(|l| l["event_id"] == id).unwrap()["error"].as_str().unwrap().to_owned()
    };
    assert!(error("clients.create").contains("65"), "{}", error("clients.create"));
    assert!(error("clients.delete").contains("outside of script.roots"), "{}", error("clients.delete"));
    let later = world.wait_for_executions(2, &["--event", "clients.update"]).await;
    assert_eq!((&later[0]["disposition"], &later[1]["disposition"]), (&json!("done"), &json!("retrying")));
    world.wait_for_executions(4, &[]).await;
    world.end().await;
}

/// Prints each descriptor but the three that every program has, and what of its parent in /proc can be read.
const LOOK_AROUND: &str = r#"#!/usr/bin/env python3
import os
seen = []
for number in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        continue
    if int(number) > 2:
        seen.append(f"descriptor {number}: {target}")
parent = os.getppid()
for name in ["environ", "maps", "mem"]:
    try:
        with open(f"/proc/{parent}/{name}", "rb") as file:
            file.read(0 if name == "mem" else 1)
        seen.append(f"its parent's {name}")
    except OSError:
        pass
try:
    seen.append(f"its parent's descriptors: {os.listdir(f'/proc/{parent}/fd')}")
except OSError:
    pass
session = "its own session" if os.getsid(0) == os.getpid() else "another's session"
print("user", os.getuid(), "sees", "; ".join(seen) or "nothing", "in", session)
"#;

/// What a script sees that the worker runs, which runs as `uid`.
async fn what_a_script_sees(uid: Option<u32>, settings: &[(&str, &str)]) -> String {
    let mut world = World::new().await;
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (key, value) in settings {
        world.set(key, value);
    }
    world.script("look.py", LOOK_AROUND);
    world.handler("look", "clients.create", &["--script", "look.py"]);
    world.uid = uid;
    world.serve().await;
    world.uid = None;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    let listed = world.wait_for_executions(1, &["--status", "success"]).await;
    let shown = world.json(&["executions", "show", listed[0]["id"].as_str().unwrap()]);
    let seen = shown["response"]["stdout"].as_str().unwrap().to_owned();
    world.end().await;
    seen
}

#[blocking_test]
async fn a_script_sees_three_descriptors_and_nothing_of_the_worker() {
    // As the worker's own user, which may read all of another process of its own: root, above all.
    let own_uid = geteuid().as_raw();
    for settings in [&[][..], &[("script.limits.open_files", "64")]] {
        let seen = what_a_script_sees(None, settings).await;
        assert!(!seen.contains("descriptor "), "{seen}");
        assert!(own_uid == 0 || seen.contains("sees nothing"), "{seen}");
    }
    if own_uid != 0 {
        return;
    }
    // Without a session of its own it could type into the terminal of who started the worker.
    for (uid, settings, session) in [
        (None, &[("script.user", "nobody")][..], "its own"),
        (Some(NOBODY), &[], "another's"),
        (Some(NOBODY), &[("script.limits.open_files", "64")], "its own"),
    ] {
        let seen = what_a_script_sees(uid, settings).await;
        let expected = format!("user {NOBODY} sees nothing in {session} session\n");
        assert_eq!(seen, expected, "{uid:?} {settings:?}");
    }
}

#[blocking_test]
async fn what_the_system_cannot_start_is_refused_the_same_way_with_limits() {
    for limits in [false, true] {
        let mut world = World::new().await;
        if limits {
            world.set("script.limits.open_files", "64");
        }
        let empty = world.script("empty", "");
        let old = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
        fs::File::options().write(true).open(&empty).and_then(|file| file.set_modified(old)).unwrap();
        let binary = world.script("binary", "\u{1}\0\u{2}");
        let by_binary = world.script("by_binary", &format!("#!{}\nexit 0\n", binary.display()));
        let python = world.script("python", "import os\nprint(1)\n");
        let crlf = world.script("crlf", "#!/bin/sh\r\nexit 0\r\n");
        let scripts = [
            (empty, "is empty"),
            (by_binary, "the interpreter of its #! line, is not a program for this machine"),
            (python, "has no #! line"),
            (crlf, "Windows line endings"),
        ];
        for (file, _) in &scripts {
            let name = file.file_name().unwrap().to_str().unwrap();
            world.handler(name, "clients.create", &["--script", name]);
        }
        let checked = world.run(&["check"]);
        for word in ["is empty", "has no #! line", "Windows line endings"] {
            assert!(checked.stdout().contains(word), "check tells {word:?}: {}", checked.stdout());
        }
        world.serve().await;
        world.publish("clients.create", Some("e1"), 1, &json!({})).await;
        let dead_letters = world.wait_for_dead_letters(scripts.len()).await;
        for (_, expected) in scripts {
            let errors = dead_letters.iter().map(|dead_letter| dead_letter["error"].as_str().unwrap());
            assert!(
                errors.clone().any(|error| error.contains(expected)),
                "{expected}: {:?}",
                errors.collect::<Vec<_>>()
            );
        }
        assert_eq!(world.wait_for_executions(4, &[]).await.len(), 4, "one attempt each");
        world.end().await;
    }
}
