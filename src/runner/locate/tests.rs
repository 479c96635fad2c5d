//! Which scripts are run, and which are refused.

use std::os::unix::fs::{chown, symlink};

use super::{
    super::rights::tests::{NAMED_GROUP, USER, set_acl},
    *,
};

#[test]
fn only_safe_files_under_a_root_are_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("its name");
    let put = |name: &str, mode: u32| {
        fs::write(base.join(name), "#!/bin/sh\n").expect("written");
        fs::set_permissions(base.join(name), PermissionsExt::from_mode(mode)).expect("allowed");
    };
    for sub in ["one/sub", "two"] {
        fs::create_dir_all(base.join(sub)).expect("made");
    }
    put("outside", 0o755);
    put("one/good", 0o755);
    put("one/plain", 0o644);
    put("one/open", 0o757);
    put("two/other", 0o700);
    for (dir, mode) in [("one/shared/below", 0o755), ("one/shared", 0o777), ("one/sticky", 0o1777)] {
        fs::create_dir_all(base.join(dir)).expect("made");
        fs::set_permissions(base.join(dir), PermissionsExt::from_mode(mode)).expect("allowed");
    }
    put("one/shared/below/fine", 0o755);
    put("one/sticky/fine", 0o755);
    symlink(base.join("outside"), base.join("one/leaves")).expect("linked");
    symlink("good", base.join("one/stays")).expect("linked");
    symlink(base.join("one"), base.join("current")).expect("linked");
    symlink("loop", base.join("one/loop")).expect("linked");

    let roots = [base.join("current"), base.join("two")];
    let rules = ScriptRules::new(&roots, &[], None).expect("rules");
    let locate = |path: &str| {
        let path = path.parse().expect("a path");
        rules.locate(&path).map(|file| file.strip_prefix(&base).expect("inside").to_owned())
    };
    let absolute = base.join("one/good");
    for (path, file) in [
        ("good", "one/good"),
        ("./sub/../good", "one/good"),
        ("stays", "one/good"),
        ("other", "two/other"),
        ("sticky/fine", "one/sticky/fine"),
        (absolute.to_str().expect("text"), "one/good"),
    ] {
        assert_eq!(locate(path).expect(path), Path::new(file));
    }
    for (path, reason) in [
        ("leaves", "outside of script.roots"),
        ("../outside", "outside of script.roots"),
        ("/bin/sh", "outside of script.roots"),
        (".", "outside of script.roots"),
        ("sub", "not a regular file"),
        ("plain", "not executable"),
        ("open", "writable by others"),
        ("shared/below/fine", "one/shared (chmod o-w)"),
        ("loop", "Too many levels of symbolic links"),
    ] {
        let refused = locate(path).expect_err(path);
        assert!(matches!(&refused, NotRunnable::Refused(why) if why.contains(reason)), "{refused}");
    }
    assert!(matches!(locate("nothing"), Err(NotRunnable::Unavailable(_))));
}

#[test]
fn a_file_of_an_untrusted_owner_is_not_run() {
    const STRANGER: u32 = 54_321;
    let unknown = ScriptRules::new(&[], &["nobody here".to_owned()], None).expect_err("refused");
    assert_eq!(format!("{unknown:#}"), "script.owners: there is no user nobody here");
    if !geteuid().is_root() {
        println!("not root: nothing can be given to another user");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    let (sub, file) = (root.join("sub"), root.join("sub/file"));
    fs::create_dir(&sub).expect("made");
    fs::write(&file, "#!/bin/sh\n").expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("allowed");
    let locate = |owners: &[&str]| {
        let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        let rules = ScriptRules::new(std::slice::from_ref(&root), &owners, None).expect("rules");
        rules.locate(&"sub/file".parse().expect("a path")).map_err(|refused| refused.to_string())
    };
    assert!(locate(&[]).is_ok());
    chown(&file, Some(STRANGER), None).expect("given away");
    let refused = locate(&[]).expect_err("a stranger's");
    assert!(refused.contains("sub/file) is owned by the user 54321 (chown it, or name"), "{refused}");
    assert!(locate(&["root", "54321"]).is_ok());
    chown(&file, Some(0), None).expect("taken back");
    chown(&sub, Some(STRANGER), None).expect("given away");
    let refused = locate(&["nobody"]).expect_err("a stranger's");
    assert!(refused.contains("could be replaced by the user 54321, who owns "), "{refused}");
    assert!(locate(&["54321"]).is_ok());
    // Directories above the roots are the operator's responsibility.
    let rules = ScriptRules::new(std::slice::from_ref(&sub), &[], Some("nobody")).expect("rules");
    chown(&sub, Some(0), None).expect("taken back");
    chown(&root, Some(STRANGER), None).expect("given away");
    assert!(rules.locate(&"file".parse().expect("a path")).is_ok());
}

#[test]
fn a_file_that_scripts_may_write_to_is_not_run() {
    if !geteuid().is_root() {
        println!("not root: nothing can be given to another group");
        return;
    }
    let nobody = launch::find("nobody").expect("a user of every system");
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).expect("allowed");
    let (sub, file) = (root.join("sub"), root.join("sub/file"));
    fs::create_dir(&sub).expect("made");
    fs::write(&file, "#!/bin/sh\n").expect("written");
    let locate = |user| {
        let rules = ScriptRules::new(std::slice::from_ref(&root), &[], user).expect("rules");
        rules.locate(&"sub/file".parse().expect("a path")).map(drop).map_err(|refused| refused.to_string())
    };
    for (sub_mode, file_mode, is_nobodys_group, reason) in [
        (0o755, 0o775, true, "is writable by scripts"),
        (0o775, 0o755, true, "could be replaced by scripts"),
        (0o1775, 0o755, true, ""),
        (0o755, 0o755, true, ""),
        (0o775, 0o775, false, ""),
    ] {
        for (path, mode) in [(&sub, sub_mode), (&file, file_mode)] {
            chown(path, None, Some(if is_nobodys_group { nobody.gid.as_raw() } else { 0 })).expect("given");
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("allowed");
        }
        let message = locate(Some("nobody")).err().unwrap_or_default();
        assert!(
            message.contains(reason) && message.is_empty() == reason.is_empty(),
            "{sub_mode:o} {file_mode:o}: {message}"
        );
        if !is_nobodys_group {
            assert_eq!(locate(None), Ok(()), "root's group may write");
        }
    }
}

#[test]
fn an_untrusted_group_may_not_write() {
    const STRANGERS: u32 = 54_321;
    let unknown = ScriptRules::new(&[], &["%nobody here".to_owned()], None).expect_err("refused");
    assert_eq!(format!("{unknown:#}"), "script.owners: there is no group nobody here");
    if !geteuid().is_root() {
        println!("not root: nothing can be given to another group");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    let (sub, file) = (root.join("sub"), root.join("sub/file"));
    fs::create_dir(&sub).expect("made");
    fs::write(&file, "#!/bin/sh\n").expect("written");
    let locate = |owners: &[&str]| {
        let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        let rules = ScriptRules::new(std::slice::from_ref(&root), &owners, None).expect("rules");
        rules.locate(&"sub/file".parse().expect("a path")).map(drop).map_err(|refused| refused.to_string())
    };
    // On every Debian the group of `daemon` has the name of its user and no other member; the group of
    // `nobody` has another name.
    let private = launch::find("daemon").expect("a user of every system").gid.as_raw();
    let shared = launch::find("nobody").expect("a user of every system").gid.as_raw();
    for (sub_mode, file_mode, group, owners, reason) in [
        (
            0o755,
            0o775,
            STRANGERS,
            &[][..],
            "is writable by the group 54321 (chmod g-w, or name it in script.owners",
        ),
        (0o775, 0o755, STRANGERS, &[], "could be replaced by the group 54321, which may write to "),
        (0o1775, 0o755, STRANGERS, &[], ""),
        (0o755, 0o755, STRANGERS, &[], ""),
        (0o775, 0o775, STRANGERS, &["%54321"], ""),
        (0o775, 0o775, 0, &[], ""),
        (0o775, 0o775, private, &[], "is writable by the group daemon"),
        (0o775, 0o775, private, &["daemon"], ""),
        (0o775, 0o775, shared, &["nobody"], "is writable by the group nogroup"),
    ] {
        for (path, mode) in [(&sub, sub_mode), (&file, file_mode)] {
            chown(path, None, Some(group)).expect("given");
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("allowed");
        }
        let message = locate(owners).err().unwrap_or_default();
        let fits = message.contains(reason) && message.is_empty() == reason.is_empty();
        assert!(fits, "{sub_mode:o} {file_mode:o} {group} {owners:?}: {message}");
    }
    // Directories above the roots are the operator's responsibility.
    fs::set_permissions(&sub, PermissionsExt::from_mode(0o755)).expect("allowed");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("allowed");
    chown(&root, None, Some(STRANGERS)).expect("given");
    fs::set_permissions(&root, PermissionsExt::from_mode(0o775)).expect("allowed");
    let rules = ScriptRules::new(std::slice::from_ref(&sub), &[], None).expect("rules");
    assert!(rules.locate(&"file".parse().expect("a path")).is_ok());
}

#[test]
fn a_primary_group_of_others_is_not_private() {
    let Some(root) = User::from_uid(Uid::from_raw(0)).expect("looked up") else { return };
    let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:d:/:/bin/sh\n";
    assert!(!is_primary_of_others(passwd, &root));
    assert!(is_primary_of_others(&format!("{passwd}ci:x:1000:0::/home/ci:/bin/sh\n"), &root));
}

#[test]
fn a_missing_root_is_not_a_refusal() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("its name");
    let (one, two) = (base.join("one"), base.join("two"));
    fs::create_dir_all(&two).expect("made");
    fs::write(two.join("good"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(two.join("good"), PermissionsExt::from_mode(0o755)).expect("allowed");
    let rules = ScriptRules::new(&[one.clone(), two], &[], None).expect("rules");
    let locate = |path: &str| rules.locate(&path.parse().expect("a path"));
    let path_in_one = one.join("script");
    let path_in_one = path_in_one.to_str().expect("text");
    let is_gone = |path: &str| matches!(locate(path), Err(NotRunnable::RootGone(root)) if root == one);
    for exists in [false, true] {
        assert!(is_gone(path_in_one), "{exists}");
        assert!(locate("good").is_ok(), "another root has it");
        // A relative path may belong to any root. So a missing root is reported, but not an empty one beside
        // another root.
        assert_eq!(is_gone("script"), !exists);
        assert!(matches!(locate("/bin/sh"), Err(NotRunnable::Refused(_))), "{exists}");
        assert!(matches!(locate("/nothing"), Err(NotRunnable::Unavailable(_))), "{exists}");
        fs::create_dir_all(&one).expect("made");
    }
    let single_root = ScriptRules::new(std::slice::from_ref(&one), &[], None).expect("rules");
    assert!(matches!(single_root.locate(&"script".parse().expect("a path")), Err(NotRunnable::RootGone(_))));
    fs::write(one.join("other"), "").expect("written");
    for path in ["script", path_in_one] {
        assert!(matches!(locate(path), Err(NotRunnable::Unavailable(_))), "{path}");
    }
}

const GAMES: u32 = 5;
const STRANGER: u32 = 54_321;
const NOBODY: u32 = 65_534;

/// Columns: whether the file has the ACL or its directory, the named entry, the mask, `script.owners`,
/// `script.user`, and the error (empty if the script is run).
type AclCase = (bool, (u16, u16, u32), u16, &'static [&'static str], Option<&'static str>, &'static str);

#[rustfmt::skip]
const WRITERS: [AclCase; 12] = [
    (true, (USER, 6, GAMES), 7, &[], None, "is writable by the user games (setfacl -x u:5, or name"),
    (true, (USER, 6, GAMES), 7, &["games"], None, ""),
    (true, (USER, 6, GAMES), 5, &[], None, ""),
    (true, (USER, 5, GAMES), 7, &[], None, ""),
    (true, (NAMED_GROUP, 6, STRANGER), 7, &[], None, "is writable by the group 54321 (setfacl -x g:54321"),
    (true, (NAMED_GROUP, 6, STRANGER), 7, &["%54321"], None, ""),
    (true, (NAMED_GROUP, 7, NOBODY), 7, &["%nogroup"], Some("nobody"), "is writable by scripts: the ACL of"),
    (true, (USER, 7, NOBODY), 7, &["nobody"], Some("nobody"), "is writable by scripts: the ACL of"),
    (false, (USER, 7, GAMES), 7, &[], None, "could be replaced by the user games, which may write to "),
    (false, (USER, 7, NOBODY), 7, &[], Some("nobody"), "could be replaced by scripts: the ACL of "),
    (false, (NAMED_GROUP, 2, STRANGER), 7, &[], None, "could be replaced by the group 54321, which may"),
    (false, (NAMED_GROUP, 7, STRANGER), 5, &[], None, ""),
];

#[test]
fn an_acl_entry_with_write_permission_counts_as_a_writer() {
    if !geteuid().is_root() {
        println!("not root: the rules differ");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    let refusal = |owners: &[&str], user| {
        let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        let rules = ScriptRules::new(std::slice::from_ref(&root), &owners, user).expect("rules");
        let error = rules.locate(&"sub/file".parse().expect("a path")).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    for (on_file, entry, mask, owners, user, reason) in WRITERS {
        fs::remove_dir_all(root.join("sub")).ok();
        fs::create_dir(root.join("sub")).expect("made");
        let file = root.join("sub/file");
        fs::write(&file, "#!/bin/sh\n").expect("written");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("allowed");
        fs::set_permissions(root.join("sub"), PermissionsExt::from_mode(0o755)).expect("allowed");
        let path = if on_file { file } else { root.join("sub") };
        // A stranger's group owns it. The group bits of the mode show the mask, but the ACL gives this group
        // no write permission.
        chown(&path, None, Some(STRANGER)).expect("given");
        if !set_acl(&path, 5, entry, mask) {
            println!("this file system has no ACLs");
            return;
        }
        let message = refusal(owners, user);
        let fits = message.contains(reason) && message.is_empty() == reason.is_empty();
        assert!(fits, "{on_file} {entry:?} {mask} {owners:?} {user:?}: {message}");
    }
}

#[test]
fn the_user_of_scripts_must_be_able_to_start_them() {
    if !geteuid().is_root() {
        println!("not root: nobody else can be asked about");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    fs::write(root.join("file"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(root.join("file"), PermissionsExt::from_mode(0o755)).expect("allowed");
    let examine = |user| {
        let rules = ScriptRules::new(std::slice::from_ref(&root), &[], user).expect("rules");
        let path = "file".parse().expect("a path");
        assert!(rules.locate(&path).is_ok(), "at an attempt the system is asked");
        rules.examine(&path).map(drop).map_err(|refused| refused.to_string())
    };
    assert_eq!(examine(None), Ok(()));
    fs::set_permissions(&root, PermissionsExt::from_mode(0o700)).expect("allowed");
    let message = examine(Some("nobody")).expect_err("the directory is closed");
    assert!(message.contains(&format!("the user nobody may not search {} (", root.display())), "{message}");
    fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).expect("allowed");
    assert_eq!(examine(Some("nobody")), Ok(()));
}

#[test]
fn the_user_of_scripts_may_be_a_number() {
    let nobody = launch::find("nobody").expect("a user of every system");
    let by_number = launch::find(&nobody.uid.to_string()).expect("the same");
    assert_eq!((by_number.name, by_number.uid), (nobody.name, nobody.uid));
    let unknown = ScriptRules::new(&[], &[], Some("54321")).expect_err("refused");
    assert_eq!(format!("{unknown:#}"), "script.user: there is no user 54321");
}
