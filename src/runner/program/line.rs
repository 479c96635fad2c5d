//! Checks a `#!` line, and the arguments of programs that start another program, such as `env`.
//!
//! The system passes the rest of the line after the interpreter as one argument, and the script's path after
//! it. So a wrapper that is given no program starts the script, which starts the wrapper, and so on until the
//! timeout.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    Hindrance::{self, Lasting, Passing},
    is_missing, nested_hindrance, noexec, quoted,
};

/// Interpreters whose options may end with the carriage return of a Windows line.
const ACCEPT_CRLF: [&str; 2] = ["perl", "ruby"];

/// Programs other than `env` that start the program which their arguments name.
const WRAPPERS: [&str; 20] = [
    "chroot", "chrt", "doas", "flock", "gosu", "ionice", "ltrace", "nice", "nohup", "prlimit", "setpriv",
    "setsid", "stdbuf", "strace", "sudo", "taskset", "time", "timeout", "unshare", "xargs",
];
/// Wrappers whose first argument is a value, never the program.
const TAKE_VALUE: [&str; 6] = ["chroot", "chrt", "flock", "gosu", "taskset", "timeout"];
/// The directories of wrappers. Elsewhere a program with such a name may be anything.
const SYSTEM_DIRS: [&str; 5] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"];
/// Programs that contain many others. The argument names one of them.
const MULTI_CALL: [&str; 2] = ["busybox", "toybox"];

const ONE_ARGUMENT: &str = "the system passes everything after the interpreter as one argument, so write \
    #!/usr/bin/env NAME, or #!/usr/bin/env -S followed by options, variables, the program and its arguments";

/// What is wrong with a `#!` line.
pub fn wrong_line(interpreter: &[u8], argument: &[u8], path: &OsStr) -> Option<Hindrance> {
    if interpreter.is_empty() || interpreter == b"\r" {
        return Some(Lasting("names no interpreter in its #! line".to_owned()));
    }
    let program = Path::new(OsStr::from_bytes(interpreter));
    if program.is_relative() {
        let why = format!("names {} in its #! line: the path must begin with /", quoted(interpreter));
        return Some(Lasting(why));
    }
    match wrong_interpreter(interpreter, program, path) {
        Err(hindrance) => return Some(hindrance),
        // The user of scripts may see more than this process.
        Ok(false) => return None,
        Ok(true) => {}
    }
    let name = program.file_name().unwrap_or_default();
    if name == "env" {
        return wrong_env(argument, path);
    }
    if let Some(wrapper) = wrapper(program) {
        return wrong_wrapper(wrapper, argument, path);
    }
    let applet = Path::new(OsStr::from_bytes(argument));
    let is_multi_call = MULTI_CALL.iter().any(|known| name == *known);
    if is_multi_call && (argument == b"env" || WRAPPERS.iter().any(|known| applet == Path::new(known))) {
        return Some(starts_itself(&applet.display().to_string()));
    }
    let accepts_crlf = ACCEPT_CRLF.iter().any(|known| name.as_bytes().starts_with(known.as_bytes()));
    if argument.ends_with(b"\r") && !accepts_crlf { Some(carriage_return()) } else { None }
}

/// Whether the interpreter could be examined. The error says what is wrong with it.
fn wrong_interpreter(interpreter: &[u8], program: &Path, path: &OsStr) -> Result<bool, Hindrance> {
    let which = |why: &str| format!("names {} in its #! line, which {why}", quoted(interpreter));
    let metadata = match fs::metadata(program) {
        Err(error) if is_missing(&error) && interpreter.ends_with(b"\r") => return Err(carriage_return()),
        Err(error) if is_missing(&error) => {
            return Err(Passing(which("is not there: install it, or correct the line")));
        }
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(Lasting(which("is a link that leads to itself")));
        }
        Err(_) => return Ok(false),
        Ok(metadata) => metadata,
    };
    if !metadata.is_file() {
        return Err(Lasting(which("is not a program")));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Passing(which("is not executable (chmod +x)")));
    }
    match nested_hindrance(program, path) {
        Some(Lasting(why)) => Err(Lasting(which(&why))),
        Some(Passing(why)) => Err(Passing(which(&why))),
        None => Ok(true),
    }
}

fn carriage_return() -> Hindrance {
    let why = "has Windows line endings (its #! line ends with a carriage return): save it with Unix line \
        endings (LF)";
    Lasting(why.to_owned())
}

fn starts_itself(wrapper: &str) -> Hindrance {
    Lasting(format!(
        "has a #! line that names no program for {wrapper} to start, so {wrapper} would start the \
         script itself again and again, or fail: {ONE_ARGUMENT}"
    ))
}

/// The name of the wrapper, if `program` is one in a directory of the system.
fn wrapper(program: &Path) -> Option<&'static str> {
    let (dir, name) = (program.parent()?, program.file_name()?);
    let is_of_system = SYSTEM_DIRS.iter().any(|known| dir == Path::new(known));
    WRAPPERS.into_iter().find(|known| is_of_system && name == *known)
}

/// What is wrong with the one argument of a wrapper.
fn wrong_wrapper(wrapper: &str, argument: &[u8], path: &OsStr) -> Option<Hindrance> {
    if TAKE_VALUE.contains(&wrapper) || !may_be_program(argument) {
        return Some(starts_itself(wrapper));
    }
    missing_program(wrapper, argument, path)
}

/// Whether `word` may name a program: it is not an option, a variable or a number.
fn may_be_program(word: &[u8]) -> bool {
    let is_value = word.first().is_some_and(u8::is_ascii_digit)
        && word.iter().all(|byte| byte.is_ascii_hexdigit() || b".xsmhd,-".contains(byte));
    !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'=') && !is_value
}

/// What is wrong with the argument of `env`.
fn wrong_env(argument: &[u8], path: &OsStr) -> Option<Hindrance> {
    match parse_env_argument(argument) {
        Starts::Program(words) => match words.split_first() {
            Some((program, rest)) if is_idle_wrapper(program, rest) => {
                Some(starts_itself(&String::from_utf8_lossy(program)))
            }
            Some((program, _)) => missing_program("env", program, path),
            None => None,
        },
        Starts::Itself => Some(starts_itself("env")),
        Starts::Fails(why) => Some(Lasting(format!("has a #! line with {why}: {ONE_ARGUMENT}"))),
        Starts::Unknown => None,
    }
}

/// Whether `env` starts a wrapper that is itself given no program.
fn is_idle_wrapper(program: &[u8], rest: &[Vec<u8>]) -> bool {
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_wrapper = name == b"env" || WRAPPERS.iter().any(|known| known.as_bytes() == name);
    is_wrapper && !rest.iter().any(|word| may_be_program(word))
}

/// What is wrong with a program that `wrapper` has to find.
fn missing_program(wrapper: &str, program: &[u8], path: &OsStr) -> Option<Hindrance> {
    let files = candidates(program, path);
    let intro = || format!("uses {wrapper} in its #! line to start");
    if let Some(first) = files.first() {
        let why = noexec(first)?;
        let is_elsewhere = files.iter().any(|program| noexec(program).is_none());
        return (!is_elsewhere)
            .then(|| Lasting(format!("{} {}, and {} {why}", intro(), quoted(program), first.display())));
    }
    if program.ends_with(b"\r") {
        return Some(carriage_return());
    }
    if program.contains(&b' ') || program.contains(&b'\t') {
        return Some(Lasting(format!(
            "{} a program called {}: only env -S splits arguments",
            intro(),
            quoted(program)
        )));
    }
    Some(Passing(format!(
        "{} {}, which is not in PATH ({}): install it, or set PATH in script.env",
        intro(),
        quoted(program),
        path.display()
    )))
}

/// The candidates for `env` with this argument of a `#!` line. It starts the first that it may execute.
pub fn env_candidates(argument: &[u8], path: &OsStr) -> Vec<PathBuf> {
    match parse_env_argument(argument) {
        Starts::Program(words) => words.first().map(|program| candidates(program, path)).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The executable files that `program` may mean.
fn candidates(program: &[u8], path: &OsStr) -> Vec<PathBuf> {
    let is_program = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let program = Path::new(OsStr::from_bytes(program));
    if program.components().count() > 1 {
        // A relative path would be looked up in the working directory of the script, which is empty.
        let file = program.is_absolute().then(|| program.to_owned());
        return file.into_iter().filter(is_program).collect();
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).filter(is_program).collect()
}

/// What `env` starts.
#[derive(Debug, PartialEq, Eq)]
enum Starts {
    /// A program, and its arguments before the script's path.
    Program(Vec<Vec<u8>>),
    /// The script itself, whose path follows everything in the line.
    Itself,
    /// It ends with an error, or without starting anything, for this reason.
    Fails(String),
    /// It depends on variables, or on options that are not known here.
    Unknown,
}

fn parse_env_argument(argument: &[u8]) -> Starts {
    let words = if argument.is_empty() { Vec::new() } else { vec![argument.to_vec()] };
    parse_env_words(words)
}

/// Reads the arguments of `env` as GNU, BSD and busybox do.
fn parse_env_words(mut words: Vec<Vec<u8>>) -> Starts {
    let mut are_options = true;
    let mut index = 0;
    while let Some(word) = words.get(index).cloned() {
        index += 1;
        let Some(option) = word.strip_prefix(b"-").filter(|_| are_options) else {
            are_options = false;
            if word.contains(&b'=') {
                continue;
            }
            return Starts::Program(words.split_off(index - 1));
        };
        match read_option(option) {
            EnvOption::Flag => {}
            EnvOption::Last => are_options = false,
            EnvOption::TakesNext => index += 1,
            EnvOption::Split(text) => {
                // Its text may be the next word. If there is none, that is the script's path.
                let text = text.or_else(|| words.get(index).cloned().inspect(|_| index += 1));
                let Some(text) = text else { return Starts::Itself };
                match split_words(&text) {
                    Err(why) => return why,
                    Ok(split) => {
                        let rest = words.split_off(index.min(words.len()));
                        return parse_env_words([split, rest].concat());
                    }
                }
            }
            EnvOption::Wrong => return Starts::Fails(format!("the option {} for env", quoted(&word))),
        }
    }
    Starts::Itself
}

/// An option of `env`, without its first `-`.
enum EnvOption {
    Flag,
    /// `--`
    Last,
    TakesNext,
    /// `-S`, with its text if that is in the same word.
    Split(Option<Vec<u8>>),
    /// An option that `env` does not know, or after which it starts nothing.
    Wrong,
}

fn read_option(option: &[u8]) -> EnvOption {
    if let Some(long) = option.strip_prefix(b"-") {
        let mut parts = long.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        return match name {
            b"" => EnvOption::Last,
            b"split-string" => EnvOption::Split(value.map(<[u8]>::to_vec)),
            b"unset" | b"chdir" | b"argv0" if value.is_none() => EnvOption::TakesNext,
            b"help" | b"version" => EnvOption::Wrong,
            _ if name.contains(&b' ') => EnvOption::Wrong,
            _ => EnvOption::Flag,
        };
    }
    for (n, byte) in option.iter().enumerate() {
        let rest = option.get(n + 1..).filter(|rest| !rest.is_empty());
        match byte {
            b'i' | b'0' | b'v' => {}
            b'S' => return EnvOption::Split(rest.map(<[u8]>::to_vec)),
            b'u' | b'C' | b'a' | b'P' | b'L' | b'U' => {
                return if rest.is_some() { EnvOption::Flag } else { EnvOption::TakesNext };
            }
            _ => return EnvOption::Wrong,
        }
    }
    EnvOption::Flag
}

/// The words into which `env -S` splits `text`. The error is what `env` does instead.
fn split_words(text: &[u8]) -> Result<Vec<Vec<u8>>, Starts> {
    let wrong = |problem: &str| Starts::Fails(format!("{problem} after env -S"));
    let (mut words, mut word, mut quote) = (Vec::new(), None::<Vec<u8>>, None);
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\'' | b'"', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (_, Some(open)) if byte == open => quote = None,
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C, None) => words.extend(word.take()),
            (b'#', None) if word.is_none() => break,
            (b'$', None | Some(b'"')) => return Err(Starts::Unknown),
            (b'\\', _) => {
                let Some(next) = bytes.next() else { return Err(wrong("a backslash at its end")) };
                match (next, quote) {
                    (b'\\' | b'\'', _) => word.get_or_insert_default().push(next),
                    (_, Some(b'\'')) => word.get_or_insert_default().extend([b'\\', next]),
                    (b'"' | b'#' | b'$', _) => word.get_or_insert_default().push(next),
                    // An escape for a tab, for the end of the text, or for another character.
                    _ => return Err(Starts::Unknown),
                }
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        return Err(wrong("a quote that is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_arguments_are_parsed_as_env_does() {
        let program = |words: &[&str]| Starts::Program(words.iter().map(|w| w.as_bytes().to_vec()).collect());
        for (argument, expected) in [
            ("python3", program(&["python3"])),
            ("python3 -u", program(&["python3 -u"])),
            ("-S python3 -u", program(&["python3", "-u"])),
            ("-S python3 -u\r", program(&["python3", "-u"])),
            ("-vS A=b python3", program(&["python3"])),
            ("-iSpython3", program(&["python3"])),
            ("--split-string=-i 'a b' c", program(&["a b", "c"])),
            ("-S -u X -C /tmp -- A=b sh -e # more", program(&["sh", "-e"])),
            (r#"-S "a\"b" \# 'c\d'"#, program(&["a\"b", "#", "c\\d"])),
            ("", Starts::Itself),
            ("-", Starts::Itself),
            ("-i", Starts::Itself),
            ("--", Starts::Itself),
            ("-S", Starts::Itself),
            ("-S -i", Starts::Itself),
            ("-S A=b", Starts::Itself),
            ("-S -u python3", Starts::Itself),
            ("FOO=bar", Starts::Itself),
            ("FOO=bar python3", Starts::Itself),
            ("-u FOO python3", Starts::Itself),
            ("--unset=FOO", Starts::Itself),
            ("-i python3", Starts::Fails("the option \"-i python3\" for env".into())),
            ("--help", Starts::Fails("the option \"--help\" for env".into())),
            ("-S 'python3", Starts::Fails("a quote that is not closed after env -S".into())),
            ("-S \"python3 -u", Starts::Fails("a quote that is not closed after env -S".into())),
            ("-S ${PYTHON} -u", Starts::Unknown),
        ] {
            assert_eq!(parse_env_argument(argument.as_bytes()), expected, "{argument:?}");
        }
    }

    #[test]
    fn a_wrapper_needs_a_program() {
        let line = |interpreter: &str, argument: &str| {
            // Only the argument is checked, because not every system has all wrappers.
            let wrapper = wrapper(Path::new(interpreter)).expect("a wrapper");
            wrong_wrapper(wrapper, argument.as_bytes(), OsStr::new("/bin"))
        };
        for (interpreter, argument) in [
            ("/usr/bin/timeout", "5"),
            ("/usr/bin/timeout", "5 python3"),
            ("/usr/bin/nice", ""),
            ("/usr/bin/nice", "-n5 sh"),
            ("/usr/bin/stdbuf", "-oL"),
            ("/usr/bin/chrt", "5"),
            ("/usr/bin/flock", "/run/lock/x"),
            ("/usr/bin/sudo", "A=b"),
            ("/usr/bin/xargs", ""),
        ] {
            let hindrance = line(interpreter, argument);
            assert!(
                matches!(&hindrance, Some(Lasting(why)) if why.contains("itself again and again")),
                "{interpreter} {argument}: {hindrance:?}"
            );
        }
        assert_eq!(line("/usr/bin/nice", "sh"), None);
        assert_eq!(line("/usr/bin/nohup", "/bin/sh"), None);
        assert!(matches!(line("/usr/bin/nice", "nothing"), Some(Passing(_))));
        assert!(matches!(line("/usr/bin/nice", "sh -e"), Some(Lasting(why)) if why.contains("only env -S")));
        assert_eq!(wrapper(Path::new("/opt/bin/timeout")), None, "it may be anything");
        for (argument, is_idle) in [
            ("-S timeout 5", true),
            ("-S timeout -k 1s 5", true),
            ("-S timeout 5 sh", false),
            ("-S nice -n 5", true),
            ("-S env -i", true),
        ] {
            let hindrance = wrong_env(argument.as_bytes(), OsStr::new("/bin:/usr/bin"));
            assert_eq!(hindrance.is_some(), is_idle, "{argument}: {hindrance:?}");
        }
    }
}
