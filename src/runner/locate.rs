//! Which file a script path means, and whether it may be run.
//!
//! Looked at on every attempt: files and links change without us. The few look-ups are made on the
//! spot, as starting the script makes the same ones again in any case.

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
    /// Who scripts run as, where that is set: a script must not be able to change another.
    runs_as: Option<Identity>,
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
        let runs_as = user.as_ref().map(Identity::of).transpose().context("script.user")?;
        let search_path = program::search_path(&[]);
        Ok(Self { roots: roots.to_vec(), owners: trusted, runs_as, trusted_groups, search_path })
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

    /// As [`Self::locate`], and that who scripts run as may open all that it takes to start it. For who asks before an event
    /// comes: at an attempt the system itself says so.
    pub fn examine(&self, path: &ScriptPath) -> Result<PathBuf, NotRunnable> {
        let file = self.locate(path)?;
        let who = self.runs_as.as_ref().filter(|who| who.uid != geteuid());
        match barrier(&program::start_files(&file, &self.search_path), who) {
            Some(why) => {
                let path = meaning(Path::new(path.as_str()), &file);
                Err(NotRunnable::Refused(format!("{path} cannot be started: {why}")))
            }
            None => Ok(file),
        }
    }

    /// Why `file`, which lies below `root`, is not to be run.
    fn wrong_with(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        let rights = look(file)?;
        let wrong = if !rights.metadata.is_file() {
            "is not a regular file".to_owned()
        } else if rights.metadata.permissions().mode() & 0o111 == 0 {
            "is not executable (chmod +x)".to_owned()
        } else if rights.others_write() {
            "may be written by others (chmod o-w)".to_owned()
        } else if let Some(writer) = self.script_writer(&rights) {
            format!("may be written by scripts: {}", by_scripts("the file", writer))
        } else if let Some(writer) = self.strange_writer(&rights) {
            format!("may be written by {} ({})", name_of(writer.party), remedy(writer))
        } else if let Some(owner) = self.stranger(&rights) {
            format!("is owned by {owner} (chown it, or name the owner in script.owners)")
        } else {
            return self.replaceable(file, root);
        };
        Ok(Some(wrong))
    }

    /// Who could put something in the place of `file`: others, where they may write to a directory above it and have
    /// not the sticky bit against them, and a stranger who owns one up to its root, or who may write to one.
    fn replaceable(&self, file: &Path, root: &Path) -> Result<Option<String>, NotRunnable> {
        for dir in file.ancestors().skip(1) {
            let rights = look(dir)?;
            if is_kubelet_volume(dir, &rights) {
                continue;
            }
            if rights.others_write() && !rights.is_sticky() {
                let dir = dir.display();
                let why = format!("could be replaced by anybody: others may write to {dir} (chmod o-w)");
                return Ok(Some(why));
            }
            if let Some(writer) = self.script_writer(&rights).filter(|_| !rights.is_sticky()) {
                let why = by_scripts(&dir.display().to_string(), writer);
                return Ok(Some(format!("could be replaced by scripts: {why}")));
            }
            // Above the roots it is the operator's choice.
            if !dir.starts_with(root) {
                continue;
            }
            if let Some(writer) = self.strange_writer(&rights).filter(|_| !rights.is_sticky()) {
                return Ok(Some(format!(
                    "could be replaced by {}, which may write to {} ({})",
                    name_of(writer.party),
                    dir.display(),
                    remedy(writer)
                )));
            }
            if let Some(owner) = self.stranger(&rights) {
                return Ok(Some(format!(
                    "could be replaced by {owner}, who owns {} (chown it, or name the owner in script.owners)",
                    dir.display()
                )));
            }
        }
        Ok(None)
    }

    /// By what scripts may write to it: a group that who runs them is in, or their user, unless it is theirs.
    fn script_writer(&self, rights: &Rights) -> Option<Writer> {
        let runs_as = self.runs_as.as_ref()?;
        rights.writers().find(|writer| match writer.party {
            Party::Group(group) => runs_as.groups.contains(&group),
            Party::User(user) => runs_as.uid == user && rights.owner() != user,
        })
    }

    /// Who may write to it and is not trusted, beside its owner.
    fn strange_writer(&self, rights: &Rights) -> Option<Writer> {
        rights.writers().find(|writer| match writer.party {
            Party::Group(group) => !self.trusted_groups.contains(&group),
            Party::User(user) => !self.owners.contains(&user),
        })
    }

    /// The owner, if that is nobody who is trusted.
    fn stranger(&self, rights: &Rights) -> Option<String> {
        let owner = rights.owner();
        (!self.owners.contains(&owner))
            .then(|| user_name(owner).unwrap_or_else(|| format!("the user {owner}")))
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

fn look(path: &Path) -> Result<Rights, NotRunnable> {
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

/// How scripts may write to `what`, and what to do.
fn by_scripts(what: &str, writer: Writer) -> String {
    let id = match (writer.is_named, writer.party) {
        (false, _) => return format!("the group of {what} is one of script.user (chmod g-w)"),
        (true, Party::Group(group)) => format!("g:{group}"),
        (true, Party::User(user)) => format!("u:{user}"),
    };
    format!("the ACL of {what} names script.user, or a group of it (setfacl -x {id})")
}

/// What to do about one who may write.
fn remedy(writer: Writer) -> String {
    let (kind, id, owner) = match writer.party {
        Party::User(user) => ("u", user.to_string(), user_name(user).unwrap_or_else(|| user.to_string())),
        Party::Group(group) => {
            let name = group_name(group).unwrap_or_else(|| group.to_string());
            ("g", group.to_string(), format!("%{name}"))
        }
    };
    let take_away = if writer.is_named { format!("setfacl -x {kind}:{id}") } else { "chmod g-w".to_owned() };
    format!("{take_away}, or name it in script.owners as \"{owner}\"")
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

fn meaning(path: &Path, file: &Path) -> String {
    if path == file { path.display().to_string() } else { format!("{} ({})", path.display(), file.display()) }
}

fn list(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether `dir` is a volume of Kubernetes' (a `ConfigMap`, a Secret). The kubelet makes its directory writable for everybody,
/// and mounts it read-only: here nobody can.
fn is_kubelet_volume(dir: &Path, rights: &Rights) -> bool {
    let is_read_only = || statvfs(dir).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    rights.owner().is_root() && dir.join("..data").is_symlink() && is_read_only()
}

#[cfg(test)]
mod tests;
