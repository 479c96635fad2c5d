//! Which file a script path means, and whether it may be run.
//!
//! Looked at on every attempt: files and links change without us. The few look-ups are made on the
//! spot, as starting the script makes the same ones again in any case.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::unistd::{Uid, User, geteuid};

use super::launch;
use crate::domain::task::ScriptPath;

const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Why a script is not run.
#[derive(Debug, thiserror::Error)]
pub enum NotRunnable {
    /// It is not there, or cannot be looked at: that may pass.
    #[error("the script could not be started: {0}")]
    Unavailable(String),
    /// It is there, and against the rules.
    #[error("the script is refused: {0}")]
    Refused(String),
}

/// Where scripts may lie, and whose they may be.
#[derive(Clone, Debug)]
pub struct ScriptRules {
    roots: Vec<PathBuf>,
    owners: Vec<Uid>,
}

impl ScriptRules {
    /// Scripts below `roots`, owned by root, by who this process runs as, by who scripts run as (`user`), or by one of
    /// `owners`: names of users, or their numbers.
    ///
    /// # Errors
    /// Names the setting whose user does not exist here.
    pub fn new(roots: &[PathBuf], owners: &[String], user: Option<&str>) -> anyhow::Result<Self> {
        let mut trusted = vec![Uid::from_raw(0), geteuid()];
        trusted.extend(user.map(launch::find).transpose().context("script.user")?.map(|user| user.uid));
        for owner in owners {
            trusted.push(match owner.parse() {
                Ok(number) => Uid::from_raw(number),
                Err(_) => launch::find(owner).context("script.owners")?.uid,
            });
        }
        Ok(Self { roots: roots.to_vec(), owners: trusted })
    }

    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The file that `path` means, links resolved: under one of the roots, executable, not writable by others, nor is
    /// any directory above it, and owned by who is trusted, as each directory up to its root.
    ///
    /// It is executed by this name, in which no link is left to be changed after the look: between look and start it
    /// can be replaced only by who may write to its directories. (Executing the open file instead would tell a `#!`
    /// script `/dev/fd/3` for its own name.)
    pub fn locate(&self, path: &ScriptPath) -> Result<PathBuf, NotRunnable> {
        let path = Path::new(path.as_str());
        if self.roots.is_empty() {
            return Err(NotRunnable::Refused(
                "script.roots is empty; list there the directories whose scripts may be run".to_owned(),
            ));
        }
        let file = self.resolve(path)?;
        let refused = |why: String| Err(NotRunnable::Refused(format!("{} {why}", meaning(path, &file))));
        // A root that is not there holds nothing.
        let mut roots = self.roots.iter().filter_map(|root| root.canonicalize().ok());
        let Some(root) = roots.find(|root| file != *root && file.starts_with(root)) else {
            return refused(format!("lies outside of script.roots ({})", list(&self.roots)));
        };
        match self.wrong_with(&file, &root)? {
            Some(why) => refused(why),
            None => Ok(file),
        }
    }

    /// Why `file`, which lies below `root`, is not to be run.
    fn wrong_with(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        let metadata = look(file)?;
        let mode = metadata.permissions().mode();
        let wrong = if !metadata.is_file() {
            "is not a regular file".to_owned()
        } else if mode & 0o111 == 0 {
            "is not executable (chmod +x)".to_owned()
        } else if mode & OTHERS_WRITE != 0 {
            "may be written by others (chmod o-w)".to_owned()
        } else if let Some(owner) = self.stranger(&metadata) {
            format!("is owned by {owner} (chown it, or name the owner in script.owners)")
        } else {
            return self.replaceable(file, root);
        };
        Ok(Some(wrong))
    }

    /// Who could put something in the place of `file`: others, where they may write to a directory above it and have
    /// not the sticky bit against them, and a stranger who owns one up to its root.
    fn replaceable(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        for dir in file.ancestors().skip(1) {
            let metadata = look(dir)?;
            let mode = metadata.permissions().mode();
            if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
                let dir = dir.display();
                let why = format!("could be replaced by anybody: others may write to {dir} (chmod o-w)");
                return Ok(Some(why));
            }
            if let Some(owner) = self.stranger(&metadata).filter(|_| dir.starts_with(root)) {
                return Ok(Some(format!(
                    "could be replaced by {owner}, who owns {} (chown it, or name the owner in script.owners)",
                    dir.display()
                )));
            }
        }
        Ok(None)
    }

    /// The owner, if that is nobody who is trusted.
    fn stranger(&self, metadata: &Metadata) -> Option<String> {
        let owner = Uid::from_raw(metadata.uid());
        let name = |owner: Uid| User::from_uid(owner).ok().flatten().map(|user| user.name);
        (!self.owners.contains(&owner)).then(|| name(owner).unwrap_or_else(|| format!("the user {owner}")))
    }

    /// An absolute path means itself, a relative one the first that exists under a root.
    fn resolve(&self, path: &Path) -> Result<PathBuf, NotRunnable> {
        if path.is_absolute() {
            return path.canonicalize().map_err(|error| unavailable(path, &error));
        }
        for root in &self.roots {
            match root.join(path).canonicalize() {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unavailable(&root.join(path), &error)),
            }
        }
        let why = format!("there is no {} under {}", path.display(), list(&self.roots));
        Err(NotRunnable::Unavailable(why))
    }
}

fn look(path: &Path) -> Result<Metadata, NotRunnable> {
    fs::metadata(path).map_err(|error| unavailable(path, &error))
}

fn unavailable(path: &Path, error: &io::Error) -> NotRunnable {
    NotRunnable::Unavailable(format!("{}: {error}", path.display()))
}

fn meaning(path: &Path, file: &Path) -> String {
    if path == file { path.display().to_string() } else { format!("{} ({})", path.display(), file.display()) }
}

fn list(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

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

        let roots = [base.join("gone"), base.join("current"), base.join("two")];
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
            ("open", "written by others"),
            ("shared/below/fine", "one/shared (chmod o-w)"),
        ] {
            let refused = look(path).expect_err(path);
            assert!(matches!(&refused, NotRunnable::Refused(why) if why.contains(reason)), "{refused}");
        }
        for path in ["nothing", "/nothing/at/all", "loop"] {
            assert!(matches!(look(path), Err(NotRunnable::Unavailable(_))), "{path}");
        }
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
        // Above the roots it is the operator's choice.
        let rules = ScriptRules::new(std::slice::from_ref(&sub), &[], Some("nobody")).expect("rules");
        chown(&sub, Some(0), None).expect("taken back");
        chown(&root, Some(STRANGER), None).expect("given away");
        assert!(rules.locate(&"file".parse().expect("a path")).is_ok());
    }
}
