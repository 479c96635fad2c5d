//! The command line: parses the arguments and runs one command.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found.

#![allow(clippy::doc_markdown, reason = "the doc comments of arguments are what --help prints")]

mod check;
mod context;
mod dead_letters;
mod error;
mod events;
mod executions;
mod handlers;
mod health;
mod migrate;
mod output;
mod publish;
mod replays;
mod serve;
mod settings;
mod status;
mod take_over;
mod time;
mod users;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{broker::Installation, config, telemetry};
use context::Context;
use error::CliError;
use output::{Format, Output};

/// Carries the events of a billing platform from RabbitMQ to HTTP endpoints and scripts, and loses none.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = FIRST_STEPS, max_term_width = 110)]
struct Cli {
    /// Configuration file (default: $PROVISIOND_CONFIG, else config/provisiond.toml or /etc/provisiond/provisiond.toml)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// Output format
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Global options")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  provisiond check                                       what is missing, and what to do about it
  provisiond serve                                       run a worker, a recorder and the console in this process
  provisiond handlers create --name CRM --event clients.create --http 127.0.0.1:5000/api
  provisiond publish clients.create --object-id 12 --data '{\"name\":\"Ann\"}' --wait
  provisiond executions list                             what was called, and what it answered

Every command has its own help: provisiond handlers create --help";

#[derive(Subcommand)]
enum Command {
    /// Run roles until SIGTERM: worker (runs handlers), recorder (writes the Execution Logs), console (pages and REST
    /// API)
    Serve(serve::Args),
    /// Apply pending database migrations, and encrypt stored secrets with the current secrets.key
    Migrate,
    /// Check configuration, database, broker, handlers and scripts; print what is wrong and how to repair it
    Check,
    /// After moving to a new database: take over the exchanges and queues under amqp.prefix from the old installation
    TakeOver(take_over::Args),
    /// Print every configuration value and where it comes from
    Config,
    /// Show processes, throughput, failures and queue depths
    Status(status::Args),
    /// Check whether the provisiond process on this machine is healthy; made for health checks of containers
    Health(health::Args),
    /// List, add and remove event types (the catalogue)
    #[command(subcommand)]
    Events(events::Command),
    /// Publish an event, as the platform does
    Publish(publish::Args),
    /// Manage handlers: which task runs for which event
    #[command(subcommand)]
    Handlers(handlers::Command),
    /// Search, follow and replay the Execution Logs: every attempt and its answer
    #[command(subcommand)]
    Executions(executions::Command),
    /// Search, replay and discard dead letters: events, or parts of their plans, that were given up
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Hash passwords and make tokens for the console and the REST API
    #[command(subcommand)]
    Users(users::Command),
    /// Print completions for a shell: `source <(provisiond completions bash)`
    Completions {
        /// Name of the shell
        shell: clap_complete::Shell,
    },
}

/// Parses the arguments, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output(cli.output);
    match run(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(cli: Cli, output: Output) -> Result<(), CliError> {
    if let Command::Completions { shell } = cli.command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "provisiond", &mut text);
        return output.text(&String::from_utf8_lossy(&text));
    }
    if let Command::Users(command) = cli.command {
        return users::run(output, command);
    }
    let loaded = config::load(cli.config.as_deref(), config::environment())
        .map_err(|errors| CliError::failed(format!("the configuration cannot be used:\n{errors}")))?;
    if let Command::Config = cli.command {
        return context::print_config(output, &loaded);
    }
    // One TLS provider for all dependencies. An error only means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let serving = matches!(cli.command, Command::Serve(_));
    let log = &loaded.config.telemetry;
    let _log = if serving {
        Some(telemetry::init_serving(&log.log, log.log_format.is_json(std::io::stderr().is_terminal()))?)
    } else {
        // The output of a command is its result. Of the log, only warnings are of interest.
        telemetry::init("warn")?;
        None
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let context = Context { config: loaded.config, output, installation: Installation::default() };
    let result = runtime.block_on(dispatch(cli.command, context));
    // A DNS lookup that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn dispatch(command: Command, context: Context) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(context, args).await,
        Command::Migrate => migrate::run(&context).await,
        Command::Check => check::run(&context).await,
        Command::TakeOver(args) => take_over::run(&context, &args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Health(args) => health::run(&context, args).await,
        Command::Events(command) => events::run(&context, command).await,
        Command::Publish(args) => publish::run(&context, args).await,
        Command::Handlers(command) => handlers::run(&context, command).await,
        Command::Executions(command) => executions::run(&context, command).await,
        Command::DeadLetters(command) => dead_letters::run(&context, command).await,
        Command::Config | Command::Completions { .. } | Command::Users(_) => Ok(()),
    }
}
