//! Checks that a program for this machine is complete and that its loader exists.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

use super::{
    Hindrance::{self, Lasting, Passing},
    is_missing, noexec, was_just_changed,
};

const RELOCATABLE: u64 = 1;
const SHARED: u64 = 3;
const CORE: u64 = 4;

const LOAD: u64 = 1;
const INTERPRETER: u64 = 3;

/// The offset and the size of a number, in bytes.
type Field = (usize, usize);

/// The fields that are read here, of the file's header and of its program headers.
struct Layout {
    size: usize,
    entry: Field,
    table: Field,
    entry_size: Field,
    entries: Field,
    offset: Field,
    length: Field,
}

const BITS_32: Layout = Layout {
    size: 52,
    entry: (24, 4),
    table: (28, 4),
    entry_size: (42, 2),
    entries: (44, 2),
    offset: (4, 4),
    length: (16, 4),
};
const BITS_64: Layout = Layout {
    size: 64,
    entry: (24, 8),
    table: (32, 8),
    entry_size: (54, 2),
    entries: (56, 2),
    offset: (8, 8),
    length: (32, 8),
};

/// What prevents an ELF file from being started, as far as that is known.
pub fn hindrance(path: &Path) -> Option<Hindrance> {
    let file = File::open(path).ok()?;
    let cut_off = || {
        let why = "is an incomplete program file: copy it again";
        Some(if was_just_changed(path) { Passing(why.to_owned()) } else { Lasting(why.to_owned()) })
    };
    let no_program =
        |description: &str| Some(Lasting(format!("is {description}, not a program that can be started")));
    let size = file.metadata().ok()?.len();
    let mut header = [0; BITS_64.size];
    let read = file.read_at(&mut header, 0).ok()?;
    let (is_64, is_big) = (header[4] == 2, header[5] == 2);
    let layout = if is_64 { BITS_64 } else { BITS_32 };
    if read < layout.size {
        return cut_off();
    }
    let field = |field| number(&header, field, is_big);
    let kind = field((16, 2))?;
    match kind {
        RELOCATABLE => return no_program("an object file"),
        CORE => return no_program("a core dump"),
        _ => {}
    }
    let (table, entry_size, entries) =
        (field(layout.table)?, field(layout.entry_size)?, field(layout.entries)?);
    let mut loader = None;
    for n in 0..entries {
        let mut segment = vec![0; usize::try_from(entry_size).ok()?];
        if file.read_exact_at(&mut segment, table.checked_add(n * entry_size)?).is_err() {
            return cut_off();
        }
        let (start, length) =
            (number(&segment, layout.offset, is_big)?, number(&segment, layout.length, is_big)?);
        match number(&segment, (0, 4), is_big)? {
            LOAD | INTERPRETER if start.checked_add(length)? > size => return cut_off(),
            INTERPRETER => loader = Some((start, length)),
            _ => {}
        }
    }
    match loader {
        Some((start, length)) => {
            let mut name = vec![0; usize::try_from(length.min(4096)).ok()?];
            file.read_exact_at(&mut name, start).ok()?;
            wrong_loader(name.strip_suffix(b"\0").unwrap_or(&name))
        }
        None if kind == SHARED && field(layout.entry)? == 0 => no_program("a shared library"),
        None => None,
    }
}

fn wrong_loader(name: &[u8]) -> Option<Hindrance> {
    let loader = Path::new(OsStr::from_bytes(name));
    let needs = || format!("needs the loader {}, which", loader.display());
    match fs::metadata(loader) {
        Err(error) if is_missing(&error) => Some(Passing(format!(
            "{} is not there: install it, or build the program for this system's C library",
            needs()
        ))),
        Err(_) => None,
        Ok(_) => noexec(loader).map(|why| Lasting(format!("{} {why}", needs()))),
    }
}

fn number(bytes: &[u8], (offset, size): Field, is_big: bool) -> Option<u64> {
    let bytes = bytes.get(offset..offset + size)?.iter();
    let add = |sum, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if is_big { bytes.fold(0, add) } else { bytes.rev().fold(0, add) })
}
