//! Everything that a request reads, immutable: built as a whole, or not at all.
//!
//! Nothing here changes after it was built; what must count on (limits, health, counters) is shared with the snapshot
//! before and after by its own identity.

use crate::chain::Chain;
use crate::config::{self, Config, Problem};
use crate::key::Management;
use crate::limit::Local;
use crate::openapi::Fetched;
use crate::outbound::Roots;
use crate::plugin::shelf::Shelf;
use crate::plugin::{Catalog, CodeCache, Outside, Policy, Rooms};
use crate::route;
use crate::upstream::Upstream;
use crate::usage;
use http::Method;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

mod documents;
pub mod own;
mod policies;

pub use documents::Documents;
pub use policies::Outcome;

/// One configuration, ready for requests.
pub struct Snapshot {
    /// What it was built from.
    pub config: Config,
    /// Counts up with each snapshot of this process.
    pub generation: u64,
    /// Where each path goes.
    pub routes: route::Table<Target>,
    /// The pillars, by position.
    pub pillars: Vec<Pillar>,
    /// All upstreams.
    pub upstreams: Vec<Arc<Upstream>>,
    /// All policies, also those that stand in no chain.
    pub policies: Vec<Arc<Policy>>,
    /// Policies that an operator took out of their chains.
    pub disabled: Vec<String>,
    /// Root certificates that policies' own requests believe beside those of the system.
    pub roots: Roots,
    /// The OpenAPI documents of pillars, by their names.
    pub documents: Documents,
    /// The places for calls that wait and for followed bodies, on each worker.
    pub rooms: Rooms,
}

/// Where a path goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Position in [`Snapshot::pillars`].
    pub pillar: u16,
    /// Position in [`Pillar::rules`].
    pub rule: u16,
}

/// One pillar, as requests see it.
pub struct Pillar {
    /// Its name.
    pub name: Arc<str>,
    /// Its number in usage.
    pub number: usage::Pillar,
    /// The scope that a caller needs.
    pub scope: String,
    /// Its chains, by position: its own, and those of rules that differ from it.
    pub chains: Vec<Chain>,
    /// The upstream for live keys and for callers without one.
    pub live: Option<Arc<Upstream>>,
    /// The upstream for sandbox keys.
    pub sandbox: Option<Arc<Upstream>>,
    /// Whether the prefix is cut off.
    pub strip_prefix: bool,
    /// The audience of assertions, where the upstream gets one.
    pub audience: Option<String>,
    /// The audience where only a policy asks for an assertion.
    pub default_audience: String,
    /// Its rules, by position.
    pub rules: Vec<Rule>,
    /// Whether it is the gateway's own API, which is answered inside.
    pub is_own: bool,
}

/// One rule, as requests see it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// Its number in usage.
    pub number: usage::Route,
    /// Whether a valid principal with the pillar's scope is needed.
    pub auth: bool,
    /// The management scopes of which it has to hold one beyond that; empty in all pillars but the gateway's own API.
    pub management: &'static [Management],
    /// Position in [`Pillar::chains`].
    pub chain: u32,
}

impl Pillar {
    /// The policies that requests of a rule go through.
    pub fn chain(&self, target: Target) -> &Chain {
        &self.chains[self.rules[usize::from(target.rule)].chain as usize]
    }
}

/// What outlives snapshots and is needed to build one.
pub struct Ingredients<'a> {
    /// Components.
    pub catalog: &'a Catalog,
    /// Buckets.
    pub limits: &'a Local,
    /// Numbers of pillars, rules and policies in usage.
    pub names: &'a usage::Names,
    /// Worker threads.
    pub workers: usize,
    /// Versions that can serve where the newest does not fit, and what operators want of them.
    pub shelf: Option<&'a Shelf>,
    /// Code that was compiled before.
    pub cache: Option<&'a CodeCache>,
    /// Whether the gateway ends, and nothing needs to be compiled any more.
    pub ending: &'a AtomicBool,
    /// What policies can reach, if it is granted.
    pub outside: &'a Arc<Outside>,
    /// The snapshot before.
    pub earlier: Option<&'a Snapshot>,
    /// Documents that upstreams gave.
    pub fetched: &'a Fetched,
    /// Whether a pillar without a good document is better than no start.
    pub starts: bool,
}

impl Snapshot {
    /// Builds a snapshot, and tells what became of the component of each policy. Compiles and runs `configure`: never called
    /// on a worker.
    ///
    /// # Errors
    /// Everything that does not fit together, with key paths.
    pub fn build(config: Config, from: &Ingredients<'_>) -> Result<(Self, Vec<Outcome>), Vec<Problem>> {
        let known = from.earlier.map_or(&[][..], |earlier| &earlier.upstreams);
        let upstreams: Vec<Arc<Upstream>> =
            config.upstreams.values().map(|written| Arc::new(Upstream::build(written, from.workers, known))).collect();
        let own = own::written(&config);
        let policies::Policies { ready, steps, disabled, outcomes } =
            policies::prepare(&config, &own, from, &upstreams)?;
        let mut problems = Vec::new();
        let files = &config.plugins.outbound_roots;
        let known = from.earlier.filter(|earlier| earlier.config.plugins.outbound_roots == *files);
        let roots = Roots::read(files).unwrap_or_else(|wrong| {
            if let Some(earlier) = known {
                // A file that went bad is no reason to hold up what else is changed, an operator's wishes among that.
                tracing::error!("plugins.outbound_roots: {}; what was read before goes on", wrong.join("; "));
                return earlier.roots.clone();
            }
            problems.extend(wrong.into_iter().map(|sentence| Problem::at("plugins.outbound_roots", sentence)));
            Roots::default()
        });
        let documents = documents::read(&config, from, &mut problems);
        // Both sides of a change are warm for a moment.
        let places: usize = ready.values().map(|policy| policy.component.places()).sum();
        let wanted = 2 * places * from.workers;
        if wanted > from.catalog.instances() {
            let message = format!(
                "{} policies on {} workers need room for {wanted} instances or their memories, and this process has room for {}; \
                 restart it, or use fewer",
                ready.len(),
                from.workers,
                from.catalog.instances()
            );
            problems.push(Problem::at("policies", message));
        }
        let routes = routes(&config).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            route::Table::default()
        });
        let mut pillars = Vec::new();
        for written in config.pillars.values() {
            let chains = chains(written, &steps, &disabled).unwrap_or_else(|problem| {
                problems.push(problem);
                Vec::new()
            });
            pillars.push(pillar(written, chains, &upstreams, from.names));
        }
        match chains(&own, &steps, &disabled) {
            Ok(chains) => {
                let mut pillar = pillar(&own, chains, &upstreams, from.names);
                own::finish(&mut pillar);
                pillars.push(pillar);
            }
            Err(problem) => problems.push(problem),
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let policies: Vec<_> = ready.into_values().collect();
        let rooms = from.catalog.divide(&policies, from.workers);
        let generation = from.earlier.map_or(1, |earlier| earlier.generation + 1);
        Ok((
            Self { generation, routes, pillars, upstreams, policies, disabled, roots, documents, rooms, config },
            outcomes,
        ))
    }
}

/// Where each path of a configuration goes: pillars by their position, and the gateway's own API after them.
///
/// # Errors
/// What cannot be routed.
pub fn routes(config: &Config) -> Result<route::Table<Target>, Vec<Problem>> {
    let (mut routes, mut problems) = (route::Table::default(), Vec::new());
    for (position, written) in config.pillars.values().enumerate() {
        let number = u16::try_from(position).unwrap_or(u16::MAX);
        problems.extend(add_routes(&mut routes, written, number).err());
    }
    let number = u16::try_from(config.pillars.len()).unwrap_or(u16::MAX);
    let own = own::add_routes(&mut routes, config, number);
    problems.extend(own.err().map(|error| Problem::at("api", error.to_string())));
    if problems.is_empty() { Ok(routes) } else { Err(problems) }
}

fn add_routes(routes: &mut route::Table<Target>, written: &config::Pillar, pillar: u16) -> Result<(), Problem> {
    let mut rules = Vec::new();
    let mut rest = Target { pillar, rule: 0 };
    for (position, rule) in written.rules.iter().enumerate() {
        let target = Target { pillar, rule: u16::try_from(position).unwrap_or(u16::MAX) };
        let Some(path) = &rule.path else {
            rest = target;
            continue;
        };
        let methods = rule.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect();
        rules.push(route::Rule { path: path.clone(), methods, payload: target });
    }
    routes
        .add(&written.prefix, rules, rest)
        .map_err(|error| Problem::at(format!("pillars.{}.routes", written.name), error.to_string()))
}

fn pillar(written: &config::Pillar, chains: Vec<Chain>, upstreams: &[Arc<Upstream>], names: &usage::Names) -> Pillar {
    let number = names.pillar(&written.name);
    let mut own = 0;
    let numbered = |rule: &config::Rule| {
        let route = names.route(number, &rule.name);
        if let Some(path) = &rule.path {
            names.note_template(number, route, &[&*written.prefix, path].concat());
        }
        route
    };
    let rule = |rule: &config::Rule| Rule {
        name: rule.name.as_str().into(),
        number: numbered(rule),
        auth: rule.auth,
        management: &[],
        chain: match has_own_chain(rule) {
            true => {
                own += 1;
                own
            }
            false => 0,
        },
    };
    let rules = written.rules.iter().map(rule).collect();
    let find = |name: &Option<String>| {
        let name = name.as_ref()?;
        upstreams.iter().find(|upstream| upstream.name == *name).cloned()
    };
    Pillar {
        name: written.name.as_str().into(),
        number,
        scope: written.scope.clone(),
        chains,
        live: find(&written.upstream),
        sandbox: find(&written.sandbox),
        strip_prefix: written.strip_prefix,
        audience: match &written.assertion {
            config::Assertion::Off => None,
            config::Assertion::On { audience } => Some(audience.clone()),
        },
        default_audience: written.name.clone(),
        rules,
        is_own: false,
    }
}

/// Whether requests of a rule pass other policies than those of its pillar, or the same in another way.
fn has_own_chain(rule: &config::Rule) -> bool {
    rule.chain.is_some() || !rule.config.is_empty()
}

/// The chains of a pillar: its own first, then those of rules that have their own, in the order of the rules.
fn chains(written: &config::Pillar, steps: &policies::Steps, disabled: &[String]) -> Result<Vec<Chain>, Problem> {
    let rules = written.rules.iter().filter(|rule| has_own_chain(rule)).map(Some);
    std::iter::once(None).chain(rules).map(|rule| chain(written, rule, steps, disabled)).collect()
}

fn chain(
    written: &config::Pillar,
    rule: Option<&config::Rule>,
    steps: &policies::Steps,
    disabled: &[String],
) -> Result<Chain, Problem> {
    let mut chain = Chain::default();
    for policy in rule.map_or(&written.chain[..], |rule| written.chain_of(rule)) {
        match steps.find(policy, &written.name, rule.map(|rule| &*rule.name)) {
            Some(step) => chain.steps.push(step),
            // Out of its chains, by an operator's word.
            None if disabled.contains(policy) => {}
            // A policy that is left out without a word could be the one that refuses.
            None => {
                let key = match &*written.name {
                    config::OWN => "api.chain".to_owned(),
                    name => format!("pillars.{name}.chain"),
                };
                return Err(Problem::at(key, format!("the policy `{policy}` was not prepared for it")));
            }
        }
    }
    Ok(chain)
}
