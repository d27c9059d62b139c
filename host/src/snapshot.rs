//! Everything that a request reads, immutable: built as a whole, or not at all.
//!
//! Nothing here changes after it was built; what must count on (limits, health, counters) is shared with the snapshot
//! before and after by its own identity.

use crate::chain::{Chain, Step};
use crate::config::{self, Config, Problem};
use crate::limit::{self, Limit, Local};
use crate::plugin::{Catalog, Policy, RouteUse, SlotUse, contract};
use crate::route;
use crate::upstream::Upstream;
use crate::usage;
use http::Method;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Its policies.
    pub chain: Chain,
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
}

/// What outlives snapshots and is needed to build one.
pub struct Ingredients<'a> {
    /// Components.
    pub catalog: &'a Catalog,
    /// Buckets.
    pub limits: &'a Local,
    /// Numbers of pillars and rules in usage.
    pub names: &'a usage::Names,
    /// Worker threads.
    pub workers: usize,
    /// The snapshot before.
    pub earlier: Option<&'a Snapshot>,
}

impl Snapshot {
    /// Builds a snapshot. Compiles and runs `configure`: never called on a worker.
    ///
    /// # Errors
    /// Everything that does not fit together, with key paths.
    pub fn build(config: Config, from: &Ingredients<'_>) -> Result<Self, Vec<Problem>> {
        let known = from.earlier.map_or(&[][..], |earlier| &earlier.upstreams);
        let upstreams: Vec<Arc<Upstream>> =
            config.upstreams.values().map(|written| Arc::new(Upstream::build(written, from.workers, known))).collect();
        let (policies, slots) = policies(&config, from.catalog, from.earlier)?;
        let mut problems = Vec::new();
        // Both sides of a change are warm for a moment.
        let wanted = 2 * policies.len() * from.workers;
        if wanted > from.catalog.instances() {
            let message = format!(
                "{} policies on {} workers need room for {wanted} instances, and this process has room for {}; restart it, or \
                 use fewer",
                policies.len(),
                from.workers,
                from.catalog.instances()
            );
            problems.push(Problem::at("policies", message));
        }
        let mut routes = route::Table::default();
        let mut pillars = Vec::new();
        for (position, written) in config.pillars.values().enumerate() {
            let number = u16::try_from(position).unwrap_or(u16::MAX);
            if let Err(problem) = add_routes(&mut routes, written, number) {
                problems.push(problem);
            }
            let mut steps = Vec::new();
            for name in &written.chain {
                let Some(policy) = policies.get(name.as_str()) else { continue };
                let Some(slot) = slots.get(&(name.clone(), written.name.clone())) else { continue };
                match step(policy.clone(), *slot, written, &upstreams, from.limits) {
                    Ok(step) => steps.push(step),
                    Err(more) => problems.extend(more),
                }
            }
            pillars.push(pillar(written, Chain { steps }, &upstreams, from.names));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let policies = policies.into_values().collect();
        let generation = from.earlier.map_or(1, |earlier| earlier.generation + 1);
        Ok(Self { generation, routes, pillars, upstreams, policies, config })
    }
}

type Policies = BTreeMap<String, Arc<Policy>>;
/// By policy and pillar: the slot of that use.
type Slots = BTreeMap<(String, String), u32>;

/// Prepares each policy for all of its uses; a policy that stands in no chain is prepared too, so that its mistakes show.
fn policies(config: &Config, catalog: &Catalog, before: Option<&Snapshot>) -> Result<(Policies, Slots), Vec<Problem>> {
    if !config.policies.is_empty() {
        Catalog::look_into(&config.plugins.directory).map_err(|problem| vec![problem])?;
    }
    let mut problems = Vec::new();
    let mut policies = Policies::new();
    let mut slots = Slots::new();
    for written in config.policies.values() {
        let component = match catalog.find(&config.plugins.directory, written) {
            Ok(component) => component,
            Err(more) => {
                problems.extend(more);
                continue;
            }
        };
        let users = config.pillars.values().filter(|pillar| pillar.chain.contains(&written.name));
        let uses: Vec<SlotUse> = users.clone().map(|pillar| slot_use(written, pillar)).collect();
        for (number, pillar) in users.enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            slots.insert((written.name.clone(), pillar.name.clone()), number);
        }
        let earlier = before.and_then(|before| before.policies.iter().find(|policy| *policy.name == *written.name));
        match Policy::prepare(component, written, uses, earlier.map(|earlier| &**earlier)) {
            Ok(policy) => {
                policies.insert(written.name.clone(), Arc::new(policy));
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok((policies, slots)) } else { Err(problems) }
}

fn slot_use(written: &config::Policy, pillar: &config::Pillar) -> SlotUse {
    let overlaid = pillar.config.contains_key(&written.name);
    let route = |rule: &config::Rule| RouteUse {
        name: rule.name.clone(),
        path: format!("{}{}", pillar.prefix, rule.path.as_deref().unwrap_or("/*")),
        methods: rule.methods.clone(),
        auth: rule.auth,
    };
    SlotUse {
        pillar: pillar.name.clone(),
        scope: pillar.scope.clone(),
        routes: pillar.rules.iter().map(route).collect(),
        config: serde_json::Value::Object(pillar.configuration(written)).to_string(),
        key: match overlaid {
            true => format!("pillars.{}.config.{}", pillar.name, written.name),
            false => format!("policies.{}.config", written.name),
        },
    }
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

fn pillar(written: &config::Pillar, chain: Chain, upstreams: &[Arc<Upstream>], names: &usage::Names) -> Pillar {
    let number = names.pillar(&written.name);
    let rule = |rule: &config::Rule| Rule {
        name: rule.name.as_str().into(),
        number: names.route(number, &rule.name),
        auth: rule.auth,
    };
    let find = |name: &Option<String>| {
        let name = name.as_ref()?;
        upstreams.iter().find(|upstream| upstream.name == *name).cloned()
    };
    Pillar {
        name: written.name.as_str().into(),
        number,
        scope: written.scope.clone(),
        chain,
        live: find(&written.upstream),
        sandbox: find(&written.sandbox),
        strip_prefix: written.strip_prefix,
        audience: match &written.assertion {
            config::Assertion::Off => None,
            config::Assertion::On { audience } => Some(audience.clone()),
        },
        default_audience: written.name.clone(),
        rules: written.rules.iter().map(rule).collect(),
    }
}

fn step(
    policy: Arc<Policy>,
    slot: u32,
    pillar: &config::Pillar,
    upstreams: &[Arc<Upstream>],
    limits: &Local,
) -> Result<Step, Vec<Problem>> {
    let at = &policy.slots[slot as usize];
    let mut problems = Vec::new();
    let mut problem = |message: String| {
        problems.push(Problem::at(at.at.key.as_str(), message));
    };
    let mut found: Vec<Arc<Limit>> = Vec::new();
    for planned in &at.plan.limits {
        match limits.limit(definition(planned, &policy.name, &pillar.name)) {
            Ok(limit) => found.push(limit),
            Err(error) => problem(error.to_string()),
        }
    }
    let mut targets = Vec::new();
    for name in &at.plan.targets {
        match upstreams.iter().find(|upstream| upstream.name == *name) {
            Some(upstream) => targets.push(upstream.clone()),
            None => problem(format!("the policy wants to forward to `{name}`, and there is no [upstreams.{name}]")),
        }
    }
    if problems.is_empty() { Ok(Step { policy, slot, limits: found, targets }) } else { Err(problems) }
}

fn definition(planned: &contract::Limit, policy: &str, pillar: &str) -> limit::Definition {
    let window = |window: &contract::Window| limit::Window {
        name: window.name.clone(),
        quota: window.quota,
        per: match window.per {
            contract::Period::Seconds(seconds) => limit::Period::Seconds(seconds),
            contract::Period::Month => limit::Period::Month,
        },
    };
    limit::Definition {
        policy: policy.to_owned(),
        limit: planned.name.clone(),
        pillar: (!planned.across_pillars).then(|| pillar.to_owned()),
        subject: match planned.subject {
            contract::Subject::Key => limit::SubjectKind::Key,
            contract::Subject::Org => limit::SubjectKind::Org,
            contract::Subject::Address => limit::SubjectKind::Address,
            contract::Subject::Custom => limit::SubjectKind::Custom,
            contract::Subject::Everyone => limit::SubjectKind::Everyone,
        },
        windows: planned.windows.iter().map(window).collect(),
    }
}
