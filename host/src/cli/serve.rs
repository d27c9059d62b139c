//! `portico serve`: runs the gateway until it is told to stop. SIGHUP has it look at its configuration file.

use super::Exit;
use crate::plugin::Compiler;
use crate::{config, server, telemetry};
use std::io::IsTerminal;
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads for everything that is not a request.
const CONTROL_THREADS: usize = 2;

/// Runs the gateway; ends after SIGTERM or SIGINT, when running requests are done.
pub fn run(path: &Path) -> Exit {
    telemetry::start();
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Usage;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("portico-control")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(until_told(config));
            // What is still at work then was cut off, and has been said; it must not keep the process.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            eprintln!("portico cannot start: no threads: {error}");
            Exit::Refused
        }
    }
}

async fn until_told(config: config::Config) -> Exit {
    // Before anything is started, so that an early signal is not lost.
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [mut terminate, mut interrupt, mut hangup] = match signals {
        [Ok(terminate), Ok(interrupt), Ok(hangup)] => [terminate, interrupt, hangup],
        [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => {
            eprintln!("portico cannot start: no signals: {error}");
            return Exit::Refused;
        }
    };
    let started = tokio::select! {
        started = server::start(config, Compiler::own()) => started,
        // Components may take minutes to compile; what was begun ends with the process.
        () = told(&mut terminate, &mut interrupt) => {
            tracing::info!("told to end before it was ready");
            return Exit::Done;
        }
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            eprintln!("{error}");
            return match error {
                server::StartError::Cannot(_) => Exit::Refused,
                server::StartError::Config(_) | server::StartError::Unfit(_) => Exit::Usage,
            };
        }
    };
    tracing::info!(public = %running.public, admin = %running.admin, "portico is ready");
    loop {
        tokio::select! {
            () = told(&mut terminate, &mut interrupt) => break,
            // At a terminal it says that the terminal is gone.
            _ = hangup.recv() => match std::io::stderr().is_terminal() {
                true => break,
                false => running.look_at_file(),
            },
        }
    }
    tracing::info!("ending: no new connections, running requests are finished");
    running.stop().await;
    tracing::info!("ended");
    Exit::Done
}

/// Returns when either of them has come.
async fn told(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
