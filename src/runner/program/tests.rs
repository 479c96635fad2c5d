//! Which files the system can start.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn put(dir: &Path, bytes: &[u8]) -> PathBuf {
    let file = dir.join("script");
    fs::write(&file, bytes).expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("allowed");
    file
}

fn describe(hindrance: Option<Hindrance>) -> String {
    match hindrance {
        None => String::new(),
        Some(Lasting(why)) => format!("lasting: {why}"),
        Some(Passing(why)) => format!("passing: {why}"),
    }
}

#[test]
fn a_file_needs_a_line_that_the_system_can_follow() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().to_str().expect("text");
    fs::write(dir.path().join("plain"), "").expect("written");
    symlink("/bin/sh", dir.path().join("tool")).expect("linked");
    symlink("/bin/sh", dir.path().join("odd\r")).expect("linked");
    let check = |bytes: &[u8]| describe(hindrance(&put(dir.path(), bytes), OsStr::new(base)));
    let long = format!("#!/{}", "x".repeat(300));
    for (text, expected) in [
        ("", "passing: is empty: it was changed just now"),
        ("echo hello\n", "lasting: has no #! line"),
        ("import sys\n", "lasting: has no #! line"),
        ("\n#!/bin/sh\n", "lasting: has something before its #! line"),
        ("\u{FEFF}#!/bin/sh\n", "lasting: begins with a byte order mark"),
        ("\u{FEFF}echo\n", "lasting: begins with a byte order mark"),
        ("#!/bin/sh\r\necho\r\n", "lasting: has Windows line endings"),
        ("#!/bin/sh -e\r\n", "lasting: has Windows line endings"),
        ("#!/usr/bin/env tool\r\n", "lasting: has Windows line endings"),
        ("#!", "lasting: names no interpreter"),
        ("#!\n", "lasting: names no interpreter"),
        ("#! \t\r\n", "lasting: names no interpreter"),
        ("#!sh\n", "lasting: names \"sh\" in its #! line: the path must begin with /"),
        ("#!./sh\n", "lasting: names \"./sh\""),
        ("#!/usr/bin\n", "lasting: names \"/usr/bin\" in its #! line, which is not a program"),
        ("#!/no/such/sh -e\n", "passing: names \"/no/such/sh\" in its #! line, which is not there"),
        ("#!/bin/sh/x\n", "passing: names \"/bin/sh/x\" in its #! line, which is not there"),
        (&format!("#!{base}/plain\n"), "which is not executable"),
        (
            "#!/usr/bin/env nothing\n",
            "passing: uses env in its #! line to start \"nothing\", which is not in PATH",
        ),
        ("#!/usr/bin/env tool -u\n", "lasting: uses env in its #! line to start a program called \"tool"),
        ("#!/usr/bin/env -S nothing -u\n", "passing: uses env in its #! line to start \"nothing\""),
        ("#!/usr/bin/env ./tool\n", "passing: uses env"),
        (&long, "lasting: has a #! line that is longer"),
    ] {
        let message = check(text.as_bytes());
        assert!(message.contains(expected), "{text:?}: {message:?}");
    }
    for fine in [
        "#!/bin/sh",
        "#! /bin/sh -e \necho",
        "#!/usr/bin/env tool",
        "#!/usr/bin/env -S A=b tool -u\n",
        "#!/usr/bin/env -S 'tool'\n",
        "#!/usr/bin/env /bin/sh\n",
        &format!("#!{base}/odd\r\n"),
    ] {
        assert_eq!(check(fine.as_bytes()), "", "{fine:?}");
    }
}

#[test]
fn a_line_needs_an_interpreter_that_leads_somewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().to_str().expect("text");
    symlink("/bin/sh", dir.path().join("tool")).expect("linked");
    symlink("loop", dir.path().join("loop")).expect("linked");
    for (name, text) in [("void", ""), ("text", "echo hello\n"), ("nested", "#!/no/such\n")] {
        fs::rename(put(dir.path(), text.as_bytes()), dir.path().join(name)).expect("renamed");
    }
    let check = |text: &str| describe(hindrance(&put(dir.path(), text.as_bytes()), OsStr::new(base)));
    for (text, expected) in [
        ("#!/bin/sh\recho hello\r", "lasting: has a carriage return in the middle of its first line"),
        (
            "#!/usr/bin/env -i tool\n",
            "lasting: has a #! line with the option \"-i tool\" for env: the system passes",
        ),
        ("#!/usr/bin/env -S 'tool\n", "lasting: has a #! line with a quote that is not closed after env -S"),
        ("#!/usr/bin/env\n", "lasting: has a #! line that names no program for env to start"),
        ("#!/usr/bin/env A=b tool\n", "again and again, or fail: the system passes everything after"),
        (&format!("#!{base}/script\n"), "which is a script whose interpreter is a script, and so on"),
        (&format!("#!{base}/loop\n"), "which is a link that leads to itself"),
        (&format!("#!{base}/void\n"), "passing: names \""),
        (&format!("#!{base}/void\n"), "which is empty: it was changed just now"),
        (&format!("#!{base}/text\n"), "which has no #! line"),
        (
            &format!("#!{base}/nested\n"),
            "nested\" in its #! line, which names \"/no/such\" in its #! line, which is not there",
        ),
    ] {
        let message = check(text);
        assert!(message.contains(expected), "{text:?}: {message:?}");
    }
}

#[test]
fn an_unusable_encoding_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = put(dir.path(), b"\xFF\xFE#\0!\0");
    assert!(matches!(hindrance(&file, OsStr::new("")), Some(Lasting(why)) if why.contains("UTF-16")));
    let file = put(dir.path(), b"#\0!\0/\0");
    assert!(matches!(hindrance(&file, OsStr::new("")), Some(Lasting(why)) if why.contains("UTF-16")));
    let file = put(dir.path(), &[0; 5000]);
    assert!(
        matches!(hindrance(&file, OsStr::new("")), Some(Passing(why)) if why.contains("only zero bytes"))
    );
    let file = put(dir.path(), b"");
    let old = SystemTime::now() - COPY_GRACE * 2;
    File::options().write(true).open(&file).and_then(|file| file.set_modified(old)).expect("aged");
    assert_eq!(hindrance(&file, OsStr::new("")), Some(Lasting("is empty".to_owned())));
}

#[test]
fn a_binary_is_judged_by_the_system() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = fs::read("/bin/sh").expect("a program");
    let file = put(dir.path(), &program);
    assert_eq!((hindrance(&file, OsStr::new("")), foreign(&file)), (None, None));
    let mut other = program;
    other.truncate(4096);
    let number = if env::consts::ARCH == "s390x" { 243 } else { 22 };
    if let Some(machine) = other.get_mut(18..20) {
        machine.copy_from_slice(&[number, 0]);
    }
    let file = put(dir.path(), &other);
    let description = foreign(&file).expect("of another machine");
    assert!(description.starts_with("a program for "), "{description}");
    assert_eq!(hindrance(&file, OsStr::new("")), None, "an emulator may run it");
    let message = explain(&file, &Errno::NOEXEC.into());
    assert!(message.contains(&description) && message.contains("build it for this machine"), "{message}");
    for (bytes, description) in [
        (&b"MZ\0\0"[..], "a program for Windows"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\xCF\xFA\xED\xFE\x07", "a program for macOS"),
        (b"\x01\0\x02", "not a program that Linux knows"),
    ] {
        let file = put(dir.path(), bytes);
        assert_eq!((foreign(&file).as_deref(), hindrance(&file, OsStr::new(""))), (Some(description), None));
        assert!(explain(&file, &Errno::NOEXEC.into()).contains(&format!("it is {description}")));
    }
}

#[test]
fn a_mount_may_forbid_it() {
    // A Linux system usually mounts at least one of these noexec.
    let reason = ["/proc", "/sys", "/dev/shm", "/run"].iter().find_map(|dir| noexec(Path::new(dir)));
    match reason {
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

/// An ELF file that the kernel takes for a program of this machine: its header, and one segment.
#[cfg(target_arch = "x86_64")]
fn elf(kind: u8, entry: u8, segment: u8, length: usize, content: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 120];
    file.get_mut(..6).expect("there").copy_from_slice(b"\x7FELF\x02\x01");
    for (offset, byte) in
        [(16, kind), (18, 62), (24, entry), (32, 64), (54, 56), (56, 1), (64, segment), (72, 120)]
    {
        *file.get_mut(offset).expect("there") = byte;
    }
    file.get_mut(96..104).expect("there").copy_from_slice(&length.to_le_bytes());
    file.extend(content);
    file
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_must_be_complete_and_have_its_loader() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |bytes: &[u8], is_old: bool| {
        let file = put(dir.path(), bytes);
        let age = if is_old { COPY_GRACE * 2 } else { Duration::ZERO };
        let changed = SystemTime::now() - age;
        File::options().write(true).open(&file).and_then(|file| file.set_modified(changed)).expect("aged");
        hindrance(&file, OsStr::new(""))
    };
    let lasting = |why: &str| Some(Lasting(why.to_owned()));
    let program = fs::read("/bin/sh").expect("a program");
    assert_eq!(check(&program, false), None);
    for length in [10, 60, 100, program.len() / 2] {
        let cut = program.get(..length).expect("longer");
        assert_eq!(check(cut, true), lasting("is an incomplete program file: copy it again"), "{length}");
        assert!(matches!(check(cut, false), Some(Passing(_))), "{length}");
    }
    assert_eq!(
        check(&elf(1, 0, 0, 0, b""), true),
        lasting("is an object file, not a program that can be started")
    );
    assert_eq!(
        check(&elf(3, 0, 1, 0, b""), true),
        lasting("is a shared library, not a program that can be started")
    );
    assert_eq!(check(&elf(3, 9, 1, 0, b""), true), None, "linked statically, and movable");
    let loader = b"/lib/ld-none.so.1\0";
    let result = check(&elf(3, 9, 3, loader.len(), loader), true);
    assert!(
        matches!(&result, Some(Passing(why)) if why.contains("needs the loader /lib/ld-none.so.1,")),
        "{result:?}"
    );
}
