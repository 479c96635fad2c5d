//! Which file a script path means, and whether it may be run.
//!
//! Looked at on every attempt: files and links change without us. The few look-ups are made on the
//! spot, as starting the script makes the same ones again in any case.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};
use rustix::process::getgroups;

use super::{
    launch,
    program::{self, Hindrance},
};
use crate::domain::task::ScriptPath;

const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
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
    /// The directory that should hold it is not there: that says nothing of the script.
    #[error(
        "the script root {} is not there, or empty: is it mounted? (script.roots)", .0.display()
    )]
    RootGone(PathBuf),
}

/// Where scripts may lie, and whose they may be.
#[derive(Clone, Debug)]
pub struct ScriptRules {
    roots: Vec<PathBuf>,
    owners: Vec<Uid>,
    /// Those of who scripts run as, where that is somebody else: a script must not be able to change another.
    groups: Vec<Gid>,
    /// Groups that may write to scripts: all of their members are trusted.
    trusted_groups: Vec<Gid>,
    /// The PATH that scripts get, in which `env` looks for interpreters.
    search_path: OsString,
}

impl ScriptRules {
    /// Scripts below `roots`, owned by root, by who this process runs as, by who scripts run as (`user`), or by one of
    /// `owners`: names of users, or their numbers. `%name` there is a group that may write to scripts.
    ///
    /// # Errors
    /// Names the setting whose user or group does not exist here.
    pub fn new(roots: &[PathBuf], owners: &[String], user: Option<&str>) -> anyhow::Result<Self> {
        let mut trusted = vec![Uid::from_raw(0), geteuid()];
        let user = user.map(launch::find).transpose().context("script.user")?;
        trusted.extend(user.as_ref().map(|user| user.uid));
        let mut trusted_groups = vec![Gid::from_raw(0)];
        for owner in owners {
            if let Some(group) = owner.strip_prefix('%') {
                trusted_groups.push(find_group(group).context("script.owners")?);
                continue;
            }
            trusted.push(match owner.parse() {
                Ok(number) => Uid::from_raw(number),
                Err(_) => launch::find(owner).context("script.owners")?.uid,
            });
        }
        trusted_groups.extend(private_groups(&trusted));
        let groups =
            user.as_ref().map(launch::groups_of).transpose().context("script.user")?.unwrap_or_default();
        let search_path = program::search_path(&[]);
        Ok(Self { roots: roots.to_vec(), owners: trusted, groups, trusted_groups, search_path })
    }

    /// With the variables that scripts get by `script.env`.
    #[must_use]
    pub fn with_env(self, listed: &[String]) -> Self {
        Self { search_path: program::search_path(listed), ..self }
    }

    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The file that `path` means, links resolved: under one of the roots, executable, not writable by others, nor is
    /// any directory above it, owned by who is trusted, as each directory up to its root, and of a form that the system
    /// can start.
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
            None => match program::hindrance(&file, &self.search_path) {
                Some(Hindrance::Lasting(why)) => refused(why),
                Some(Hindrance::Passing(why)) => {
                    Err(NotRunnable::Unavailable(format!("{} {why}", meaning(path, &file))))
                }
                None => Ok(file),
            },
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
        } else if self.group_writes(&metadata) {
            "may be written by scripts: its group is one of script.user (chmod g-w)".to_owned()
        } else if let Some(group) = self.strange_group(&metadata) {
            format!(
                "may be written by the group {group} (chmod g-w, or name it in script.owners as \"%{group}\")"
            )
        } else if let Some(owner) = self.stranger(&metadata) {
            format!("is owned by {owner} (chown it, or name the owner in script.owners)")
        } else {
            return self.replaceable(file, root);
        };
        Ok(Some(wrong))
    }

    /// Who could put something in the place of `file`: others, where they may write to a directory above it and have
    /// not the sticky bit against them, and a stranger who owns one up to its root, or a group that may write to one.
    fn replaceable(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        for dir in file.ancestors().skip(1) {
            let metadata = look(dir)?;
            let mode = metadata.permissions().mode();
            if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
                let dir = dir.display();
                let why = format!("could be replaced by anybody: others may write to {dir} (chmod o-w)");
                return Ok(Some(why));
            }
            if self.group_writes(&metadata) && mode & STICKY == 0 {
                return Ok(Some(format!(
                    "could be replaced by scripts: the group of {} is one of script.user (chmod g-w)",
                    dir.display()
                )));
            }
            // Above the roots it is the operator's choice.
            if !dir.starts_with(root) {
                continue;
            }
            if let Some(group) = self.strange_group(&metadata).filter(|_| mode & STICKY == 0) {
                return Ok(Some(format!(
                    "could be replaced by the group {group}, which may write to {} (chmod g-w, or name it in \
                     script.owners as \"%{group}\")",
                    dir.display()
                )));
            }
            if let Some(owner) = self.stranger(&metadata) {
                return Ok(Some(format!(
                    "could be replaced by {owner}, who owns {} (chown it, or name the owner in script.owners)",
                    dir.display()
                )));
            }
        }
        Ok(None)
    }

    /// Whether scripts may write to it for a group that who runs them is in.
    fn group_writes(&self, metadata: &Metadata) -> bool {
        metadata.permissions().mode() & GROUP_WRITES != 0
            && self.groups.contains(&Gid::from_raw(metadata.gid()))
    }

    /// The group that may write to it, if it is none that is trusted: by its name, or its number where it has none.
    fn strange_group(&self, metadata: &Metadata) -> Option<String> {
        let group = Gid::from_raw(metadata.gid());
        if metadata.permissions().mode() & GROUP_WRITES == 0 || self.trusted_groups.contains(&group) {
            return None;
        }
        let known = Group::from_gid(group).ok().flatten();
        Some(known.map_or_else(|| group.to_string(), |group| group.name))
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
            return path.canonicalize().map_err(|error| {
                let root = self.roots.iter().find(|root| path.starts_with(root) && is_gone(root));
                root.map_or_else(|| unavailable(path, &error), |root| NotRunnable::RootGone(root.clone()))
            });
        }
        for root in &self.roots {
            match root.join(path).canonicalize() {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound || is_gone(root) => {}
                Err(error) => return Err(unavailable(&root.join(path), &error)),
            }
        }
        // One that is empty may be meant so, unless there is no other.
        let all_gone = || self.roots.first().filter(|_| self.roots.iter().all(|root| is_gone(root)));
        if let Some(root) = self.roots.iter().find(|root| !root.is_dir()).or_else(all_gone) {
            return Err(NotRunnable::RootGone(root.clone()));
        }
        let why = format!("there is no {} under {}", path.display(), list(&self.roots));
        Err(NotRunnable::Unavailable(why))
    }
}

/// Whether a root is not there, or is as empty as the directory on which nothing is mounted.
fn is_gone(root: &Path) -> bool {
    match fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        // It is there, and its files can be opened by their names.
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}

/// The groups in which nobody is but `trusted`: the private group of a user (of the same name, as useradd(8) makes it), and
/// a group of this process that has no name, as the `fsGroup` of a pod.
fn private_groups(trusted: &[Uid]) -> Vec<Gid> {
    let users: Vec<User> = trusted.iter().filter_map(|uid| User::from_uid(*uid).ok().flatten()).collect();
    let is_private = |user: &&User| {
        Group::from_gid(user.gid).ok().flatten().is_some_and(|group| {
            group.name == user.name
                && !is_primary_of_others(&fs::read_to_string("/etc/passwd").unwrap_or_default(), user)
                && group.mem.iter().all(|member| users.iter().any(|user| user.name == *member))
        })
    };
    let own = getgroups().unwrap_or_default().into_iter().map(|group| Gid::from_raw(group.as_raw()));
    let has_no_name = |group: &Gid| matches!(Group::from_gid(*group), Ok(None));
    let of_users = users.iter().filter(is_private).map(|user| user.gid);
    of_users.chain(own.chain([getegid()]).filter(has_no_name)).collect()
}

/// Whether the group of `user` is that of other users too, which its list of members does not tell; of those in `passwd`,
/// as a directory service does not list its users.
fn is_primary_of_others(passwd: &str, user: &User) -> bool {
    passwd.lines().any(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next(), fields.nth(2));
        name != Some(user.name.as_str()) && gid == Some(user.gid.to_string().as_str())
    })
}

/// The group of that name or number.
fn find_group(name: &str) -> anyhow::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let group = Group::from_name(name).with_context(|| format!("the group {name} could not be looked up"))?;
    Ok(group.with_context(|| format!("there is no group {name}"))?.gid)
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
mod tests;
