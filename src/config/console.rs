//! Section `console`.

use std::{collections::HashSet, fmt, net::SocketAddr, str::FromStr, time::Duration};

use ::config::{FileFormat, Format, Map, Value, ValueKind};
use ipnet::IpNet;
use url::Url;

use super::{
    http::network,
    reader::Reader,
    value::{duration, list, text, text_or_none},
};
use crate::domain::access::{AccountName, PasswordHash, Role, TokenHash};

/// First segments of the console's own paths. The path of `console.public_url` must not begin with one, because
/// requests would be ambiguous.
pub const OWN_PATHS: [&str; 9] =
    ["api", "assets", "dead-letters", "events", "executions", "handlers", "healthz", "sign-in", "sign-out"];

/// Settings of the console and the REST API: where they listen, and who may use them.
#[derive(Clone, Debug)]
pub struct Console {
    pub listen: SocketAddr,
    /// The URL that browsers use, if it is not `listen`.
    pub public_url: Option<PublicUrl>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    pub users: Vec<Account<PasswordHash>>,
    pub tokens: Vec<Account<TokenHash>>,
    /// A session ends after this time without a request.
    pub session_timeout: Duration,
}

/// A user or a token that may use the console. `Display` does not show the hash.
#[derive(Clone, Debug)]
pub struct Account<H> {
    pub name: AccountName,
    pub role: Role,
    pub hash: H,
}

impl<H> fmt::Display for Account<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.role)
    }
}

/// The URL that browsers use for the console: scheme, host, port and an optional path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    path: String,
    https: bool,
}

impl PublicUrl {
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The path prefix of all pages: empty, or `/…` without a slash at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub const fn is_https(&self) -> bool {
        self.https
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "must be a scheme, a host and perhaps a path, such as https://provisiond.example or https://tools.example/provisiond";
        let url = Url::parse(text).map_err(|_| form.to_owned())?;
        let path = url.path().trim_end_matches('/');
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        let is_valid = matches!(url.scheme(), "http" | "https")
            && path.bytes().all(is_plain)
            && !path.contains("//")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty();
        if !is_valid {
            return Err(form.to_owned());
        }
        let first = path.split('/').nth(1).unwrap_or_default();
        if OWN_PATHS.contains(&first) {
            return Err(format!("{form}; not /{first}, which is a path of the console itself"));
        }
        let (origin, path) = (url.origin().ascii_serialization(), path.to_owned());
        Ok(Self { origin, path, https: url.scheme() == "https" })
    }
}

impl Console {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let timeouts = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
        let listen: SocketAddr = reader.get("console.listen", address)?;
        let public_url = reader.get("console.public_url", text_or_none(str::parse))?;
        let trusted_proxies = reader.get("console.trusted_proxies", list(network))?;
        let users = reader.get_masked_list("console.users", |value| accounts(value, "password_hash"))?;
        let tokens = reader.get_masked_list("console.tokens", |value| accounts(value, "token_hash"))?;
        let session_timeout = reader.get("console.session_timeout", duration(timeouts))?;
        if users.is_empty() && !listen.ip().is_loopback() {
            let problem = "must be a loopback address, such as 127.0.0.1:8080, while no user is configured";
            reader.clash("console.listen", "console.users", problem);
        }
        Some(Self { listen, public_url, trusted_proxies, users, tokens, session_timeout })
    }
}

pub(super) fn address(value: &Value) -> Result<SocketAddr, String> {
    let form = "must be an address and a port, such as 127.0.0.1:8080 or [::]:8080";
    text(value)?.parse().map_err(|_| form.to_owned())
}

/// Parses a list of tables; in the environment it is a TOML array. Errors never repeat a hash.
fn accounts<H: FromStr<Err: fmt::Display>>(value: &Value, hash: &str) -> Result<Vec<Account<H>>, String> {
    let form =
        || format!("must be a list of {{name = \"…\", {hash} = \"…\", role = \"viewer\" or \"operator\"}}");
    let values = match &value.kind {
        ValueKind::Array(values) => values.clone(),
        ValueKind::String(text) if text.trim().is_empty() => Vec::new(),
        ValueKind::String(text) => {
            let table = FileFormat::Toml.parse(None, &format!("list = {text}")).map_err(|_| form())?;
            match table.get("list").map(|list| &list.kind) {
                Some(ValueKind::Array(values)) => values.clone(),
                _ => return Err(form()),
            }
        }
        _ => return Err(form()),
    };
    let mut names = HashSet::new();
    let mut accounts = Vec::new();
    for value in &values {
        let ValueKind::Table(table) = &value.kind else { return Err(form()) };
        let account = account(table, hash).ok_or_else(form)??;
        if !names.insert(account.name.clone()) {
            return Err(format!("has two entries with the name {}", account.name));
        }
        accounts.push(account);
    }
    Ok(accounts)
}

/// Returns `None` if a key is missing or unknown.
fn account<H: FromStr<Err: fmt::Display>>(
    table: &Map<String, Value>,
    hash: &str,
) -> Option<Result<Account<H>, String>> {
    let field = |name: &str| table.get(name).and_then(|value| text(value).ok());
    let (name, secret, role) = (field("name")?, field(hash)?, field("role")?);
    if table.len() != 3 {
        return None;
    }
    let read = || {
        let name: AccountName = name.parse().map_err(|e| format!("{e}"))?;
        let entry_error = |e: &dyn fmt::Display| format!("entry {name}: {e}");
        let hash = secret.parse().map_err(|e| entry_error(&e))?;
        let role = role.parse().map_err(|e| entry_error(&e))?;
        Ok(Account { name, role, hash })
    };
    Some(read())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ConfigErrors, Loaded};

    fn load(env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        let env = env.iter().map(|(key, value)| (format!("PROVISIOND_CONSOLE__{key}"), (*value).to_owned()));
        crate::config::load(Some(Path::new("/dev/null")), env)
    }

    #[test]
    fn users_and_tokens_are_lists_whose_hashes_are_not_shown() {
        let hash = PasswordHash::of("secret").expect("hashed").to_string();
        let users = format!("[{{name = \"ann\", password_hash = '{hash}', role = \"operator\"}}]");
        let tokens = format!("[{{name = \"ci\", role = \"viewer\", token_hash = \"{}\"}}]", "ab".repeat(32));
        let loaded = load(&[("USERS", &users), ("TOKENS", &tokens), ("LISTEN", "0.0.0.0:80")]).expect("fine");
        let console = &loaded.config.console;
        assert!(console.users[0].hash.verify("secret") && console.users[0].role == Role::Operator);
        assert_eq!(console.tokens[0].name.as_str(), "ci");
        let shown = format!("{:?} {console:?}", loaded.settings);
        assert!(
            shown.contains("ann (operator)") && !shown.contains("$argon2id") && !shown.contains("abab"),
            "{shown}"
        );
    }

    #[test]
    fn errors_do_not_contain_the_hash() {
        let hash = PasswordHash::of("secret").expect("hashed").to_string();
        let entry = format!("{{name = \"ann\", password_hash = '{hash}', role = \"viewer\"}}");
        for (key, value, expected) in [
            ("LISTEN", "0.0.0.0:8080".to_owned(), "must be a loopback address"),
            ("LISTEN", "localhost".to_owned(), "must be an address and a port"),
            ("USERS", "ann".to_owned(), "must be a list of {name"),
            ("USERS", "[{name = \"ann\"}]".to_owned(), "must be a list of {name"),
            (
                "USERS",
                "[{name = \"ann\", password_hash = \"hunter2\", role = \"viewer\"}]".to_owned(),
                "entry ann: password_hash must be",
            ),
            ("USERS", format!("[{entry}, {entry}]"), "two entries with the name ann"),
            (
                "USERS",
                format!("[{}]", entry.replace("viewer", "root")),
                "\"root\" is not one of viewer, operator",
            ),
            ("PUBLIC_URL", "a.example/console".to_owned(), "must be a scheme, a host"),
            ("PUBLIC_URL", "https://a.example/?a=b".to_owned(), "must be a scheme, a host"),
            ("PUBLIC_URL", "https://a.example/a b".to_owned(), "must be a scheme, a host"),
            ("PUBLIC_URL", "https://a.example//b".to_owned(), "must be a scheme, a host"),
            ("PUBLIC_URL", "https://a.example/api/".to_owned(), "not /api, which is a path"),
        ] {
            let error = load(&[(key, &value)]).expect_err(expected).to_string();
            assert!(
                error.contains(expected) && !error.contains("hunter2") && !error.contains(&hash),
                "{error}"
            );
        }
    }
}
