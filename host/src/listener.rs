//! Accepts connections and deals each to the worker with the fewest. Has never heard of routes.

mod thread;

pub use thread::{Handle, start};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Pause after an error that comes back at once, such as no free file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds the public listener.
///
/// # Errors
/// A sentence about the address that cannot be had.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "it is in use by another process".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not listen there".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {why}"))
    })
}

/// Accepts until told to stop.
pub async fn accept(listener: TcpListener, workers: Arc<Vec<Handle>>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it small answers wait for acknowledgements; a socket that cannot do it still works.
                let _ = stream.set_nodelay(true);
                let Ok(stream) = stream.into_std() else { continue };
                // A worker that has failed must not swallow connections.
                let alive = workers.iter().filter(|worker| worker.is_alive());
                if let Some(worker) = alive.min_by_key(|worker| worker.open()) {
                    worker.deal(stream, peer);
                }
            }
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
