//! A disk of PostgreSQL that can be full: a file system of its own, with a tablespace on it.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;

use super::{World, query};

/// Room for what the long form writes, and its indexes.
const SIZE: &str = "768m";

/// Unmounted when it is dropped.
pub struct SmallDisk {
    dir: TempDir,
    tablespace: String,
    admin_url: String,
}

impl SmallDisk {
    /// Makes the database of `world` on a disk of its own. None, and said so, where this user may not mount one.
    pub async fn with_database_of(world: &World) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        // PostgreSQL is another user.
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("allowed");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE},mode=755"), "provisiond-test"])
            .arg(dir.path())
            .output();
        if !mounted.as_ref().is_ok_and(|mount| mount.status.success()) {
            println!(
                "skipped: a disk that can be full has to be mounted, which this user may not: {mounted:?}"
            );
            return None;
        }
        let disk = Self {
            dir,
            tablespace: format!("small_{}", world.database()),
            admin_url: world.admin_url.clone(),
        };
        let row = &query(&disk.admin_url, "SHOW data_directory", &[]).await[0];
        let owner = fs::metadata(row.get::<_, String>(0)).expect("PostgreSQL's directory");
        let home = disk.dir.path().join("postgres");
        fs::create_dir(&home).expect("made");
        chown(&home, Some(owner.uid()), Some(owner.gid())).expect("given away");
        let (database, tablespace) = (world.database(), &disk.tablespace);
        world.admin(&format!("CREATE TABLESPACE {tablespace} LOCATION '{}'", home.display())).await;
        world.admin(&format!("CREATE DATABASE {database} TABLESPACE {tablespace}")).await;
        Some(disk)
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Leaves no room.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a file");
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }

    /// Gives the tablespace up; its database is gone.
    pub async fn leave(self) {
        // A crash must not find anything of it to be done again.
        query(&self.admin_url, "CHECKPOINT", &[]).await;
        query(&self.admin_url, &format!("DROP TABLESPACE {}", self.tablespace), &[]).await;
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}
