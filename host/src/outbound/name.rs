//! Addresses of a host, each of them checked, and kept for a few seconds.
//!
//! One look-up at a time for each origin, and it ends when the system says so: whoever asks may leave earlier. Names
//! that nobody answers for so never hold more threads than there are such origins, nor more for one org than it has turns.

use super::Unreached;
use crate::address::is_public;
use crate::id::OrgId;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{self, Arc};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long addresses are used before the name is looked up again.
const FRESH: Duration = Duration::from_secs(10);
/// How long a name without addresses is not looked up again.
const FAILED: Duration = Duration::from_secs(1);
/// The most addresses of a host that are tried.
const MOST: usize = 4;
/// The most names that are looked up at once: each holds a thread.
const LOOK_UPS: usize = 32;
/// The most of them for one org, where orgs are told apart.
const LOOK_UPS_EACH: usize = 4;

/// Finds the addresses of a host; may block.
pub(super) type Look = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up.
#[derive(Clone)]
pub(super) struct Names {
    look: Arc<Look>,
    turns: Arc<Semaphore>,
    /// Turns of orgs that look something up now.
    each: Arc<sync::Mutex<HashMap<OrgId, Arc<Semaphore>>>>,
}

/// The addresses of one origin, as far as they are known.
#[derive(Default)]
pub(super) struct Known {
    found: Arc<Mutex<Option<(Instant, Found)>>>,
}

type Found = Result<Arc<[SocketAddr]>, Unreached>;

impl Names {
    pub(super) fn system() -> Self {
        Self::by(Arc::new(|host: &str, port| Ok((host, port).to_socket_addrs()?.collect())))
    }

    pub(super) fn by(look: Arc<Look>) -> Self {
        Self { look, turns: Arc::new(Semaphore::new(LOOK_UPS)), each: Arc::default() }
    }

    /// Addresses that a connection may be made to, at least one. For an org nobody waits for a turn.
    pub(super) async fn addresses(&self, known: &Known, whose: Option<OrgId>, place: (&str, u16, bool)) -> Found {
        let (host, port, private) = place;
        if let Ok(literal) = host.parse::<IpAddr>() {
            return checked(vec![SocketAddr::new(literal, port)], private);
        }
        let mut kept: OwnedMutexGuard<_> = known.found.clone().lock_owned().await;
        if let Some((until, found)) = &*kept
            && *until > Instant::now()
        {
            return found.clone();
        }
        let turn = match whose {
            // It has the lock: others who want this name must not wait for what this org has under way.
            Some(org) => {
                (self.turn_of(org).map(Some)?, self.turns.clone().try_acquire_owned().map_err(|_| Unreached::Busy)?)
            }
            None => (None, self.turns.clone().acquire_owned().await.map_err(|_| Unreached::Stopped)?),
        };
        let (look, host) = (self.look.clone(), host.to_owned());
        // Lock and turn go along: they are held as long as the thread is, not as long as somebody waits for it.
        let looking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let found = look(&host, port).map_err(|_| Unreached::Name).and_then(|all| checked(all, private));
            let lasts = if found.is_ok() { FRESH } else { FAILED };
            *kept = Some((Instant::now() + lasts, found.clone()));
            found
        });
        looking.await.unwrap_or(Err(Unreached::Stopped))
    }

    fn turn_of(&self, org: OrgId) -> Result<OwnedSemaphorePermit, Unreached> {
        let mut each = self.each.lock().unwrap_or_else(sync::PoisonError::into_inner);
        // A turn that is taken holds on to its semaphore.
        each.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = each.entry(org).or_insert_with(|| Arc::new(Semaphore::new(LOOK_UPS_EACH)));
        turns.clone().try_acquire_owned().map_err(|_| Unreached::Busy)
    }
}

/// Those that may be connected to. A name with public and private addresses is used by its public ones.
fn checked(mut addresses: Vec<SocketAddr>, private: bool) -> Found {
    if addresses.is_empty() {
        return Err(Unreached::Name);
    }
    addresses.retain(|address| private || is_public(address.ip()));
    addresses.truncate(MOST);
    if addresses.is_empty() { Err(Unreached::Private) } else { Ok(addresses.into()) }
}
