//! Scripts as a container has them: mounted from a `ConfigMap`, a root file system that is read-only, a user that no file knows.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::json;

use crate::{
    handler_docs::example,
    support::{Process, World},
};

/// A user id as `OpenShift` gives them: in no file, and of the group root.
const RANDOM_USER: &str = "1000700000";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Scripts as the kubelet mounts them: a directory that everybody could write to, but for the mount.
fn config_map(world: &mut World, scripts: &[(&str, &str)]) -> PathBuf {
    let volume = world.dir.path().join("scripts");
    let version = volume.join("..2026_11_29_16_30_00.1234567890");
    fs::create_dir_all(&version).expect("a directory");
    for (name, text) in scripts {
        fs::write(version.join(name), text).expect("written");
        mode(&version.join(name), 0o555);
        symlink(format!("..data/{name}"), volume.join(name)).expect("a link");
    }
    mode(&version, 0o755);
    mode(&volume, 0o777);
    symlink(version.file_name().expect("a name"), volume.join("..data")).expect("a link");
    world.set("script.roots", volume.to_str().expect("a path"));
    volume
}

/// The program with mounts of its own, which `sh` makes of the lines of `mounts`, and then as `user`. None where no mount
/// can be made.
fn mounted(world: &World, mounts: &str, user: Option<&str>) -> Option<Command> {
    let become_user = user
        .map(|user| ["setpriv", "--reuid", user, "--regid", "0", "--clear-groups", "--bounding-set", "-all"]);
    let mut probe = Command::new("unshare");
    probe.arg("--mount").args(become_user.iter().flatten()).args(["test", "-x"]);
    let can = probe.arg(world.command().get_program()).stderr(Stdio::null()).status();
    if !nix::unistd::Uid::effective().is_root() || !can.is_ok_and(|status| status.success()) {
        println!("skipped: no mount can be made here");
        return None;
    }
    let program = world.command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", &format!("{mounts}\nexec \"$@\""), "sh"]);
    command.args(become_user.iter().flatten());
    command.arg(program.get_program()).current_dir("/").stdin(Stdio::null());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(command)
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn read_only(path: &Path) -> String {
    format!("mount --bind {0} {0}\nmount -o remount,ro,bind {0}", path.display())
}

#[blocking_test]
async fn scripts_of_a_config_map_run_from_its_read_only_mount() {
    let mut world = World::new().await;
    let volume = config_map(&mut world, &[("sync.sh", "#!/bin/sh\necho synced\n")]);
    let id = world.handler("Sync", "clients.create", &["--script", "sync.sh"]).to_string();
    let refused = world.run(&["handlers", "test", &id]);
    refused.assert_failed(1, "");
    assert!(refused.stdout().contains("could be replaced by anybody"), "{}", refused.stdout());
    if let Some(mut command) = mounted(&world, &read_only(&volume), None) {
        let output = command.args(["handlers", "test", &id]).output().expect("unshare");
        assert!(
            output.status.success() && output_text(&output).contains("synced"),
            "{}",
            output_text(&output)
        );
    }
    world.end().await;
}

/// As `deploy/kubernetes/base/worker.yaml` runs it, by a user that the platform chose.
#[blocking_test]
async fn the_scripts_of_the_docs_run_by_a_random_user_on_a_read_only_root() {
    let mut world = World::new().await;
    world.uid = Some(0);
    mode(world.dir.path(), 0o755);
    let [shell, python] = ["sync.sh", "sync.py"].map(|name| example(name).0);
    let volume = config_map(&mut world, &[("sync.sh", &shell), ("sync.py", &python)]);
    world.handler("Shell", "clients.create", &["--script", "sync.sh"]);
    world.handler("Python", "clients.create", &["--script", "sync.py"]);
    let (tmp, log) = (world.dir.path().join("tmp"), world.dir.path().join("worker.log"));
    fs::create_dir(&tmp).expect("a directory");
    // Nothing in /tmp may be executed, and nothing else can be written to.
    let mounts = format!(
        "{}\nmount -t tmpfs -o mode=1777,noexec,nosuid tmpfs {}\nmount -o remount,ro,bind /",
        read_only(&volume),
        tmp.display()
    );
    let Some(mut command) = mounted(&world, &mounts, Some(RANDOM_USER)) else {
        return world.abandon().await;
    };
    let file = fs::File::create(&log).expect("a log");
    command.env("HOME", "/nonexistent").env("TMPDIR", &tmp).args(["serve", "--roles", "worker"]);
    command.stdout(file.try_clone().expect("a log")).stderr(file);
    let worker = Process::new(command.spawn().expect("unshare"), log);
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.wait_for_consumer("events.clients.create").await;
    world.publish("clients.create", Some("e1"), 12, &json!({"id": 12, "name": "Ann"})).await;
    let executions = world.wait_for_executions(2, &[]).await;
    for execution in executions {
        let shown = world.json(&["executions", "show", execution["id"].as_str().expect("an id")]);
        let stdout = shown["response"]["stdout"].as_str().expect("text");
        assert_eq!((&execution["status"], stdout.contains("12")), (&json!("success"), true), "{shown:#}");
    }
    world.keep(worker);
    world.end().await;
}

#[blocking_test]
async fn a_script_on_a_noexec_mount_is_refused_with_what_to_do() {
    let world = World::new().await;
    world.script("sync.sh", "#!/bin/sh\necho synced\n");
    let id = world.handler("Sync", "clients.create", &["--script", "sync.sh"]).to_string();
    let root = world.dir.path().display();
    let mounts = format!("mount --bind {root} {root}\nmount -o remount,noexec,bind {root}");
    for (args, remedy) in [
        (&["handlers", "test", &id][..], "mount that one without noexec"),
        (&["check"], "mount that one without noexec"),
    ] {
        let Some(mut command) = mounted(&world, &mounts, None) else {
            return world.abandon().await;
        };
        let output = command.args(args).output().expect("unshare");
        assert!(
            !output.status.success() && output_text(&output).contains(remedy),
            "{args:?}: {}",
            output_text(&output)
        );
    }
    world.end().await;
}
