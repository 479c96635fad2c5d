//! Section `script`.

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    reader::Reader,
    value::{MIB, TIB, duration, integer, list, none_or, size, text_or_none, timeout},
};
use crate::domain::handler::Timeout;

/// Settings of script tasks.
#[derive(Clone, Debug)]
pub struct Script {
    /// The default timeout of one attempt.
    pub timeout: Timeout,
    /// Directories (absolute) that scripts must be in. Empty: script handlers are rejected.
    pub roots: Vec<PathBuf>,
    /// Users, by name or number, whose scripts may run, in addition to those of root, provisiond's own user and
    /// `user`. `%name` is a group that may write to scripts.
    pub owners: Vec<String>,
    /// Variables in addition to those that provisiond sets. Each name occurs once.
    pub env: Vec<Variable>,
    /// Time between TERM and KILL.
    pub kill_grace: Duration,
    /// Maximum number of scripts that run at the same time in this process. Never 0: 0 is replaced by the default.
    pub concurrency: usize,
    /// The user that scripts run as (name or number), if it is not provisiond's own.
    pub user: Option<String>,
    pub limits: Limits,
}

/// Resource limits of each process of a script.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub address_space: Option<u64>,
    pub open_files: Option<u64>,
    pub cpu_seconds: Option<u64>,
    /// Limit for all processes and threads of the user that scripts run as.
    pub processes: Option<u64>,
}

/// A variable of a script's environment. `Display` and `Debug` mask its value.
#[derive(Clone, Debug)]
pub enum Variable {
    /// Passed on from provisiond's own environment, if it is set there.
    Passed(String),
    Set {
        name: String,
        value: SecretString,
    },
}

impl Script {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self {
            timeout: reader.get("script.timeout", timeout)?,
            roots: reader.get("script.roots", list(root))?,
            owners: reader.get("script.owners", list(user))?,
            env: reader.get_masked_list("script.env", |value| {
                let variables = list(Variable::parse)(value)?;
                each_once(&variables).map(|()| variables)
            })?,
            kill_grace: reader.get("script.kill_grace", duration(Duration::ZERO..=Duration::from_mins(1)))?,
            concurrency: match reader.get("script.concurrency", integer(0..=1000))? {
                0 => 2 * available_parallelism().map_or(1, usize::from),
                scripts => scripts,
            },
            user: reader.get("script.user", text_or_none(user))?,
            limits: Limits {
                address_space: reader.get("script.limits.address_space", none_or("0", size(MIB..=TIB)))?,
                open_files: reader.get("script.limits.open_files", none_or("0", integer(8..=1 << 20)))?,
                cpu_seconds: reader.get("script.limits.cpu_seconds", none_or("0", integer(1..=86_400)))?,
                processes: reader.get("script.limits.processes", none_or("0", integer(1..=1 << 22)))?,
            },
        })
    }
}

fn root(text: &str) -> Result<PathBuf, String> {
    if Path::new(text).is_absolute() {
        Ok(PathBuf::from(text))
    } else {
        Err(format!("must be absolute paths, such as /srv/scripts, not {text:?}"))
    }
}

fn user(text: &str) -> Result<String, String> {
    let is_forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/');
    if text.len() <= 32 && !text.contains(is_forbidden) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be the name or number of a user, not {text:?}"))
    }
}

impl Variable {
    pub fn name(&self) -> &str {
        match self {
            Self::Passed(name) | Self::Set { name, .. } => name,
        }
    }

    /// Errors never repeat the text after the `=`, because it may be secret.
    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(is_allowed)
        {
            return Err("must be NAME or NAME=value; a name consists of letters, digits and _".into());
        }
        if name.starts_with("PROVISIONING_") || name == "TRACEPARENT" {
            return Err(format!("{name} is set by provisiond itself"));
        }
        match value {
            None => Ok(Self::Passed(name.to_owned())),
            Some(value) if value.contains('\0') => {
                Err(format!("the value of {name} contains a NUL character"))
            }
            Some(value) => Ok(Self::Set { name: name.to_owned(), value: value.into() }),
        }
    }

    /// The value of a `Set` variable.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Passed(_) => None,
            Self::Set { value, .. } => Some(value.expose_secret()),
        }
    }
}

fn each_once(variables: &[Variable]) -> Result<(), String> {
    let mut seen = HashSet::new();
    match variables.iter().find(|variable| !seen.insert(variable.name())) {
        Some(variable) => Err(format!("must contain {} only once", variable.name())),
        None => Ok(()),
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(name) => f.write_str(name),
            Self::Set { name, .. } => write!(f, "{name}=***"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_passed_on_or_set_and_its_value_is_not_shown() {
        let set = Variable::parse("TOKEN=hunter2=x").expect("fine");
        assert_eq!((set.name(), set.value()), ("TOKEN", Some("hunter2=x")));
        assert_eq!(set.to_string(), "TOKEN=***");
        assert!(!format!("{set:?}").contains("hunter2"));
        assert!(matches!(Variable::parse("TZ"), Ok(Variable::Passed(name)) if name == "TZ"));
        for bad in
            ["", "=hunter2", "1A=hunter2", "A B=hunter2", "PROVISIONING_X=hunter2", "TRACEPARENT", "A=\0"]
        {
            let error = Variable::parse(bad).expect_err(bad);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
