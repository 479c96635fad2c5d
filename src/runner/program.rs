//! How the system starts a file: by its `#!` line, or as a program of this machine.
//!
//! A file that the system cannot start is detected before an event needs it, and the error says what to
//! change. Some cases only the system itself can decide (an emulator may be registered for a foreign
//! program). Then the start is tried, and [`explain`] says what the error number means.

mod elf;
mod line;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    io::Errno,
};

use super::barrier::own_barrier;

/// How many bytes of a file Linux reads to find out how to start it.
const HEAD: usize = 256;
/// An incomplete file that changed within this time may be in the middle of a copy.
const COPY_GRACE: Duration = Duration::from_secs(5);
/// How many files that begin with `#!` Linux follows from one to the next, including the script itself.
const MAX_SCRIPTS: usize = 5;

const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";
const UTF16_BOMS: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];
/// `#!` in UTF-16, without a byte order mark.
const UTF16_SCRIPTS: [&[u8]; 2] = [b"#\0!\0", b"\0#\0!"];
/// The first bytes of files that are often mistaken for programs.
const FOREIGN: [(&[u8], &str); 7] = [
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1F\x8B", "a file compressed by gzip"),
    (b"\xFE\xED\xFA\xCE", "a program for macOS"),
    (b"\xFE\xED\xFA\xCF", "a program for macOS"),
    (b"\xCE\xFA\xED\xFE", "a program for macOS"),
    (b"\xCF\xFA\xED\xFE", "a program for macOS"),
    (b"\xCA\xFE\xBA\xBE", "a program for macOS, or a Java class"),
];
const PROGRAM_FOR: &str = "a program for ";
const ELF: &[u8] = b"\x7FELF";
/// The machine numbers in an ELF header.
const MACHINES: [(u16, &str); 7] = [
    (3, "x86"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

/// What prevents a file from being started. The text follows the file's name in a sentence.
#[derive(Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// It stays until somebody edits or moves the file.
    Lasting(String),
    /// It may go away by itself: something is missing now, or only on this machine.
    Passing(String),
}

use Hindrance::{Lasting, Passing};

/// What a file is for the system.
#[derive(Debug, PartialEq, Eq)]
enum Format<'a> {
    Empty,
    /// Zero bytes, which a file system leaves where space was reserved and not written.
    Zeros,
    /// The interpreter's path, and the rest of the line as one argument.
    Script(&'a [u8], &'a [u8]),
    /// Text that the system cannot start, with the reason.
    Text(&'static str),
    Program,
    /// A binary that is not for this machine, with its description.
    Foreign(String),
}

/// A file that is opened to start a script.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// With links resolved, if that was possible.
    pub file: PathBuf,
    /// Whether its interpreter reads it. A program need not be readable.
    pub is_read: bool,
}

/// The files that are opened to start a script.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StartFiles {
    /// The script, its interpreter, the interpreter's interpreter, and so on.
    pub needed: Vec<Opened>,
    /// The programs that `env` finds in PATH. One of them is enough.
    pub choice: Vec<Opened>,
}

/// What prevents `file` from being started. `path` is the PATH of scripts. For a file that cannot be read the
/// result is None, because a program need not be readable.
pub fn hindrance(file: &Path, path: &OsStr) -> Option<Hindrance> {
    if let Some(why) = noexec(file) {
        return Some(Lasting(why));
    }
    let incomplete = |problem: &str| {
        if was_just_changed(file) {
            Passing(format!("{problem}: it was changed just now, and may be incomplete"))
        } else {
            Lasting(problem.to_owned())
        }
    };
    let head = read_head(file)?;
    match Format::of(&head) {
        Format::Program => elf::hindrance(file),
        Format::Foreign(_) => None,
        Format::Text(why) => Some(Lasting(why.to_owned())),
        Format::Empty => Some(incomplete("is empty")),
        Format::Zeros => Some(incomplete("contains only zero bytes")),
        Format::Script(interpreter, argument) => line::wrong_line(interpreter, argument, path),
    }
}

/// What prevents the interpreter of a script, which may be a script itself, from being started.
fn nested_hindrance(interpreter: &Path, path: &OsStr) -> Option<Hindrance> {
    let scripts = start_files(interpreter, path).needed.iter().filter(|opened| opened.is_read).count();
    if scripts >= MAX_SCRIPTS {
        let why = "is a script whose interpreter is a script, and so on: Linux follows at most four \
            (is a script its own interpreter?)";
        return Some(Lasting(why.to_owned()));
    }
    hindrance(interpreter, path)
}

/// The files that are opened to start `file`, as far as they are known. `path` is the PATH of scripts.
pub fn start_files(file: &Path, path: &OsStr) -> StartFiles {
    let opened = |file: PathBuf, is_read| Opened { file: file.canonicalize().unwrap_or(file), is_read };
    let mut files = StartFiles::default();
    let mut next = Some(file.to_owned());
    while let Some(file) = next.take().filter(|_| files.needed.len() <= MAX_SCRIPTS) {
        let head = read_head(&file).unwrap_or_default();
        let Format::Script(interpreter, argument) = Format::of(&head) else {
            files.needed.push(opened(file, false));
            break;
        };
        files.needed.push(opened(file, true));
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        if interpreter.file_name().is_some_and(|name| name == "env") {
            let candidates = line::env_candidates(argument, path).into_iter();
            files.choice = candidates.map(|program| opened(program, false)).collect();
        }
        next = interpreter.is_absolute().then(|| interpreter.to_owned());
    }
    files
}

/// What `file` is, if it is neither a program for this machine nor a script. An emulator may still run it.
pub fn foreign(file: &Path) -> Option<String> {
    match Format::of(&read_head(file)?) {
        Format::Foreign(description) => Some(description),
        _ => None,
    }
}

/// Why the system did not start `file`, and what to do.
pub fn explain(file: &Path, error: &io::Error) -> String {
    let head = read_head(file).unwrap_or_default();
    let why = match (Errno::from_io_error(error), Format::of(&head)) {
        (Some(Errno::NOEXEC), Format::Foreign(description)) if description.starts_with(PROGRAM_FOR) => {
            format!(
                "it is {description}, and this machine is Linux on {}: build it for this machine",
                env::consts::ARCH
            )
        }
        (Some(Errno::NOEXEC), Format::Foreign(description)) => format!("it is {description}"),
        (Some(Errno::NOEXEC), Format::Text(why)) => format!("it {why}"),
        (Some(Errno::NOEXEC), Format::Empty) => "it is empty".to_owned(),
        (Some(Errno::NOEXEC), _) => {
            "it, or the interpreter of its #! line, is not a program for this machine".to_owned()
        }
        (Some(Errno::NOENT), Format::Program) => {
            "the loader that it needs does not exist: was it built for another C library?".to_owned()
        }
        (Some(Errno::NOENT), _) => "does the interpreter of its #! line exist?".to_owned(),
        (Some(Errno::LOOP), _) => "is the script its own interpreter?".to_owned(),
        (Some(Errno::ACCESS), _) => own_barrier(file).unwrap_or_else(|| {
            "the user that scripts run as must be able to read and execute it and its \
            interpreter, and to search each directory above them"
                .to_owned()
        }),
        _ => return format!("{}: {error}", file.display()),
    };
    format!("{}: {error}: {why}", file.display())
}

/// Whether the error stays until somebody edits the file or its permissions: the system does not know how to
/// start it, may not, or finds an endless chain of interpreters.
pub fn is_lasting(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOEXEC | Errno::ACCESS | Errno::LOOP))
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
        } else if UTF16_SCRIPTS.iter().any(|start| head.starts_with(start)) {
            Self::Text("is UTF-16 text: save it as UTF-8")
        } else if head.starts_with(ELF) {
            Self::of_elf(head)
        } else if head.iter().all(|byte| *byte == 0) {
            Self::Zeros
        } else if let Some((_, description)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
            Self::Foreign((*description).to_owned())
        } else if head.contains(&0) {
            let is_windows = head.starts_with(b"MZ");
            Self::Foreign(
                if is_windows { "a program for Windows" } else { "not a program that Linux knows" }
                    .to_owned(),
            )
        } else if head.trim_ascii_start().starts_with(b"#!") {
            Self::Text("has something before its #! line: #! must be the first two characters of the file")
        } else {
            Self::Text(
                "has no #! line, which names the interpreter: add a first line such as #!/bin/sh or \
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
        if line.trim_ascii_end().contains(&b'\r') {
            return Self::Text(
                "has a carriage return in the middle of its first line, as with old Mac line endings (CR): save it \
                 with Unix line endings (LF)",
            );
        }
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
            return Self::Program;
        };
        let number = if *order == 2 { u16::from_be_bytes([a, b]) } else { u16::from_le_bytes([a, b]) };
        let name = MACHINES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        // Most machines also run the programs of their 32-bit predecessor.
        let runs = match env::consts::ARCH {
            "x86_64" => &["x86_64", "x86"][..],
            "aarch64" => &["aarch64", "arm"],
            own => &[own],
        };
        match name {
            Some(name) if !runs.contains(&name) => Self::Foreign(format!("{PROGRAM_FOR}{name}")),
            _ => Self::Program,
        }
    }
}

/// The PATH of scripts. The last `PATH=` in `script.env` (`script_env`) wins over the PATH of this process.
pub fn search_path(script_env: &[String]) -> OsString {
    let configured = script_env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    // What execvp(3) uses if PATH is not set.
    configured.map(OsString::from).or_else(|| env::var_os("PATH")).unwrap_or_else(|| "/bin:/usr/bin".into())
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
    changed.is_ok_and(|modified_at| {
        SystemTime::now().duration_since(modified_at).is_ok_and(|age| age < COPY_GRACE)
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn quoted(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests;
