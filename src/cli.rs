//! The command line: what an operator types, and what comes back.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 not found.

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

/// Runs HTTP and script handlers for the events of a billing platform, over RabbitMQ, losing none.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = FIRST_STEPS, max_term_width = 110)]
struct Cli {
    /// The configuration file (else $PROVISIOND_CONFIG, config/provisiond.toml or /etc/provisiond/provisiond.toml)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    config: Option<PathBuf>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Everywhere")]
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
    /// Run roles until SIGTERM: worker (runs handlers), recorder (writes the Execution Logs), console (pages and REST API)
    Serve(serve::Args),
    /// Bring the database's tables up to date, and encrypt stored secrets as secrets.key says
    Migrate,
    /// Say of everything that is needed whether it is there: configuration, database, broker, scripts
    Check,
    /// Take over what another database's installation has in the broker under amqp.prefix, after moving to a new database
    TakeOver(take_over::Args),
    /// Print the configuration in force, and where each value came from
    Config,
    /// How it goes: processes, events and attempts, what fails, what waits
    Status(status::Args),
    /// Ask what serves on this machine whether it is well: for the health checks of containers
    Health(health::Args),
    /// The catalogue of events
    #[command(subcommand)]
    Events(events::Command),
    /// Publish an event, as the platform would
    Publish(publish::Args),
    /// Handlers: on this event run this task
    #[command(subcommand)]
    Handlers(handlers::Command),
    /// The Execution Logs: every attempt, and what was answered
    #[command(subcommand)]
    Executions(executions::Command),
    /// Events, or shares of them, that were given up
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Make what lets users and programs into the console and the REST API
    #[command(subcommand)]
    Users(users::Command),
    /// Print the completions of a shell: `source <(provisiond completions bash)`
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Parses, runs, and turns what came of it into an exit code.
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
    // One provider in the whole tree; an error only says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let serving = matches!(cli.command, Command::Serve(_));
    let log = &loaded.config.telemetry;
    let _log = if serving {
        Some(telemetry::init_serving(&log.log, log.log_format.is_json(std::io::stderr().is_terminal()))?)
    } else {
        // What a command has to say is its result; the log of what it uses is of interest when it warns.
        telemetry::init("warn")?;
        None
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let context = Context { config: loaded.config, output, installation: Installation::default() };
    let result = runtime.block_on(dispatch(cli.command, context));
    // A name look-up that hangs must not keep the process from ending.
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
