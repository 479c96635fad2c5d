//! The working directories of scripts: empty, and accessible only to the user that runs the script.
//!
//! A directory that a script left unchanged is as good as a new one, and the next script gets it. Making and
//! removing one for each call would be a quarter of the work that the worker itself does for a script, because
//! ext4 searches long for an inode that was not deleted just before.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use anyhow::Context;
use nix::unistd::{User, geteuid};
use parking_lot::Mutex;
use tempfile::TempDir;
use tracing::warn;

use super::launch;

/// Makes a working directory for scripts that run as `user` (`script.user`), and removes it.
///
/// # Errors
/// Says why scripts cannot have a working directory here.
pub fn check(user: Option<&str>) -> anyhow::Result<()> {
    let user = user.map(launch::find).transpose().context("script.user")?;
    let dirs = WorkingDirs::new(env::temp_dir(), user.filter(|user| user.uid != geteuid()));
    dirs.get().map(drop).context("cannot create the working directory of a script")
}

/// Makes working directories, and reuses unchanged ones.
pub struct WorkingDirs {
    parent: PathBuf,
    owner: Option<User>,
    spare: Mutex<Vec<WorkingDir>>,
}

/// The working directory of one call. Dropping it removes it.
pub struct WorkingDir {
    /// None after it was removed.
    dir: Option<TempDir>,
    initial_stamp: Stamp,
    pool: Weak<WorkingDirs>,
}

/// The state of a directory, to detect a change of its entries or permissions.
///
/// The time of the last change stays the same if the stamp and a change fall into one tick of the file
/// system's clock. So the permissions are compared too, and `is_unchanged` checks that the directory is
/// empty.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

impl Stamp {
    fn of(dir: &Path) -> io::Result<Self> {
        let metadata = dir.symlink_metadata()?;
        Ok(Self {
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        })
    }
}

impl WorkingDirs {
    /// Directories in `parent` that belong to `owner`, or to the user of this process.
    pub fn new(parent: PathBuf, owner: Option<User>) -> Arc<Self> {
        Arc::new(Self { parent, owner, spare: Mutex::default() })
    }

    /// An empty directory that nothing else uses.
    pub fn get(self: &Arc<Self>) -> anyhow::Result<WorkingDir> {
        loop {
            let spare = self.spare.lock().pop();
            match spare {
                // A cleaner of /tmp may have removed it. `finish` has checked that it is empty.
                Some(dir) if dir.has_initial_stamp() => return Ok(dir),
                Some(_) => {}
                None => return self.make(),
            }
        }
    }

    fn make(self: &Arc<Self>) -> anyhow::Result<WorkingDir> {
        let private = fs::Permissions::from_mode(0o700);
        let dir =
            tempfile::Builder::new().prefix("provisiond-").permissions(private).tempdir_in(&self.parent);
        let dir = dir.with_context(|| format!("in {} (TMPDIR)", self.parent.display()))?;
        if let Some(user) = &self.owner {
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(|| {
                format!(
                    "cannot change its owner to {}: script.user needs provisiond to run as root",
                    user.name
                )
            })?;
        }
        let initial_stamp = Stamp::of(dir.path())?;
        Ok(WorkingDir { dir: Some(dir), initial_stamp, pool: Arc::downgrade(self) })
    }
}

impl WorkingDir {
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Call this when nothing uses the directory any more. An unchanged one is reused, another one is
    /// removed.
    pub fn finish(self) {
        if let Some(pool) = self.pool.upgrade().filter(|_| self.is_unchanged()) {
            pool.spare.lock().push(self);
        }
    }

    fn is_unchanged(&self) -> bool {
        let is_empty = || fs::read_dir(self.path()).is_ok_and(|mut entries| entries.next().is_none());
        self.has_initial_stamp() && is_empty()
    }

    fn has_initial_stamp(&self) -> bool {
        Stamp::of(self.path()).is_ok_and(|stamp| stamp == self.initial_stamp)
    }
}

impl Drop for WorkingDir {
    /// Removes the directory. A script may have put a file in its place, or removed our permission to read a
    /// directory in it (root always has it).
    fn drop(&mut self) {
        let Some(path) = self.dir.take().map(TempDir::keep) else { return };
        if fs::remove_dir_all(&path).is_ok() || fs::remove_file(&path).is_ok() {
            return;
        }
        if !geteuid().is_root() {
            open_up(&path);
        }
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(dir = %path.display(), %error, "the working directory of a script cannot be removed");
            }
            _ => {}
        }
    }
}

/// Gives us all permissions on `dir` and the directories in it. Follows no link.
fn open_up(dir: &Path) {
    if !dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return;
    }
    fs::set_permissions(dir, PermissionsExt::from_mode(0o700)).ok();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `lines` with a working directory in `$1`. Returns whether the next script gets the same
    /// directory.
    fn is_reused(dirs: &Arc<WorkingDirs>, lines: &str) -> bool {
        let dir = dirs.get().expect("a directory");
        let path = dir.path().to_owned();
        let status = std::process::Command::new("sh").args(["-c", lines, "sh"]).arg(&path).status();
        assert!(status.expect("a shell").success(), "{lines}");
        dir.finish();
        let next = dirs.get().expect("a directory");
        assert_eq!(fs::read_dir(next.path()).expect("readable").count(), 0, "after {lines}");
        assert_eq!(
            next.path().metadata().expect("there").permissions().mode() & 0o7777,
            0o700,
            "after {lines}"
        );
        let is_same = next.path() == path;
        assert!(is_same || !path.exists(), "{lines}: it is left behind");
        is_same
    }

    #[test]
    fn only_an_unchanged_directory_is_reused() {
        let dirs = WorkingDirs::new(env::temp_dir(), None);
        assert!(is_reused(&dirs, "true"));
        assert!(is_reused(&dirs, "ls -a $1"), "looking changes nothing");
        for lines in [
            "echo secret > $1/file",
            "mkdir $1/deep; touch $1/deep/.hidden; chmod 0 $1/deep",
            "ln -s / $1/link",
            "chmod 755 $1",
            "rmdir $1",
            "rmdir $1; mkdir $1",
            "rmdir $1; touch $1",
            "rmdir $1; ln -s /usr $1",
        ] {
            assert!(!is_reused(&dirs, lines), "{lines}");
        }
        // Wait longer than one tick of the file system's clock.
        assert!(!is_reused(&dirs, "sleep 0.1; touch $1/gone; rm $1/gone"), "it was used");
        assert!(Path::new("/usr/bin").exists());
    }

    #[test]
    fn the_error_names_the_unusable_parent() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("gone");
        let error = WorkingDirs::new(missing.clone(), None).get().map(drop).expect_err("no place");
        let message = format!("{error:#}");
        assert!(
            message.starts_with(&format!("in {} (TMPDIR): No such file", missing.display())),
            "{message}"
        );
    }

    #[test]
    fn directories_are_distinct_and_removed_at_the_end() {
        let dirs = WorkingDirs::new(env::temp_dir(), None);
        let (first, second) = (dirs.get().expect("one"), dirs.get().expect("two"));
        let paths = [first.path().to_owned(), second.path().to_owned()];
        assert_ne!(paths[0], paths[1]);
        first.finish();
        drop(dirs);
        assert!(!paths[0].exists(), "a spare one is removed at the end");
        second.finish();
        assert!(!paths[1].exists(), "nobody is left to take it");
    }
}
