//! `users`: makes the configuration entries of users and tokens for the console and the REST API.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;

use super::{context::Context, error::CliError, output::Output};
use crate::domain::access::{AccountName, PasswordHash, RandomToken, Role};

/// A shorter password is easy to guess.
const MIN_PASSWORD_CHARS: usize = 8;
const MAX_PASSWORD_BYTES: usize = 1024;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Hash the password of a console user: prompts for it, or reads it from stdin
    Hash(Account),
    /// Make a bearer token for a program that uses the REST API; it is printed once
    Token(Account),
}

#[derive(clap::Args)]
pub(super) struct Account {
    /// Name of the user or the program
    #[arg(long, default_value = "me")]
    name: AccountName,
    /// Role: a viewer can read, an operator can also make changes
    #[arg(long, default_value = "operator", value_name = "viewer|operator")]
    role: Role,
}

/// The entry to write into the configuration.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_hash: Option<String>,
    /// The token itself. It is for the program, not for the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Runs without a configuration: its output is needed to write one.
pub(super) fn run(output: Output, command: Command) -> Result<(), CliError> {
    match command {
        Command::Hash(account) => hash(output, &account),
        Command::Token(account) => token(output, &account),
    }
}

fn hash(output: Output, account: &Account) -> Result<(), CliError> {
    let password = read_password()?;
    if password.chars().count() < MIN_PASSWORD_CHARS || password.len() > MAX_PASSWORD_BYTES {
        let detail = format!(
            "a password must have at least {MIN_PASSWORD_CHARS} characters and at most {MAX_PASSWORD_BYTES} bytes"
        );
        return Err(CliError::usage(detail));
    }
    let hash = PasswordHash::of(&password).context("cannot hash the password")?.to_string();
    let (name, role) = (account.name.as_str(), account.role);
    let entry = Entry { name, role, password_hash: Some(hash), token_hash: None, token: None };
    output.value(&entry, |entry| {
        config_entry("users", entry, "password_hash", entry.password_hash.as_deref().unwrap_or_default())
    })
}

/// Prompts twice on a terminal, without echo. Otherwise reads the first line of stdin.
fn read_password() -> Result<String, CliError> {
    if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Repeat the password: ")? != first {
            return Err(CliError::failed("the two passwords differ: nothing was hashed"));
        }
        return Ok(first);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn token(output: Output, account: &Account) -> Result<(), CliError> {
    let token = RandomToken::generate_bearer();
    let (name, role) = (account.name.as_str(), account.role);
    let (hash, shown) = (token.hash().to_string(), Some(token.expose()));
    let entry = Entry { name, role, password_hash: None, token_hash: Some(hash), token: shown };
    if !output.is_json() {
        Context::hint("the token, shown only once; the program sends it as Authorization: Bearer …");
        Context::hint(&format!("{}\n", token.expose()));
    }
    output.value(&entry, |entry| {
        config_entry("tokens", entry, "token_hash", entry.token_hash.as_deref().unwrap_or_default())
    })
}

/// The entry as TOML, for the configuration file.
fn config_entry(list: &str, entry: &Entry<'_>, key: &str, hash: &str) -> String {
    let name = serde_json::Value::from(entry.name);
    format!("[[console.{list}]]\nname = {name}\nrole = \"{}\"\n{key} = \"{hash}\"\n", entry.role)
}
