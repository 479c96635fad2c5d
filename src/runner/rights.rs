//! Who may read, write and execute a file, by its mode and by its POSIX ACL, if it has one.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use nix::unistd::{Gid, Uid, User};

use super::launch;

pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 1;

/// A user and its groups.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: String,
    pub uid: Uid,
    pub groups: Vec<Gid>,
}

impl Identity {
    pub fn of(user: &User) -> anyhow::Result<Self> {
        Ok(Self { name: user.name.clone(), uid: user.uid, groups: launch::groups_of(user)? })
    }
}

/// The effective permissions on one file or directory.
#[derive(Debug)]
pub struct Rights {
    pub metadata: Metadata,
    owner: u32,
    /// Of the owning group. If there is an ACL, the group bits of the mode are its mask and do not show this.
    group: u32,
    others: u32,
    /// Users and groups that the ACL names.
    named: Vec<(Party, u32)>,
}

/// A user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    User(Uid),
    Group(Gid),
}

/// A user or group that may write to a file, other than its owner and the others of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    pub party: Party,
    /// Whether the ACL names it. Otherwise it is the owning group.
    pub is_named: bool,
}

impl Rights {
    /// Reads the permissions on `path`. Follows links.
    ///
    /// # Errors
    /// `InvalidData` if there is an ACL that cannot be understood.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let mode = metadata.permissions().mode();
        let by_mode = |shift: u32| mode >> shift & 7;
        let Some(acl) = read_acl(path)? else {
            let (owner, group, others) = (by_mode(6), by_mode(3), by_mode(0));
            return Ok(Self { metadata, owner, group, others, named: Vec::new() });
        };
        let Acl { owner, group, others, named } = Acl::parse(&acl)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its ACL cannot be understood"))?;
        Ok(Self { metadata, owner, group, others, named })
    }

    pub fn others_write(&self) -> bool {
        self.others & WRITE != 0
    }

    /// Whether the sticky bit is set. Then only the owner of an entry of this directory, or of the directory,
    /// may rename and remove the entry.
    pub fn is_sticky(&self) -> bool {
        self.metadata.permissions().mode() & 0o1000 != 0
    }

    pub fn owner(&self) -> Uid {
        Uid::from_raw(self.metadata.uid())
    }

    fn owning_group(&self) -> Gid {
        Gid::from_raw(self.metadata.gid())
    }

    /// The owning group and the users and groups that the ACL names, if they may write.
    pub fn writers(&self) -> impl Iterator<Item = Writer> {
        let group = Writer { party: Party::Group(self.owning_group()), is_named: false };
        let named = self.named.iter().filter(|(_, rights)| rights & WRITE != 0);
        let named = named.map(|(party, _)| Writer { party: *party, is_named: true });
        (self.group & WRITE != 0).then_some(group).into_iter().chain(named)
    }

    /// Whether `identity` has all permissions in `wanted`. Not for root, who needs no permission.
    pub fn allow(&self, identity: &Identity, wanted: u32) -> bool {
        let Identity { uid: user, groups, .. } = identity;
        let has = |rights: u32| rights & wanted == wanted;
        if *user == self.owner() {
            return has(self.owner);
        }
        if let Some((_, rights)) = self.named.iter().find(|(party, _)| *party == Party::User(*user)) {
            return has(*rights);
        }
        let owning_entry = (Party::Group(self.owning_group()), self.group);
        let is_in = |party: &Party| matches!(party, Party::Group(group) if groups.contains(group));
        let mut group_entries =
            std::iter::once(&owning_entry).chain(&self.named).filter(|(p, _)| is_in(p)).peekable();
        match group_entries.peek() {
            // A single entry has to give all permissions: they are not added up.
            Some(_) => group_entries.any(|(_, rights)| has(*rights)),
            None => has(self.others),
        }
    }
}

/// The content of `system.posix_acl_access`, with the mask already applied.
#[derive(Debug, PartialEq, Eq)]
struct Acl {
    owner: u32,
    group: u32,
    others: u32,
    named: Vec<(Party, u32)>,
}

impl Acl {
    /// None if the form is not the one of acl(5) and the kernel.
    fn parse(bytes: &[u8]) -> Option<Self> {
        const VERSION: u32 = 2;
        let (version, entries) = bytes.split_first_chunk()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let (mut owner, mut group, mut others, mut mask) = (None, None, None, None);
        let mut named = Vec::new();
        for [t0, t1, p0, p1, id @ ..] in entries {
            let (tag, id) = (u16::from_le_bytes([*t0, *t1]), u32::from_le_bytes(*id));
            let rights = u32::from(u16::from_le_bytes([*p0, *p1]));
            let single = match tag {
                0x01 => &mut owner,
                0x04 => &mut group,
                0x10 => &mut mask,
                0x20 => &mut others,
                0x02 | 0x08 => {
                    let is_user = tag == 0x02;
                    let party = if is_user {
                        Party::User(Uid::from_raw(id))
                    } else {
                        Party::Group(Gid::from_raw(id))
                    };
                    named.push((party, rights));
                    continue;
                }
                _ => return None,
            };
            if rights > 7 || single.replace(rights).is_some() {
                return None;
            }
        }
        // An ACL without a mask must not name anybody.
        let mask = if named.is_empty() { mask.unwrap_or(7) } else { mask? };
        for (_, rights) in &mut named {
            *rights &= mask;
        }
        Some(Self { owner: owner?, group: group? & mask, others: others?, named })
    }
}

/// The ACL of `path`. None if it has none, or if its file system does not support ACLs.
#[cfg(target_os = "linux")]
fn read_acl(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use rustix::{fs::getxattr, io::Errno};

    const TYPICAL_SIZE: usize = 4 + 8 * 30;
    /// The maximum size of an extended attribute.
    const MAX_SIZE: usize = 64 << 10;

    for size in [TYPICAL_SIZE, MAX_SIZE] {
        let mut acl = vec![0; size];
        match getxattr(path, "system.posix_acl_access", acl.as_mut_slice()) {
            Ok(length) => {
                acl.truncate(length);
                return Ok(Some(acl));
            }
            Err(Errno::RANGE) => {}
            Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "its ACL is too large"))
}

#[cfg(not(target_os = "linux"))]
fn read_acl(_path: &Path) -> io::Result<Option<Vec<u8>>> {
    Ok(None)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const OWNER: u16 = 1;
    pub const USER: u16 = 2;
    const GROUP: u16 = 4;
    pub const NAMED_GROUP: u16 = 8;
    const MASK: u16 = 0x10;
    const OTHERS: u16 = 0x20;

    fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |(tag, rights, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        2_u32.to_le_bytes().into_iter().chain(entries.iter().flat_map(entry)).collect()
    }

    /// The bytes of an ACL with at most one named entry: rwx for the owner, and these permissions for the
    /// group and the mask.
    fn acl(group: u16, named: Option<(u16, u16, u32)>, mask: u16) -> Vec<u8> {
        let mut entries = vec![(OWNER, 7, u32::MAX)];
        entries.extend(named.filter(|(tag, ..)| *tag == USER));
        entries.push((GROUP, group, u32::MAX));
        entries.extend(named.filter(|(tag, ..)| *tag == NAMED_GROUP));
        entries.extend([(MASK, mask, u32::MAX), (OTHERS, 5, u32::MAX)]);
        bytes(&entries)
    }

    /// Gives `path` such an ACL. False if the file system does not support it.
    pub fn set_acl(path: &Path, group: u16, named: (u16, u16, u32), mask: u16) -> bool {
        let acl = acl(group, Some(named), mask);
        rustix::fs::setxattr(path, "system.posix_acl_access", &acl, rustix::fs::XattrFlags::empty()).is_ok()
    }

    #[test]
    fn the_mask_limits_named_users_and_groups() {
        let games = Party::User(Uid::from_raw(5));
        let parse_acl = |group, named, mask| Acl::parse(&acl(group, named, mask)).expect("an ACL");
        let parsed = parse_acl(5, Some((USER, 6, 5)), 7);
        assert_eq!((parsed.owner, parsed.group, parsed.others, parsed.named), (7, 5, 5, vec![(games, 6)]));
        let parsed = parse_acl(7, Some((NAMED_GROUP, 7, 5)), 5);
        assert_eq!((parsed.group, parsed.named), (5, vec![(Party::Group(Gid::from_raw(5)), 5)]));
        assert_eq!(parse_acl(7, None, 1).group, 1);
    }

    #[test]
    fn an_invalid_acl_is_rejected() {
        let required = [(OWNER, 7, 0), (GROUP, 5, 0), (OTHERS, 5, 0)];
        assert!(Acl::parse(&bytes(&required)).is_some(), "no mask, nobody named");
        let with = |entry| [&required[..], &[entry]].concat();
        for (entries, why) in [
            (required[1..].to_vec(), "no owner"),
            (with((USER, 7, 5)), "no mask"),
            (with((OWNER, 7, 0)), "two owners"),
            (with((0x40, 7, 0)), "an unknown tag"),
            (with((MASK, 8, 0)), "an unknown right"),
        ] {
            assert_eq!(Acl::parse(&bytes(&entries)), None, "{why}");
        }
        let complete = bytes(&required);
        assert_eq!(Acl::parse(&complete[..complete.len() - 1]), None, "cut");
        assert_eq!(Acl::parse(b""), None);
        let other_version = [&[3, 0, 0, 0], &complete[4..]].concat();
        assert_eq!(Acl::parse(&other_version), None);
    }

    #[test]
    fn the_first_matching_entry_decides() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let rights = |owner, group, others, named: &[(Party, u32)]| Rights {
            metadata: file.path().metadata().expect("there"),
            owner,
            group,
            others,
            named: named.to_vec(),
        };
        let (own, own_group) = (rights(0, 0, 0, &[]).owner(), rights(0, 0, 0, &[]).owning_group());
        let (user, group) = (Uid::from_raw(54_321), Gid::from_raw(54_321));
        let identity = |uid, groups: &[Gid]| Identity { name: String::new(), uid, groups: groups.to_vec() };
        assert!(!rights(0, 7, 7, &[]).allow(&identity(own, &[own_group]), READ), "the owner");
        assert!(!rights(7, 0, 7, &[]).allow(&identity(user, &[own_group]), READ), "the group");
        assert!(rights(0, 0, 5, &[]).allow(&identity(user, &[group]), READ | EXECUTE), "others");
        let named = [(Party::User(user), 4), (Party::Group(group), 1)];
        assert!(rights(0, 0, 0, &named).allow(&identity(user, &[group]), READ), "a named user");
        assert!(!rights(7, 7, 7, &named).allow(&identity(user, &[group]), EXECUTE), "and no more");
        let other = identity(Uid::from_raw(54_322), &[own_group, group]);
        assert!(rights(0, 0, 0, &named).allow(&other, EXECUTE), "a named group");
        assert!(!rights(0, 4, 7, &named).allow(&other, READ | EXECUTE), "not added up");
    }
}
