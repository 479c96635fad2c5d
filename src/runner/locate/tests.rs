//! Which scripts are run, and which are refused.

use std::os::unix::fs::{chown, symlink};

use super::{
    super::rights::tests::{NAMED_GROUP, USER, set_acl},
    *,
};

#[test]
fn only_what_lies_under_a_root_and_is_safe_is_run() {
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
    let look = |path: &str| {
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
        assert_eq!(look(path).expect(path), Path::new(file));
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
        let refused = look(path).expect_err(path);
        assert!(matches!(&refused, NotRunnable::Refused(why) if why.contains(reason)), "{refused}");
    }
    assert!(matches!(look("nothing"), Err(NotRunnable::Unavailable(_))));
}

#[test]
fn what_a_stranger_owns_is_not_run() {
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
    let look = |owners: &[&str]| {
        let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        let rules = ScriptRules::new(std::slice::from_ref(&root), &owners, None).expect("rules");
        rules.locate(&"sub/file".parse().expect("a path")).map_err(|refused| refused.to_string())
    };
    assert!(look(&[]).is_ok());
    chown(&file, Some(STRANGER), None).expect("given away");
    let refused = look(&[]).expect_err("a stranger's");
    assert!(refused.contains("sub/file) is owned by the user 54321 (chown it, or name"), "{refused}");
    assert!(look(&["root", "54321"]).is_ok());
    chown(&file, Some(0), None).expect("taken back");
    chown(&sub, Some(STRANGER), None).expect("given away");
    let refused = look(&["nobody"]).expect_err("a stranger's");
    assert!(refused.contains("could be replaced by the user 54321, who owns "), "{refused}");
    assert!(look(&["54321"]).is_ok());
    // Directories above the roots are the operator's responsibility.
    let rules = ScriptRules::new(std::slice::from_ref(&sub), &[], Some("nobody")).expect("rules");
    chown(&sub, Some(0), None).expect("taken back");
    chown(&root, Some(STRANGER), None).expect("given away");
    assert!(rules.locate(&"file".parse().expect("a path")).is_ok());
}

#[test]
fn what_scripts_may_write_to_is_not_run() {
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
    let look = |user| {
        let rules = ScriptRules::new(std::slice::from_ref(&root), &[], user).expect("rules");
        rules.locate(&"sub/file".parse().expect("a path")).map(drop).map_err(|refused| refused.to_string())
    };
    for (sub_mode, file_mode, of_nobody, reason) in [
        (0o755, 0o775, true, "is writable by scripts"),
        (0o775, 0o755, true, "could be replaced by scripts"),
        (0o1775, 0o755, true, ""),
        (0o755, 0o755, true, ""),
        (0o775, 0o775, false, ""),
    ] {
        for (path, mode) in [(&sub, sub_mode), (&file, file_mode)] {
            chown(path, None, Some(if of_nobody { nobody.gid.as_raw() } else { 0 })).expect("given");
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("allowed");
        }
        let told = look(Some("nobody")).err().unwrap_or_default();
        assert!(
            told.contains(reason) && told.is_empty() == reason.is_empty(),
            "{sub_mode:o} {file_mode:o}: {told}"
        );
        if !of_nobody {
            assert_eq!(look(None), Ok(()), "root's group may write");
        }
    }
}

#[test]
fn a_group_that_nobody_vouches_for_may_not_write() {
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
    let look = |owners: &[&str]| {
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
        let told = look(owners).err().unwrap_or_default();
        let fits = told.contains(reason) && told.is_empty() == reason.is_empty();
        assert!(fits, "{sub_mode:o} {file_mode:o} {group} {owners:?}: {told}");
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
fn a_group_that_others_have_as_well_is_not_private() {
    let Some(root) = User::from_uid(Uid::from_raw(0)).expect("looked up") else { return };
    let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:d:/:/bin/sh\n";
    assert!(!is_primary_of_others(passwd, &root));
    assert!(is_primary_of_others(&format!("{passwd}ci:x:1000:0::/home/ci:/bin/sh\n"), &root));
}

#[test]
fn a_root_that_is_gone_says_nothing_of_its_scripts() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("its name");
    let (one, two) = (base.join("one"), base.join("two"));
    fs::create_dir_all(&two).expect("made");
    fs::write(two.join("good"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(two.join("good"), PermissionsExt::from_mode(0o755)).expect("allowed");
    let rules = ScriptRules::new(&[one.clone(), two], &[], None).expect("rules");
    let look = |path: &str| rules.locate(&path.parse().expect("a path"));
    let of_one = one.join("script");
    let of_one = of_one.to_str().expect("text");
    let is_gone = |path: &str| matches!(look(path), Err(NotRunnable::RootGone(root)) if root == one);
    for is_there in [false, true] {
        assert!(is_gone(of_one), "{is_there}");
        assert!(look("good").is_ok(), "another root has it");
        // A relative path may belong to any root. So a missing root is reported, but not an empty one beside
        // another root.
        assert_eq!(is_gone("script"), !is_there);
        assert!(matches!(look("/bin/sh"), Err(NotRunnable::Refused(_))), "{is_there}");
        assert!(matches!(look("/nothing"), Err(NotRunnable::Unavailable(_))), "{is_there}");
        fs::create_dir_all(&one).expect("made");
    }
    let alone = ScriptRules::new(std::slice::from_ref(&one), &[], None).expect("rules");
    assert!(matches!(alone.locate(&"script".parse().expect("a path")), Err(NotRunnable::RootGone(_))));
    fs::write(one.join("other"), "").expect("written");
    for path in ["script", of_one] {
        assert!(matches!(look(path), Err(NotRunnable::Unavailable(_))), "{path}");
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
fn whom_an_acl_lets_write_is_a_writer() {
    if !geteuid().is_root() {
        println!("not root: the rules differ");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    let look = |owners: &[&str], user| {
        let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
        let rules = ScriptRules::new(std::slice::from_ref(&root), &owners, user).expect("rules");
        let told = rules.locate(&"sub/file".parse().expect("a path")).err();
        told.map(|refused| refused.to_string()).unwrap_or_default()
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
        let told = look(owners, user);
        let fits = told.contains(reason) && told.is_empty() == reason.is_empty();
        assert!(fits, "{on_file} {entry:?} {mask} {owners:?} {user:?}: {told}");
    }
}

#[test]
fn who_scripts_run_as_must_be_able_to_start_them() {
    if !geteuid().is_root() {
        println!("not root: nobody else can be asked about");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("its name");
    fs::write(root.join("file"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(root.join("file"), PermissionsExt::from_mode(0o755)).expect("allowed");
    let look = |user| {
        let rules = ScriptRules::new(std::slice::from_ref(&root), &[], user).expect("rules");
        let path = "file".parse().expect("a path");
        assert!(rules.locate(&path).is_ok(), "at an attempt the system is asked");
        rules.examine(&path).map(drop).map_err(|refused| refused.to_string())
    };
    assert_eq!(look(None), Ok(()));
    fs::set_permissions(&root, PermissionsExt::from_mode(0o700)).expect("allowed");
    let told = look(Some("nobody")).expect_err("the directory is closed");
    assert!(told.contains(&format!("the user nobody may not search {} (", root.display())), "{told}");
    fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).expect("allowed");
    assert_eq!(look(Some("nobody")), Ok(()));
}

#[test]
fn the_user_of_scripts_may_be_a_number() {
    let nobody = launch::find("nobody").expect("a user of every system");
    let by_number = launch::find(&nobody.uid.to_string()).expect("the same");
    assert_eq!((by_number.name, by_number.uid), (nobody.name, nobody.uid));
    let unknown = ScriptRules::new(&[], &[], Some("54321")).expect_err("refused");
    assert_eq!(format!("{unknown:#}"), "script.user: there is no user 54321");
}
