//! Which file a script path means, and whether it may be run.
//!
//! Looked at on every attempt: files and links change without us. The few look-ups are made on the
//! spot, as starting the script makes the same ones again in any case.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

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

/// The file that `path` means, links resolved: under one of `roots`, executable, and not writable by
/// others, nor is any directory above it.
///
/// It is executed by this name, in which no link is left to be changed after the look: between look and start it can be
/// replaced only by who may write to its directories, and they may put there what they like anyway. (Executing
/// the open file instead would tell a `#!` script `/dev/fd/3` for its own name.)
pub fn locate(roots: &[PathBuf], path: &ScriptPath) -> Result<PathBuf, NotRunnable> {
    let path = Path::new(path.as_str());
    if roots.is_empty() {
        return Err(NotRunnable::Refused(
            "script.roots is empty; list there the directories whose scripts may be run".to_owned(),
        ));
    }
    let file = resolve(roots, path)?;
    // A root that is not there holds nothing.
    let under_a_root = roots
        .iter()
        .filter_map(|root| root.canonicalize().ok())
        .any(|root| file != root && file.starts_with(root));
    if !under_a_root {
        return Err(NotRunnable::Refused(format!(
            "{} lies outside of script.roots ({})",
            meaning(path, &file),
            list(roots)
        )));
    }
    let metadata = fs::metadata(&file).map_err(|error| unavailable(&file, &error))?;
    let mode = metadata.permissions().mode();
    let wrong = if !metadata.is_file() {
        "is not a regular file"
    } else if mode & 0o111 == 0 {
        "is not executable (chmod +x)"
    } else if mode & OTHERS_WRITE != 0 {
        "may be written by others (chmod o-w)"
    } else {
        return replaceable(&file)?.map_or(Ok(file.clone()), |dir| {
            Err(NotRunnable::Refused(format!(
                "{} could be replaced by anybody: others may write to {} (chmod o-w)",
                meaning(path, &file),
                dir.display()
            )))
        });
    };
    Err(NotRunnable::Refused(format!("{} {wrong}", meaning(path, &file))))
}

/// A directory above `file` in which others may put something in its place. With the sticky bit they may not.
fn replaceable(file: &Path) -> Result<Option<PathBuf>, NotRunnable> {
    for dir in file.ancestors().skip(1) {
        let metadata = fs::metadata(dir).map_err(|error| unavailable(dir, &error))?;
        let mode = metadata.permissions().mode();
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Ok(Some(dir.to_owned()));
        }
    }
    Ok(None)
}

/// An absolute path means itself, a relative one the first that exists under a root.
fn resolve(roots: &[PathBuf], path: &Path) -> Result<PathBuf, NotRunnable> {
    if path.is_absolute() {
        return path.canonicalize().map_err(|error| unavailable(path, &error));
    }
    for root in roots {
        match root.join(path).canonicalize() {
            Ok(file) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unavailable(&root.join(path), &error)),
        }
    }
    Err(NotRunnable::Unavailable(format!("there is no {} under {}", path.display(), list(roots))))
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
    use std::os::unix::fs::symlink;

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
        let look = |path: &str| {
            let path = path.parse().expect("a path");
            locate(&roots, &path).map(|file| file.strip_prefix(&base).expect("inside").to_owned())
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
}
