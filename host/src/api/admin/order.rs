//! What a new key shall be: the body of `POST /v1/keys`, read as a whole.
//!
//! All that is wrong comes back at once, each with its JSON pointer. Knows no store.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value};

use crate::clock::Millis;
use crate::key::{Mode, Scopes, Terms};
use crate::org;
use crate::problem::{Fault, token};

pub(in crate::api) const FIELDS: [&str; 7] = ["name", "org", "mode", "scopes", "all_scopes", "expires_at", "networks"];
const LONGEST_NAME: usize = 100;
/// More entries in one list are not looked at one by one.
const MOST_SCOPES: usize = 64;
const MOST_NETWORKS: usize = 32;

/// An order for a key, as far as it can be judged without a store.
#[derive(Debug)]
pub(in crate::api) struct Order {
    /// Slug or id of the org that shall have it.
    pub(in crate::api) org: String,
    /// What it shall be allowed, or all that is wrong.
    pub(in crate::api) terms: Result<Terms, Vec<Fault>>,
}

impl Order {
    /// Reads an order. `known` are the scopes that a key may have.
    pub(in crate::api) fn read(body: &Map<String, Value>, known: &[String], now: Millis) -> Self {
        let mut reader = Reader { body, faults: Vec::new() };
        reader.refuse_unknown();
        let org = reader.text("org").unwrap_or(org::DEFAULT).to_owned();
        let name = reader.name();
        let mode = reader.mode();
        let scopes = reader.scopes(known);
        let expires = reader.expires(now);
        let networks = reader.networks();
        let terms = Terms { name: name.into(), mode, scopes, networks: networks.into(), expires };
        Self { org, terms: if reader.faults.is_empty() { Ok(terms) } else { Err(reader.faults) } }
    }
}

struct Reader<'a> {
    body: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn fault(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.faults.push(Fault::at(pointer, detail));
    }

    fn refuse_unknown(&mut self) {
        for field in self.body.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            let detail = match nearest(field, FIELDS) {
                Some(near) => format!("There is no such field; did you mean `{near}`?"),
                None => format!("There is no such field; there are {}.", FIELDS.join(", ")),
            };
            self.fault(token(field), detail);
        }
    }

    /// The value of a field; `null` is as good as none.
    fn value(&self, field: &str) -> Option<&'a Value> {
        self.body.get(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.value(field)?;
        if value.as_str().is_none() {
            self.fault(token(field), "This must be a string.");
        }
        value.as_str()
    }

    /// The strings of a list, each with its pointer. An empty list is a fault in the words of `if_empty`.
    fn texts(&mut self, field: &str, most: usize, if_empty: &str) -> Option<Vec<(String, &'a str)>> {
        let Some(list) = self.value(field)?.as_array() else {
            self.fault(token(field), "This must be a list of strings.");
            return Some(Vec::new());
        };
        if list.is_empty() {
            self.fault(token(field), if_empty);
        }
        if list.len() > most {
            self.fault(token(field), format!("There may be {most} at most."));
            return Some(Vec::new());
        }
        let mut texts = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let pointer = format!("/{field}/{at}");
            match value.as_str() {
                Some(text) => texts.push((pointer, text)),
                None => self.fault(pointer, "This must be a string."),
            }
        }
        Some(texts)
    }

    fn name(&mut self) -> &'a str {
        let before = self.faults.len();
        let name = self.text("name").unwrap_or_default();
        let good = (1..=LONGEST_NAME).contains(&name.chars().count())
            && name.trim() == name
            && !name.chars().any(char::is_control);
        if !good && self.faults.len() == before {
            self.fault(
                "/name",
                "Give the key a name of 1 to 100 characters, without control characters or spaces around it.",
            );
        }
        name
    }

    fn mode(&mut self) -> Mode {
        let Some(mode) = self.text("mode") else { return Mode::Live };
        mode.parse().unwrap_or_else(|()| {
            self.fault("/mode", "The mode is `live` or `sandbox`.");
            Mode::Live
        })
    }

    fn scopes(&mut self, known: &[String]) -> Scopes {
        let all = match self.value("all_scopes") {
            None => false,
            Some(Value::Bool(all)) => *all,
            Some(_) => {
                self.fault("/all_scopes", "This must be true or false.");
                return Scopes::default();
            }
        };
        let wanted = format!("Name at least one scope: {}.", known.join(", "));
        let named = self.texts("scopes", MOST_SCOPES, &wanted);
        if all {
            if named.is_some() {
                self.fault("/all_scopes", "Name `scopes` or ask for all of them, not both.");
            }
            if known.is_empty() {
                self.fault("/all_scopes", "There is no scope yet; configure a pillar first.");
            }
            return Scopes::new(known.iter().map(String::as_str));
        }
        let Some(named) = named else {
            self.fault("/scopes", wanted);
            return Scopes::default();
        };
        for (pointer, scope) in &named {
            if known.iter().any(|known| known == scope) {
                continue;
            }
            let detail = match nearest(scope, known.iter().map(String::as_str)) {
                Some(near) => format!("There is no such scope; did you mean `{near}`?"),
                None => format!("There is no such scope; there are: {}.", known.join(", ")),
            };
            self.fault(pointer, detail);
        }
        Scopes::new(named.into_iter().map(|(_, scope)| scope))
    }

    fn expires(&mut self, now: Millis) -> Option<Millis> {
        let end = self.text("expires_at")?.parse::<Millis>();
        match end {
            Ok(end) if end > now => return Some(end),
            Ok(_) => self.fault("/expires_at", "The key would have expired already; name a time to come."),
            Err(error) => self.fault("/expires_at", format!("This is {error}.")),
        }
        None
    }

    fn networks(&mut self) -> Vec<IpNet> {
        let nobody = "An empty list would allow no address; leave it out to allow all.";
        let Some(texts) = self.texts("networks", MOST_NETWORKS, nobody) else { return Vec::new() };
        let mut networks = Vec::new();
        for (pointer, text) in texts {
            match network(text) {
                Ok(network) => networks.push(network),
                Err(detail) => self.fault(pointer, detail),
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

/// The word that was probably meant.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word of any length may come; comparing long ones would cost more than the answer is worth.
    let word = Some(word).filter(|word| word.len() <= 64)?;
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
