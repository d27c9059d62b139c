//! The `portico` program: arguments in, exit code out.

use clap::{CommandFactory, Parser, Subcommand};
use portico::cli::{self, Exit};
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A gateway that knows who calls, decides through sandboxed policies, meters every call and passes it on.
#[derive(Debug, Parser)]
#[command(name = "portico", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(ConfigFile),
    /// Check a configuration, plugins included, without starting anything
    Check(ConfigFile),
    /// Show the configuration of a running gateway; check, compare and apply another one
    Config(cli::config::ConfigArgs),
    /// Issue, list, show, rotate, scope, revoke and import keys
    Key(cli::key::KeyArgs),
    /// Print what the journal says of calls, as JSON lines
    #[command(subcommand)]
    Journal(Journal),
    /// Show how limits stand for somebody, and fill them anew
    Limit(cli::limit::LimitArgs),
    /// Make, list, show, rename, export and erase orgs
    Org(cli::org::OrgArgs),
    /// Make, list and revoke tokens of the admin API
    Token(cli::token::TokenArgs),
    /// Take a backup of a running gateway: all of its state at one moment
    Backup(cli::backup::BackupArgs),
    /// Check a backup, or put it back into a data directory of its own
    Restore(cli::backup::RestoreArgs),
    /// Read the audit log, and verify that it is whole
    Audit(cli::audit::AuditArgs),
    /// Show what an org used, by pillar, key, route and day
    Usage(cli::usage::UsageArgs),
    /// List finished requests
    Requests(cli::requests::RequestsArgs),
    /// Make, list, change, test and delete webhooks, and see what came of their messages
    Webhook(cli::webhook::WebhookArgs),
    /// List, reload, disable, enable and roll back plugins
    Plugin(cli::plugin::PluginArgs),
    /// Print what makes a shell complete these commands
    Completions(cli::completions::CompletionsArgs),
    /// What the gateway starts to have a component compiled: reads it, and writes machine code
    #[command(hide = true)]
    CompileOne(cli::compile::Bounds),
}

#[derive(Debug, Subcommand)]
enum Journal {
    /// Every record that is there, worker by worker; also of calls that were kept long ago
    List(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = "config/gateway.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Serve(file) => cli::serve::run(&file.config),
        Command::Check(file) => cli::check::run(&file.config),
        Command::Journal(Journal::List(file)) => cli::journal::list(&file.config),
        Command::Config(arguments) => cli::config::run(&arguments),
        Command::Limit(arguments) => cli::limit::run(&arguments),
        Command::Key(arguments) => cli::key::run(&arguments),
        Command::Org(arguments) => cli::org::run(&arguments),
        Command::Token(arguments) => cli::token::run(&arguments),
        Command::Backup(arguments) => cli::backup::run(&arguments),
        Command::Restore(arguments) => cli::backup::restore(&arguments),
        Command::Audit(arguments) => cli::audit::run(&arguments),
        Command::Usage(arguments) => cli::usage::run(&arguments),
        Command::Completions(arguments) => cli::completions::run(&arguments, Arguments::command()),
        Command::Requests(arguments) => cli::requests::run(&arguments),
        Command::Plugin(arguments) => cli::plugin::run(&arguments),
        Command::Webhook(arguments) => cli::webhook::run(&arguments),
        Command::CompileOne(bounds) => cli::compile::run(&bounds),
    };
    Exit::into(exit)
}
