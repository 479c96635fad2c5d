//! Which files the system can start.

use std::os::unix::fs::symlink;

use super::*;

fn put(dir: &Path, bytes: &[u8]) -> PathBuf {
    let file = dir.join("script");
    fs::write(&file, bytes).expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("allowed");
    file
}

#[test]
fn a_file_needs_a_line_that_the_system_can_follow() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().to_str().expect("text");
    fs::write(dir.path().join("plain"), "").expect("written");
    symlink("/bin/sh", dir.path().join("tool")).expect("linked");
    symlink("/bin/sh", dir.path().join("odd\r")).expect("linked");
    let look = |bytes: &[u8]| match hindrance(&put(dir.path(), bytes), OsStr::new(base)) {
        None => String::new(),
        Some(Lasting(why)) => format!("lasting: {why}"),
        Some(Passing(why)) => format!("passing: {why}"),
    };
    let long = format!("#!/{}", "x".repeat(300));
    for (text, told) in [
        ("", "passing: is empty just now"),
        ("echo hello\n", "lasting: has no #! line"),
        ("import sys\n", "lasting: has no #! line"),
        ("\n#!/bin/sh\n", "lasting: has something before its #! line"),
        ("\u{FEFF}#!/bin/sh\n", "lasting: begins with a byte order mark"),
        ("\u{FEFF}echo\n", "lasting: begins with a byte order mark"),
        ("#!/bin/sh\r\necho\r\n", "lasting: has Windows line ends"),
        ("#!/bin/sh -e\r\n", "lasting: has Windows line ends"),
        ("#!/usr/bin/env tool\r\n", "lasting: has Windows line ends"),
        ("#!", "lasting: names no interpreter"),
        ("#!\n", "lasting: names no interpreter"),
        ("#! \t\r\n", "lasting: names no interpreter"),
        ("#!sh\n", "lasting: names \"sh\" in its #! line: the path must begin with /"),
        ("#!./sh\n", "lasting: names \"./sh\""),
        ("#!/usr/bin\n", "lasting: names \"/usr/bin\" in its #! line, which is no program"),
        ("#!/no/such/sh -e\n", "passing: names \"/no/such/sh\" in its #! line, which is not there"),
        ("#!/bin/sh/x\n", "passing: names \"/bin/sh/x\" in its #! line, which is not there"),
        (&format!("#!{base}/plain\n"), "which is not executable"),
        (
            "#!/usr/bin/env nothing\n",
            "passing: asks env in its #! line for \"nothing\", which is not in PATH",
        ),
        ("#!/usr/bin/env tool -u\n", "lasting: asks env in its #! line for a program called \"tool -u\""),
        ("#!/usr/bin/env -S nothing -u\n", "passing: asks env in its #! line for \"nothing\""),
        ("#!/usr/bin/env ./tool\n", "passing: asks env"),
        (&long, "lasting: has a #! line that is longer"),
    ] {
        let found = look(text.as_bytes());
        assert!(found.contains(told), "{text:?}: {found:?}");
    }
    for fine in [
        "#!/bin/sh",
        "#! /bin/sh -e \necho",
        "#!/usr/bin/env tool",
        "#!/usr/bin/env -S A=b tool -u\n",
        "#!/usr/bin/env -i tool\n",
        "#!/usr/bin/env -S 'tool'\n",
        "#!/usr/bin/env /bin/sh\n",
        &format!("#!{base}/odd\r\n"),
    ] {
        assert_eq!(look(fine.as_bytes()), "", "{fine:?}");
    }
}

#[test]
fn what_is_no_text_of_ours_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = put(dir.path(), b"\xFF\xFE#\0!\0");
    assert!(matches!(hindrance(&file, OsStr::new("")), Some(Lasting(why)) if why.contains("UTF-16")));
    let file = put(dir.path(), b"");
    let old = SystemTime::now() - COPIED * 2;
    File::options().write(true).open(&file).and_then(|file| file.set_modified(old)).expect("aged");
    assert_eq!(hindrance(&file, OsStr::new("")), Some(Lasting("is empty".to_owned())));
}

#[test]
fn a_binary_is_judged_by_the_system() {
    let dir = tempfile::tempdir().expect("a directory");
    let own = fs::read("/bin/sh").expect("a program");
    let file = put(dir.path(), &own);
    assert_eq!((hindrance(&file, OsStr::new("")), foreign(&file)), (None, None));
    let mut other = own;
    other.truncate(4096);
    let number = if env::consts::ARCH == "s390x" { 243 } else { 22 };
    if let Some(machine) = other.get_mut(18..20) {
        machine.copy_from_slice(&[number, 0]);
    }
    let file = put(dir.path(), &other);
    let what = foreign(&file).expect("of another machine");
    assert!(what.starts_with("a program for "), "{what}");
    assert_eq!(hindrance(&file, OsStr::new("")), None, "an emulator may run it");
    let told = explain(&file, &Errno::NOEXEC.into());
    assert!(told.contains(&what) && told.contains("build it for this one"), "{told}");
    let file = put(dir.path(), b"MZ\0\0");
    assert_eq!(foreign(&file).as_deref(), Some("no program that Linux knows"));
}

#[test]
fn a_mount_may_forbid_it() {
    // Of these each Linux system has one that is mounted so.
    let found = ["/proc", "/sys", "/dev/shm", "/run"].iter().find_map(|dir| noexec(Path::new(dir)));
    match found {
        Some(why) => assert!(why.contains("mounted noexec"), "{why}"),
        None => println!("nothing is mounted noexec here"),
    }
    assert_eq!(noexec(Path::new("/bin/sh")), None);
}

#[test]
fn script_env_has_the_last_word_on_path() {
    assert_eq!(search_path(&["A=b".into(), "PATH=/x".into(), "PATH=/y".into()]), "/y");
    assert_eq!(Some(search_path(&["PATH".into()])), env::var_os("PATH"));
}
