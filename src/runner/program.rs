//! How the system starts a file: by its `#!` line, or as a program of this machine.
//!
//! A file that the system cannot start is found before an event meets it, and the error says what to change. Where only
//! the system itself can tell (an emulator may be registered for a foreign program), it is asked, and [`explain`] says
//! what its error number means.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    io::Errno,
};

/// So much of a file Linux looks at to find out how to start it.
const HEAD: usize = 256;
/// An empty file may be one that is just being copied there.
const COPIED: Duration = Duration::from_secs(5);
/// Their options may end with the carriage return of a Windows line.
const READ_CRLF: [&str; 2] = ["perl", "ruby"];

const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";
const UTF16_BOMS: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];
const ELF: &[u8] = b"\x7FELF";
/// The numbers of machines in an ELF header.
const MACHINES: [(u16, &str); 7] = [
    (3, "x86"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

/// What keeps a file from being started; it follows the file's name in a sentence.
#[derive(Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// It stays until somebody edits the file or moves it.
    Lasting(String),
    /// It may pass by itself: something is not there now, or not on this machine.
    Passing(String),
}

use Hindrance::{Lasting, Passing};

/// What a file is to the system.
#[derive(Debug, PartialEq, Eq)]
enum Format<'a> {
    Empty,
    /// The interpreter's path, and all that follows it on the line, as one argument.
    Script(&'a [u8], &'a [u8]),
    /// Text that the system cannot start, and why.
    Text(&'static str),
    Program,
    /// A binary that is not of this machine, and what it is.
    Foreign(String),
}

/// What keeps `file` from being started. `path` is the PATH that scripts get. A file that cannot be read has none that
/// is known: a program need not be readable.
pub fn hindrance(file: &Path, path: &OsStr) -> Option<Hindrance> {
    if let Some(why) = noexec(file) {
        return Some(Lasting(why));
    }
    let head = read_head(file)?;
    match Format::of(&head) {
        Format::Program | Format::Foreign(_) => None,
        Format::Text(why) => Some(Lasting(why.to_owned())),
        Format::Empty if was_just_changed(file) => Some(Passing("is empty just now".to_owned())),
        Format::Empty => Some(Lasting("is empty".to_owned())),
        Format::Script(interpreter, argument) => wrong_line(interpreter, argument, path),
    }
}

/// What `file` is, if it is no program of this machine and no script: an emulator may run it all the same.
pub fn foreign(file: &Path) -> Option<String> {
    match Format::of(&read_head(file)?) {
        Format::Foreign(what) => Some(what),
        _ => None,
    }
}

/// Why the system did not start `file`, and what to do.
pub fn explain(file: &Path, error: &io::Error) -> String {
    let head = read_head(file).unwrap_or_default();
    let why = match (Errno::from_io_error(error), Format::of(&head)) {
        (Some(Errno::NOEXEC), Format::Foreign(what)) => {
            format!("it is {what}, and this machine is {}: build it for this one", env::consts::ARCH)
        }
        (Some(Errno::NOEXEC), Format::Text(why)) => format!("it {why}"),
        (Some(Errno::NOEXEC), Format::Empty) => "it is empty".to_owned(),
        (Some(Errno::NOEXEC), _) => {
            "it, or the interpreter of its #! line, is no program for this machine".to_owned()
        }
        (Some(Errno::NOENT), Format::Program) => {
            "the loader that it was linked for is not there: was it built for another C library?".to_owned()
        }
        (Some(Errno::NOENT), _) => "is the interpreter of its #! line there?".to_owned(),
        (Some(Errno::ACCESS), _) => {
            "the user that scripts run as must be able to read and execute it and its \
            interpreter, and to search each directory above them"
                .to_owned()
        }
        _ => return format!("{}: {error}", file.display()),
    };
    format!("{}: {error}: {why}", file.display())
}

/// Whether the system said that it does not know how to start this file, which it will say for ever.
pub fn is_lasting(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOEXEC)
}

impl<'a> Format<'a> {
    fn of(head: &'a [u8]) -> Self {
        let body = head.strip_prefix(UTF8_BOM);
        if head.is_empty() {
            Self::Empty
        } else if let Some(line) = head.strip_prefix(b"#!") {
            Self::of_line(line)
        } else if body.is_some() {
            Self::Text("begins with a byte order mark (BOM): save it as UTF-8 without one")
        } else if UTF16_BOMS.iter().any(|bom| head.starts_with(bom)) {
            Self::Text("is UTF-16 text: save it as UTF-8 without a byte order mark (BOM)")
        } else if head.starts_with(ELF) {
            Self::of_elf(head)
        } else if head.contains(&0) {
            Self::Foreign("no program that Linux knows".to_owned())
        } else if head.trim_ascii_start().starts_with(b"#!") {
            Self::Text("has something before its #! line: these must be its very first two characters")
        } else {
            Self::Text(
                "has no #! line, which says what runs it: its first line must be such as #!/bin/sh or \
                 #!/usr/bin/env python3",
            )
        }
    }

    fn of_line(rest: &'a [u8]) -> Self {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
        let line = line.get(start..).unwrap_or_default();
        let Some(blank) = line.iter().position(is_blank) else {
            if end.is_none() && rest.len() + 2 >= HEAD {
                return Self::Text("has a #! line that is longer than the 255 bytes which Linux reads");
            }
            return Self::Script(line, b"");
        };
        let (interpreter, argument) = line.split_at(blank);
        let is_kept = |byte: &u8| !is_blank(byte);
        let first = argument.iter().position(is_kept).unwrap_or(argument.len());
        let last = argument.iter().rposition(is_kept).map_or(first, |last| last + 1);
        Self::Script(interpreter, argument.get(first..last).unwrap_or_default())
    }

    fn of_elf(head: &[u8]) -> Self {
        let (Some(order), Some(&[a, b])) = (head.get(5), head.get(18..20)) else {
            return Self::Foreign("a program that was cut off".to_owned());
        };
        let number = if *order == 2 { u16::from_be_bytes([a, b]) } else { u16::from_le_bytes([a, b]) };
        let name = MACHINES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        // Mostly a machine also runs the programs of its 32-bit ancestor.
        let runs = match env::consts::ARCH {
            "x86_64" => &["x86_64", "x86"][..],
            "aarch64" => &["aarch64", "arm"],
            own => &[own],
        };
        match name {
            Some(name) if !runs.contains(&name) => Self::Foreign(format!("a program for {name}")),
            _ => Self::Program,
        }
    }
}

/// What is wrong with a `#!` line.
fn wrong_line(interpreter: &[u8], argument: &[u8], path: &OsStr) -> Option<Hindrance> {
    let carriage_return = || {
        let why =
            "has Windows line ends (a carriage return ends its #! line): save it with Unix line ends (LF)";
        Some(Lasting(why.to_owned()))
    };
    if interpreter.is_empty() || interpreter == b"\r" {
        return Some(Lasting("names no interpreter in its #! line".to_owned()));
    }
    let program = Path::new(OsStr::from_bytes(interpreter));
    if program.is_relative() {
        let why = format!("names {} in its #! line: the path must begin with /", quoted(interpreter));
        return Some(Lasting(why));
    }
    match fs::metadata(program) {
        Err(error) if is_missing(&error) && interpreter.ends_with(b"\r") => return carriage_return(),
        Err(error) if is_missing(&error) => {
            return Some(Passing(format!(
                "names {} in its #! line, which is not there: install it, or correct the line",
                quoted(interpreter)
            )));
        }
        // Who runs scripts may see more.
        Err(_) => return None,
        Ok(metadata) if !metadata.is_file() => {
            return Some(Lasting(format!(
                "names {} in its #! line, which is no program",
                quoted(interpreter)
            )));
        }
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
            return Some(Passing(format!(
                "names {} in its #! line, which is not executable (chmod +x)",
                quoted(interpreter)
            )));
        }
        Ok(_) => {}
    }
    if let Some(why) = noexec(program) {
        return Some(Lasting(format!("names {} in its #! line, which {why}", quoted(interpreter))));
    }
    let name = program.file_name().unwrap_or_default().as_bytes();
    if name == b"env" {
        return wrong_env(argument, path);
    }
    let reads_it = READ_CRLF.iter().any(|known| name.starts_with(known.as_bytes()));
    if argument.ends_with(b"\r") && !reads_it { carriage_return() } else { None }
}

/// What is wrong with a program that `env` is to find.
fn wrong_env(argument: &[u8], path: &OsStr) -> Option<Hindrance> {
    let program = env_program(argument)?;
    if is_found(program, path) {
        return None;
    }
    if program.ends_with(b"\r") {
        return wrong_line(b"/\r", b"", path);
    }
    if program.contains(&b' ') || program.contains(&b'\t') {
        return Some(Lasting(format!(
            "asks env in its #! line for a program called {}: only env -S splits arguments",
            quoted(program)
        )));
    }
    Some(Passing(format!(
        "asks env in its #! line for {}, which is not in PATH ({}): install it, or set PATH in script.env",
        quoted(program),
        path.display()
    )))
}

/// The program that `env` starts, if that is plain from its one argument.
fn env_program(argument: &[u8]) -> Option<&[u8]> {
    let Some(split) = argument.strip_prefix(b"-S") else {
        return (!argument.is_empty() && !argument.starts_with(b"-") && !argument.contains(&b'='))
            .then_some(argument);
    };
    if split.iter().any(|byte| b"'\"\\$#".contains(byte)) {
        return None;
    }
    let mut words = split.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.find(|word| !word.contains(&b'=')).filter(|word| !word.starts_with(b"-"))
}

fn is_found(program: &[u8], path: &OsStr) -> bool {
    let is_program = |file: PathBuf| {
        fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let program = Path::new(OsStr::from_bytes(program));
    if program.components().count() > 1 {
        // A relative one would be looked for in an empty directory.
        return program.is_absolute() && is_program(program.to_owned());
    }
    env::split_paths(path).any(|dir| is_program(dir.join(program)))
}

/// The PATH that scripts get, of which `script.env` (`listed`) has the last word.
pub fn search_path(listed: &[String]) -> OsString {
    let set = listed.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    // What execvp(3) takes for one that is not set.
    set.map(OsString::from).or_else(|| env::var_os("PATH")).unwrap_or_else(|| "/bin:/usr/bin".into())
}

fn noexec(file: &Path) -> Option<String> {
    let mount = statvfs(file).ok()?;
    mount.f_flag.contains(StatVfsMountFlags::NOEXEC).then(|| {
        "lies on a file system that is mounted noexec: move it to another, or mount that one without noexec"
            .to_owned()
    })
}

fn read_head(file: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(file).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

fn was_just_changed(file: &Path) -> bool {
    let changed = fs::metadata(file).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < COPIED))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn quoted(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests;
