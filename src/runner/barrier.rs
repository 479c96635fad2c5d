//! Finds the path that a user may not search, read or execute, among those that are needed to start a script.

use std::path::Path;

use nix::unistd::{User, geteuid};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use super::{
    program::{self, Opened, StartFiles},
    rights::{EXECUTE, Identity, READ, Rights},
};

/// What prevents `identity` from opening one of `files`, as a sentence. `identity` is None for the user of
/// this process.
pub fn barrier(files: &StartFiles, identity: Option<&Identity>) -> Option<String> {
    let mut choice = files.choice.iter().map(|opened| blocked(opened, identity));
    let no_choice = || choice.next().flatten().filter(|_| choice.all(|blocked| blocked.is_some()));
    files.needed.iter().find_map(|opened| blocked(opened, identity)).or_else(no_choice)
}

/// What prevents the user of this process from starting `file`.
pub fn own_barrier(file: &Path) -> Option<String> {
    barrier(&program::start_files(file, &program::search_path(&[])), None)
}

fn blocked(opened: &Opened, identity: Option<&Identity>) -> Option<String> {
    let dirs: Vec<_> = opened.file.ancestors().skip(1).collect();
    let message = |verb: &str, path: &Path, right: &str| {
        let name = identity.map_or_else(own_name, |identity| identity.name.clone());
        format!("the user {name} may not {verb} {} (chmod o+{right}, or chgrp)", path.display())
    };
    if let Some(dir) = dirs.iter().rev().find(|dir| !has_right(dir, EXECUTE, identity)) {
        return Some(message("search", dir, "x"));
    }
    if !has_right(&opened.file, EXECUTE, identity) {
        return Some(message("execute", &opened.file, "x"));
    }
    (opened.is_read && !has_right(&opened.file, READ, identity)).then(|| message("read", &opened.file, "r"))
}

/// Whether `identity` has `right` on `path`; also true if that is not known.
fn has_right(path: &Path, right: u32, identity: Option<&Identity>) -> bool {
    let Some(identity) = identity else {
        let access = if right == READ { Access::READ_OK } else { Access::EXEC_OK };
        return accessat(CWD, path, access, AtFlags::EACCESS) != Err(Errno::ACCESS);
    };
    identity.uid.is_root() || !Rights::of(path).is_ok_and(|rights| !rights.allow(identity, right))
}

fn own_name() -> String {
    let own = geteuid();
    User::from_uid(own).ok().flatten().map_or_else(|| own.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown},
    };

    use nix::unistd::{Gid, Uid};

    use super::*;

    fn put(file: &Path, bytes: &[u8], mode: u32) {
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(file, bytes).expect("written");
        fs::set_permissions(file, PermissionsExt::from_mode(mode)).expect("allowed");
    }

    #[test]
    fn the_path_that_a_user_cannot_open_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().canonicalize().expect("its name");
        fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("allowed");
        let (script, tool) = (base.join("sub/script"), base.join("bin/tool"));
        put(&tool, &fs::read("/bin/true").expect("a program"), 0o755);
        let line = format!("#!{}\n", tool.display());
        let stranger = Identity {
            name: "games".into(),
            uid: Uid::from_raw(54_321),
            groups: vec![Gid::from_raw(54_321)],
        };
        let barrier_for =
            |path: &str| barrier(&program::start_files(&script, path.as_ref()), Some(&stranger));
        put(&script, line.as_bytes(), 0o755);
        assert_eq!(barrier_for(""), None);
        for (path, mode, expected) in [
            (&script, 0o711, "the user games may not read "),
            (&script, 0o744, "the user games may not execute "),
            (&base.join("sub"), 0o700, "the user games may not search "),
            (&tool, 0o700, "the user games may not execute "),
            (&base.join("bin"), 0o700, "the user games may not search "),
        ] {
            let before = path.metadata().expect("there").permissions();
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("allowed");
            let why = barrier_for("").unwrap_or_default();
            assert!(why.starts_with(&format!("{expected}{} (", path.display())), "{mode:o}: {why}");
            fs::set_permissions(path, before).expect("allowed");
        }
        // A program needs no read permission.
        fs::set_permissions(&tool, PermissionsExt::from_mode(0o711)).expect("allowed");
        assert_eq!(barrier_for(""), None);
        // Of the programs that `env` finds, one that can be started is enough.
        put(&script, b"#!/usr/bin/env tool\n", 0o755);
        put(&base.join("closed/tool"), b"", 0o700);
        let path = |dirs: &[&str]| {
            dirs.iter().map(|dir| base.join(dir).display().to_string()).collect::<Vec<_>>().join(":")
        };
        assert_eq!(barrier_for(&path(&["closed", "bin"])), None);
        let why = barrier_for(&path(&["closed"])).unwrap_or_default();
        assert!(why.contains("may not execute") && why.contains("closed/tool"), "{why}");
        if geteuid().is_root() {
            assert_eq!(own_barrier(&script), None, "root may do anything");
            chown(&script, Some(54_321), None).expect("given away");
            fs::set_permissions(&script, PermissionsExt::from_mode(0o500)).expect("allowed");
            assert_eq!(barrier_for(&path(&["bin"])), None, "its owner");
        }
    }
}
