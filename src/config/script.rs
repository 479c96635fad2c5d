//! Section `script`: which scripts may be run, and how.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    reader::Reader,
    value::{MIB, TIB, duration, integer, list, size, text_or_none, timeout, zero_or},
};

/// Section `script`.
#[derive(Clone, Debug)]
pub struct Script {
    pub timeout: Duration,
    pub roots: Vec<PathBuf>,
    pub env: Vec<Variable>,
    pub kill_grace: Duration,
    /// Scripts at a time.
    pub concurrency: usize,
    pub user: Option<String>,
    pub limits: Limits,
}

/// Section `script.limits`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub address_space: Option<u64>,
    pub open_files: Option<u64>,
    pub cpu_seconds: Option<u64>,
}

/// A variable that scripts get: `NAME` passes it on, `NAME=value` sets it. Shown without its value.
#[derive(Clone)]
pub struct Variable(String);

impl Variable {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn name(&self) -> &str {
        self.0.split_once('=').map_or(&self.0, |(name, _)| name)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let variable = Self(text.to_owned());
        let name = variable.name();
        let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !fits {
            return Err("must be a list of NAME or NAME=value".to_owned());
        }
        if name.starts_with("PROVISIONING_") || name == "TRACEPARENT" {
            return Err(format!("must not set {name}, which provisiond sets"));
        }
        Ok(variable)
    }
}

impl std::fmt::Display for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = if self.0.contains('=') { "=***" } else { "" };
        write!(f, "{}{set}", self.name())
    }
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Script {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let limit = reader.get("script.timeout", timeout);
        let roots = reader.get("script.roots", list(root));
        let env = reader.get_masked_list("script.env", list(Variable::parse));
        let kill_grace = reader.get("script.kill_grace", duration(Duration::ZERO..=Duration::from_mins(1)));
        let concurrency = reader.get("script.concurrency", integer(0_u16..=1000));
        let user = reader.get("script.user", text_or_none(|name| Ok(name.to_owned())));
        let limits = Limits::read(reader);
        Some(Self {
            timeout: limit?.duration(),
            roots: roots?,
            env: env?,
            kill_grace: kill_grace?,
            concurrency: match concurrency? {
                0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
                n => n.into(),
            },
            user: user?,
            limits: limits?,
        })
    }
}

impl Limits {
    fn read(reader: &mut Reader) -> Option<Self> {
        let address_space = reader.get("script.limits.address_space", zero_or(size(MIB..=TIB)));
        let open_files = reader.get("script.limits.open_files", zero_or(integer(8_u64..=1_048_576)));
        let cpu_seconds = reader.get("script.limits.cpu_seconds", zero_or(integer(1_u64..=86_400)));
        Some(Self { address_space: address_space?, open_files: open_files?, cpu_seconds: cpu_seconds? })
    }
}

fn root(text: &str) -> Result<PathBuf, String> {
    if Path::new(text).is_absolute() {
        Ok(PathBuf::from(text))
    } else {
        Err(format!("must be a list of absolute paths; {text:?} is not absolute"))
    }
}
