//! What a new key shall be: the body of `POST /v1/keys`, read as a whole; also of an import, and of a change of scopes.
//!
//! All that is wrong comes back at once, each with its JSON pointer. Knows no store.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value};

use crate::api::fields::{Fields, nearest};
use crate::clock::Millis;
use crate::key::{Bounds, Management, Mode, Scopes, Secret, Terms};
use crate::problem::Fault;

/// The fields of an order.
pub(in crate::api) const FIELDS: [&str; 7] = ["name", "org", "mode", "scopes", "all_scopes", "expires_at", "networks"];
const IMPORT_FIELDS: [&str; 7] = ["secret", "name", "org", "scopes", "all_scopes", "expires_at", "networks"];
/// The fields of a change of scopes.
pub(in crate::api) const SCOPE_FIELDS: [&str; 2] = ["scopes", "all_scopes"];
/// More entries in one list are not looked at one by one.
const MOST_SCOPES: usize = 64;
const MOST_NETWORKS: usize = 32;

/// An order for a key, as far as it can be judged without a store.
#[derive(Debug)]
pub(super) struct Order<'a> {
    /// Slug or id of the org that shall have it, where it is given.
    pub(super) org: Option<&'a str>,
    /// What it shall be and which scopes it shall have, or all that is wrong.
    pub(super) terms: Result<(Terms, Scopes), Vec<Fault>>,
    /// What of it goes beyond the bounds of the key that orders.
    pub(super) beyond: Vec<Fault>,
}

/// What is known where an order is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// The scopes of pillars.
    pub(super) scopes: &'a [String],
    /// The time.
    pub(super) now: Millis,
    /// The bounds of the key that orders, where it is one: what is left out is as it is there.
    pub(super) bounds: Option<&'a Bounds>,
}

impl<'a> Order<'a> {
    /// Reads an order.
    pub(super) fn read(body: &'a Map<String, Value>, known: Known<'_>) -> Self {
        let mut reader = Reader { fields: Fields::of(body, &FIELDS), known, beyond: Vec::new() };
        let org = reader.fields.text("org");
        let name = reader.fields.name();
        let mode = reader.mode();
        reader.rest(org, name, mode)
    }

    /// Reads an order for a key that was made elsewhere, at this pointer; with its secret, where that has the shape of one.
    pub(super) fn read_import(place: String, body: &'a Map<String, Value>, known: Known<'_>) -> (Self, Option<Secret>) {
        let mut reader = Reader { fields: Fields::at(place, body, &IMPORT_FIELDS), known, beyond: Vec::new() };
        let secret = reader.secret();
        let org = reader.fields.text("org");
        let name = reader.fields.name();
        let mode = secret.as_ref().map_or(Mode::Live, Secret::mode);
        (reader.rest(org, name, mode), secret)
    }
}

/// Reads a whole set of scopes; and what of it goes beyond the bounds.
pub(super) fn read_scopes(body: &Map<String, Value>, known: Known<'_>) -> (Result<Scopes, Vec<Fault>>, Vec<Fault>) {
    let mut reader = Reader { fields: Fields::of(body, &SCOPE_FIELDS), known, beyond: Vec::new() };
    let scopes = reader.scopes();
    let faults = reader.fields.faults;
    (if faults.is_empty() { Ok(scopes) } else { Err(faults) }, reader.beyond)
}

struct Reader<'a, 'k> {
    fields: Fields<'a>,
    known: Known<'k>,
    beyond: Vec<Fault>,
}

impl<'a> Reader<'a, '_> {
    fn rest(mut self, org: Option<&'a str>, name: &str, mode: Mode) -> Order<'a> {
        let scopes = self.scopes();
        let expires = self.expires();
        let networks = self.networks();
        let terms = Terms { name: name.into(), mode, networks: networks.into(), expires };
        let faults = self.fields.faults;
        Order { org, terms: if faults.is_empty() { Ok((terms, scopes)) } else { Err(faults) }, beyond: self.beyond }
    }

    fn beyond(&mut self, pointer: &str, detail: impl Into<String>) {
        self.beyond.push(Fault::at(pointer, detail));
    }

    fn secret(&mut self) -> Option<Secret> {
        let missing = self.fields.value("secret").is_none();
        let text = self.fields.text("secret");
        let secret = text.and_then(Secret::imported);
        if secret.is_none() && (missing || text.is_some()) {
            // Nothing of what was given is said again: it may be a secret with a typo.
            let shape = "Give a secret that begins with `sk_live_` or `sk_sandbox_` and has 32 to 256 letters, digits and \
                underscores in all; one with 49 behind its prefix needs the right checksum.";
            self.fields.fault("/secret", shape);
        }
        secret
    }

    fn mode(&mut self) -> Mode {
        let own = self.known.bounds.map(|bounds| bounds.mode);
        let Some(text) = self.fields.text("mode") else { return own.unwrap_or(Mode::Live) };
        let mode = text.parse().unwrap_or_else(|()| {
            self.fields.fault("/mode", "The mode is `live` or `sandbox`.");
            Mode::Live
        });
        if let Some(own) = own.filter(|own| *own != mode) {
            self.beyond("/mode", format!("Your key is a {} key, and makes no others.", own.name()));
        }
        mode
    }

    fn scopes(&mut self) -> Scopes {
        let pillars = self.known.scopes;
        let known = || pillars.iter().map(String::as_str).chain(Management::ALL.map(Management::name));
        let all_of_them = known().collect::<Vec<_>>().join(", ");
        let all = self.fields.flag("all_scopes");
        let wanted = format!("Name at least one scope: {all_of_them}.");
        if self.fields.value("all_scopes").is_some_and(|value| !value.is_boolean()) {
            return Scopes::default();
        }
        let named = self.fields.texts("scopes", MOST_SCOPES, &wanted);
        let scopes = if all {
            if named.is_some() {
                self.fields.fault("/all_scopes", "Name `scopes` or ask for all of them, not both.");
            }
            // Of a key: all that it has itself. Of an operator: all that there is to call.
            let whole: Vec<&str> = match self.known.bounds {
                Some(bounds) => known().filter(|scope| bounds.scopes.contain(scope)).collect(),
                None => pillars.iter().map(String::as_str).collect(),
            };
            if whole.is_empty() {
                self.fields.fault("/all_scopes", "There is no scope yet; configure a pillar first.");
            }
            whole.into_iter().map(|scope| ("/all_scopes".to_owned(), scope)).collect()
        } else if let Some(named) = named {
            for (pointer, scope) in &named {
                if known().any(|known| known == *scope) {
                    continue;
                }
                let detail = match nearest(scope, known()) {
                    Some(near) => format!("There is no such scope; did you mean `{near}`?"),
                    None => format!("There is no such scope; there are: {all_of_them}."),
                };
                self.fields.fault(pointer, detail);
            }
            named
        } else {
            self.fields.fault("/scopes", wanted);
            Vec::new()
        };
        if let Some(bounds) = self.known.bounds {
            for (pointer, scope) in scopes.iter().filter(|(_, scope)| !bounds.scopes.contain(scope)) {
                self.beyond(pointer, format!("Your key does not have the scope `{scope}`."));
            }
        }
        Scopes::new(scopes.into_iter().map(|(_, scope)| scope))
    }

    fn expires(&mut self) -> Option<Millis> {
        let own = self.known.bounds.and_then(|bounds| bounds.expires);
        if self.fields.value("expires_at").is_none() {
            return own;
        }
        let end = self.fields.instant_to_come("expires_at", self.known.now);
        if let Some(own) = own.filter(|own| end.is_some_and(|end| end > *own)) {
            self.beyond("/expires_at", format!("Your key ends at {own}, and makes none that end later."));
        }
        end
    }

    fn networks(&mut self) -> Vec<IpNet> {
        let own = self.known.bounds.map(|bounds| bounds.networks.to_vec()).unwrap_or_default();
        let nobody = "An empty list would allow no address; leave it out to allow all.";
        let Some(texts) = self.fields.texts("networks", MOST_NETWORKS, nobody) else { return own };
        let mut networks = Vec::new();
        for (pointer, text) in texts {
            match network(text) {
                Ok(network) => {
                    if self.known.bounds.is_some_and(|bounds| !bounds.allows(&network)) {
                        self.beyond(&pointer, "Your key may not be used from there itself.");
                    }
                    networks.push(network);
                }
                Err(detail) => self.fields.fault(&pointer, detail),
            }
        }
        networks
    }
}

/// A network or a single address; v4-mapped ones as IPv4, because that is how clients are compared.
fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| "This is neither an address nor a network; write for example 203.0.113.0/24.".to_owned())?,
    };
    if network.addr() != network.network() {
        return Err(format!("The address has bits beyond its prefix; write {}.", network.trunc()));
    }
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, length).map(IpNet::V4).map_err(|error| error.to_string())
        }
        _ => Ok(network),
    }
}

#[cfg(test)]
mod tests;
