//! Turns the configuration into the settings of each module.

use std::sync::Arc;

use secrecy::SecretString;

use crate::{
    broker::{BrokerSettings, Topology},
    config::{Config, Variable},
    console::ConsoleSettings,
    operations::Trials,
    runner::{HttpSettings, Runner, RunnerSettings, ScriptLimits, ScriptRules, ScriptSettings},
    store::{Store, StoreSettings},
    tls,
};

pub(super) fn broker(config: &Config) -> anyhow::Result<BrokerSettings> {
    let amqp = &config.amqp;
    let authorities = amqp.ca_file.as_ref().map(|file| tls::authorities("amqp.ca_file", file));
    Ok(BrokerSettings {
        urls: amqp.urls.iter().map(|url| SecretString::from(url.raw())).collect(),
        heartbeat: amqp.heartbeat,
        connect_timeout: amqp.connect_timeout,
        authorities: authorities.transpose()?.unwrap_or_default(),
        management_url: amqp.management_url.raw().map(SecretString::from),
        topology: Topology::new(&amqp.prefix, amqp.queue_type),
    })
}

pub(super) fn store(config: &Config) -> StoreSettings {
    let database = &config.database;
    StoreSettings {
        url: database.url.raw().to_owned(),
        pool_size: database.pool_size,
        connect_timeout: database.connect_timeout,
        ca_file: database.ca_file.clone(),
        seals: config.secrets.seals.clone(),
    }
}

/// Prevents other processes of the same user, above all scripts, from reading this process in `/proc`: its environment,
/// memory and descriptors contain secrets. As a side effect, it writes no core dump.
fn hide_memory() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "cannot protect this process: scripts of the same user can read its environment and memory");
    }
}

pub(super) fn runner(config: &Config) -> RunnerSettings {
    hide_memory();
    let script = &config.script;
    RunnerSettings {
        http: http(config),
        script: ScriptSettings {
            roots: script.roots.clone(),
            owners: script.owners.clone(),
            env: script.env.iter().map(variable).collect(),
            kill_grace: script.kill_grace,
            user: script.user.clone(),
            limits: ScriptLimits {
                address_space: script.limits.address_space,
                open_files: script.limits.open_files,
                cpu_seconds: script.limits.cpu_seconds,
                processes: script.limits.processes,
            },
        },
    }
}

pub(super) fn script_rules(config: &Config) -> anyhow::Result<ScriptRules> {
    let script = &config.script;
    let env: Vec<String> = script.env.iter().map(variable).collect();
    Ok(ScriptRules::new(&script.roots, &script.owners, script.user.as_deref())?.with_env(&env))
}

pub(super) fn http(config: &Config) -> HttpSettings {
    let http = &config.http;
    HttpSettings {
        connect_timeout: http.connect_timeout,
        rules: http.rules.clone(),
        ca_file: http.ca_file.clone(),
        client_cert: http.client_cert.clone(),
    }
}

/// The form that the runner takes: `NAME` passes a variable on, `NAME=value` sets it.
fn variable(variable: &Variable) -> String {
    match variable.value() {
        Some(value) => format!("{}={value}", variable.name()),
        None => variable.name().to_owned(),
    }
}

pub(super) fn console(config: &Config) -> anyhow::Result<ConsoleSettings> {
    Ok(ConsoleSettings {
        console: config.console.clone(),
        address_rules: config.http.rules.clone(),
        scripts: script_rules(config)?,
    })
}

pub(super) fn trials(config: &Config, store: Store, runner: Arc<Runner>) -> Trials {
    Trials {
        store,
        runner,
        defaults: config.handler_defaults(),
        max_event_bytes: config.worker.max_event_bytes,
    }
}
