//! Finds the file that a script path means, and checks whether it may be run.
//!
//! This happens on every attempt, because files and links can change at any time. The few system calls
//! block the thread, as starting the script does, which makes the same ones again.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};
use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    io::Errno,
    process::getgroups,
};

use super::{
    barrier::{self, barrier},
    launch,
    program::{self, Hindrance},
    rights::{Identity, Party, Rights, Writer},
};
use crate::domain::task::ScriptPath;

/// Why a script is not run.
#[derive(Debug, thiserror::Error)]
pub enum NotRunnable {
    /// The file is missing or cannot be examined. A retry may help.
    #[error("the script could not be started: {0}")]
    Unavailable(String),
    /// The file exists, but the rules forbid it.
    #[error("the script is refused: {0}")]
    Refused(String),
    /// The directory that should contain the script is missing. That says nothing about the script.
    #[error(
        "the script root {} does not exist or is empty: check that it is mounted (script.roots)", .0.display()
    )]
    RootGone(PathBuf),
}

/// Which directories scripts must lie in, and who may own them.
#[derive(Clone, Debug)]
pub struct ScriptRules {
    roots: Vec<PathBuf>,
    owners: Vec<Uid>,
    /// The user that scripts run as, if one is set. A script must not be able to change another script.
    runs_as: Option<Identity>,
    /// Groups that may write to scripts. All of their members are trusted.
    trusted_groups: Vec<Gid>,
    /// The PATH of scripts, in which `env` looks for interpreters.
    search_path: OsString,
}

impl ScriptRules {
    /// Rules for scripts below `roots`.
    ///
    /// Trusted owners are root, the user of this process, the user that scripts run as (`user`), and `owners`
    /// (names of users, or their numbers). `%name` in `owners` is a group that may write to scripts.
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
        let runs_as = user.as_ref().map(Identity::of).transpose().context("script.user")?;
        let search_path = program::search_path(&[]);
        Ok(Self { roots: roots.to_vec(), owners: trusted, runs_as, trusted_groups, search_path })
    }

    /// Takes the PATH of scripts from `script.env` (`script_env`), if it is set there.
    #[must_use]
    pub fn with_env(self, script_env: &[String]) -> Self {
        Self { search_path: program::search_path(script_env), ..self }
    }

    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Finds the file that `path` means, with links resolved, and checks that it may be run.
    ///
    /// The file must lie under one of the roots, be executable and have a form that the system can start.
    /// Others must not be able to write to it or to a directory above it. A trusted user must own it and each
    /// directory up to its root.
    ///
    /// The script is executed by the returned name. No link is left in it that could be changed after the
    /// check, so between check and start only a user with write permission on its directories can replace the
    /// file. (Executing the open file instead would give a `#!` script the name `/dev/fd/3`.)
    pub fn locate(&self, path: &ScriptPath) -> Result<PathBuf, NotRunnable> {
        let path = Path::new(path.as_str());
        if self.roots.is_empty() {
            return Err(NotRunnable::Refused(
                "script.roots is empty: add the directories that contain your scripts".to_owned(),
            ));
        }
        let file = self.resolve(path)?;
        let refused = |why: String| Err(NotRunnable::Refused(format!("{} {why}", display_path(path, &file))));
        // A missing root contains no file.
        let mut roots = self.roots.iter().filter_map(|root| root.canonicalize().ok());
        let Some(root) = roots.find(|root| file != *root && file.starts_with(root)) else {
            return refused(format!("lies outside of script.roots ({})", list_paths(&self.roots)));
        };
        match self.refusal_reason(&file, &root)? {
            Some(why) => refused(why),
            None => match program::hindrance(&file, &self.search_path) {
                Some(Hindrance::Lasting(why)) => refused(why),
                Some(Hindrance::Passing(why)) => {
                    Err(NotRunnable::Unavailable(format!("{} {why}", display_path(path, &file))))
                }
                None => Ok(file),
            },
        }
    }

    /// Like [`Self::locate`], and also checks that the user of scripts may open all files that are needed to
    /// start the script. It is for checks before an event comes: at an attempt the system itself reports such
    /// an error.
    pub fn examine(&self, path: &ScriptPath) -> Result<PathBuf, NotRunnable> {
        let file = self.locate(path)?;
        let identity = self.runs_as.as_ref().filter(|identity| identity.uid != geteuid());
        match barrier(&program::start_files(&file, &self.search_path), identity) {
            Some(why) => {
                let path = display_path(Path::new(path.as_str()), &file);
                Err(NotRunnable::Refused(format!("{path} cannot be started: {why}")))
            }
            None => Ok(file),
        }
    }

    /// Why `file`, which lies below `root`, must not be run.
    fn refusal_reason(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        let rights = read_rights(file)?;
        let reason = if !rights.metadata.is_file() {
            "is not a regular file".to_owned()
        } else if rights.metadata.permissions().mode() & 0o111 == 0 {
            "is not executable (chmod +x)".to_owned()
        } else if rights.others_write() {
            "is writable by others (chmod o-w)".to_owned()
        } else if let Some(writer) = self.script_writer(&rights) {
            format!("is writable by scripts: {}", script_write_reason("the file", writer))
        } else if let Some(writer) = self.untrusted_writer(&rights) {
            format!("is writable by {} ({})", name_of(writer.party), remedy(writer))
        } else if let Some(owner) = self.untrusted_owner(&rights) {
            format!("is owned by {owner} (chown it, or name the owner in script.owners)")
        } else {
            return self.why_replaceable(file, root);
        };
        Ok(Some(reason))
    }

    /// Why somebody could replace `file`.
    ///
    /// In each directory above it, neither others nor scripts may write without the sticky bit. In the
    /// directories up to `root`, the same holds for all who are not trusted, and the owner must be trusted.
    fn why_replaceable(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        for dir in file.ancestors().skip(1) {
            let rights = read_rights(dir)?;
            if is_kubelet_volume(dir, &rights) {
                continue;
            }
            if rights.others_write() && !rights.is_sticky() {
                let dir = dir.display();
                let why = format!("could be replaced by anybody: others may write to {dir} (chmod o-w)");
                return Ok(Some(why));
            }
            if let Some(writer) = self.script_writer(&rights).filter(|_| !rights.is_sticky()) {
                let why = script_write_reason(&dir.display().to_string(), writer);
                return Ok(Some(format!("could be replaced by scripts: {why}")));
            }
            // Directories above the roots are the operator's responsibility.
            if !dir.starts_with(root) {
                continue;
            }
            if let Some(writer) = self.untrusted_writer(&rights).filter(|_| !rights.is_sticky()) {
                return Ok(Some(format!(
                    "could be replaced by {}, which may write to {} ({})",
                    name_of(writer.party),
                    dir.display(),
                    remedy(writer)
                )));
            }
            if let Some(owner) = self.untrusted_owner(&rights) {
                return Ok(Some(format!(
                    "could be replaced by {owner}, who owns {} (chown it, or name the owner in script.owners)",
                    dir.display()
                )));
            }
        }
        Ok(None)
    }

    /// How scripts may write to it: through a group of their user, or as that user, unless it is the owner.
    fn script_writer(&self, rights: &Rights) -> Option<Writer> {
        let runs_as = self.runs_as.as_ref()?;
        rights.writers().find(|writer| match writer.party {
            Party::Group(group) => runs_as.groups.contains(&group),
            Party::User(user) => runs_as.uid == user && rights.owner() != user,
        })
    }

    /// The first user or group that may write and is not trusted, other than the owner.
    fn untrusted_writer(&self, rights: &Rights) -> Option<Writer> {
        rights.writers().find(|writer| match writer.party {
            Party::Group(group) => !self.trusted_groups.contains(&group),
            Party::User(user) => !self.owners.contains(&user),
        })
    }

    /// The name of the owner, if the owner is not trusted.
    fn untrusted_owner(&self, rights: &Rights) -> Option<String> {
        let owner = rights.owner();
        (!self.owners.contains(&owner))
            .then(|| user_name(owner).unwrap_or_else(|| format!("the user {owner}")))
    }

    /// Resolves links. A relative path means the first file that exists under a root.
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
        // An empty root may be intended, unless all roots are empty or missing.
        let all_gone = || self.roots.first().filter(|_| self.roots.iter().all(|root| is_gone(root)));
        if let Some(root) = self.roots.iter().find(|root| !root.is_dir()).or_else(all_gone) {
            return Err(NotRunnable::RootGone(root.clone()));
        }
        let why = format!("there is no {} under {}", path.display(), list_paths(&self.roots));
        Err(NotRunnable::Unavailable(why))
    }
}

/// Whether a root is missing, or empty like a directory on which nothing is mounted.
fn is_gone(root: &Path) -> bool {
    match fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        // The directory exists, and files in it can still be opened by name.
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}

/// The groups whose members are all trusted.
///
/// These are the private groups of `trusted` users (with the name of the user, as useradd(8) creates them),
/// and groups of this process that have no name, such as the `fsGroup` of a pod.
fn private_groups(trusted: &[Uid]) -> Vec<Gid> {
    let users: Vec<User> = trusted.iter().filter_map(|uid| User::from_uid(*uid).ok().flatten()).collect();
    let is_private = |user: &&User| {
        Group::from_gid(user.gid).ok().flatten().is_some_and(|group| {
            group.name == user.name
                && !is_primary_of_others(&fs::read_to_string("/etc/passwd").unwrap_or_default(), user)
                && group.mem.iter().all(|member| users.iter().any(|user| user.name == *member))
        })
    };
    let own_groups = getgroups().unwrap_or_default().into_iter().map(|group| Gid::from_raw(group.as_raw()));
    let has_no_name = |group: &Gid| matches!(Group::from_gid(*group), Ok(None));
    let user_groups = users.iter().filter(is_private).map(|user| user.gid);
    user_groups.chain(own_groups.chain([getegid()]).filter(has_no_name)).collect()
}

/// Whether the group of `user` is also the primary group of other users, which its list of members does not
/// show. It checks only the users in `passwd`, because a directory service does not list its users.
fn is_primary_of_others(passwd: &str, user: &User) -> bool {
    passwd.lines().any(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next(), fields.nth(2));
        name != Some(user.name.as_str()) && gid == Some(user.gid.to_string().as_str())
    })
}

/// Looks up a group by name or number.
fn find_group(name: &str) -> anyhow::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let group = Group::from_name(name).with_context(|| format!("the group {name} could not be looked up"))?;
    Ok(group.with_context(|| format!("there is no group {name}"))?.gid)
}

fn read_rights(path: &Path) -> Result<Rights, NotRunnable> {
    Rights::of(path).map_err(|error| unavailable(path, &error))
}

fn unavailable(path: &Path, error: &io::Error) -> NotRunnable {
    let why = format!("{}: {error}", path.display());
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => {
            let barrier = barrier::own_barrier(path);
            NotRunnable::Refused(barrier.map_or_else(|| why.clone(), |barrier| format!("{why}: {barrier}")))
        }
        Some(Errno::LOOP) => NotRunnable::Refused(why),
        _ if error.kind() == io::ErrorKind::InvalidData => NotRunnable::Refused(why),
        _ => NotRunnable::Unavailable(why),
    }
}

/// The sentence that says how scripts may write to `target`, and what to do about it.
fn script_write_reason(target: &str, writer: Writer) -> String {
    let id = match (writer.is_named, writer.party) {
        (false, _) => return format!("script.user is a member of the group of {target} (chmod g-w)"),
        (true, Party::Group(group)) => format!("g:{group}"),
        (true, Party::User(user)) => format!("u:{user}"),
    };
    format!("the ACL of {target} names script.user or one of its groups (setfacl -x {id})")
}

/// What to do about a user or group that may write.
fn remedy(writer: Writer) -> String {
    let (kind, id, owner) = match writer.party {
        Party::User(user) => ("u", user.to_string(), user_name(user).unwrap_or_else(|| user.to_string())),
        Party::Group(group) => {
            let name = group_name(group).unwrap_or_else(|| group.to_string());
            ("g", group.to_string(), format!("%{name}"))
        }
    };
    let command = if writer.is_named { format!("setfacl -x {kind}:{id}") } else { "chmod g-w".to_owned() };
    format!("{command}, or name it in script.owners as \"{owner}\"")
}

fn name_of(party: Party) -> String {
    match party {
        Party::User(user) => format!("the user {}", user_name(user).unwrap_or_else(|| user.to_string())),
        Party::Group(group) => {
            format!("the group {}", group_name(group).unwrap_or_else(|| group.to_string()))
        }
    }
}

fn user_name(user: Uid) -> Option<String> {
    User::from_uid(user).ok().flatten().map(|user| user.name)
}

fn group_name(group: Gid) -> Option<String> {
    Group::from_gid(group).ok().flatten().map(|group| group.name)
}

fn display_path(path: &Path, file: &Path) -> String {
    if path == file { path.display().to_string() } else { format!("{} ({})", path.display(), file.display()) }
}

fn list_paths(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether `dir` is a volume of Kubernetes (a `ConfigMap` or a Secret). The kubelet makes its directory
/// writable for everybody, but mounts it read-only, so that nobody here can write to it.
fn is_kubelet_volume(dir: &Path, rights: &Rights) -> bool {
    let is_read_only = || statvfs(dir).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    rights.owner().is_root() && dir.join("..data").is_symlink() && is_read_only()
}

#[cfg(test)]
mod tests;
