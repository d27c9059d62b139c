//! What is configured of webhooks. All of it takes effect live.

use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// How messages to receivers are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhooks {
    /// Receivers that may have addresses which are not public, and may be told without TLS.
    pub private: Vec<Reach>,
    /// How long one attempt may take, to the end of the answer.
    pub timeout: Duration,
    /// The longest pause before the second attempt; it doubles with each further one, and none is shorter than half of it.
    pub retry: Duration,
    /// The longest pause of all.
    pub longest_retry: Duration,
    /// The most attempts for one message.
    pub attempts: u32,
    /// After this time no further attempt is made.
    pub max_age: Duration,
}

/// A host, or a network of hosts that are named by their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A name in lower case.
    Host(String),
    /// Addresses.
    Network(IpNet),
}

impl Webhooks {
    /// Whether this host, a name in lower case or an address, may be private.
    pub fn opens(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        self.private.iter().any(|reach| match reach {
            Reach::Host(name) => name == host,
            Reach::Network(network) => address.is_some_and(|address| network.contains(&address)),
        })
    }
}
