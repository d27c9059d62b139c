//! The policies of a configuration: each from the best component that fits all of its uses.
//!
//! A component that does not fit never takes the place of one that serves: the next one that is offered is tried, and
//! what was wrong with the first is told.

use super::Ingredients;
use crate::chain::Step;
use crate::config::{self, Config, Problem};
use crate::limit::{self, Limit};
use crate::plugin::{Catalog, Component, Offer, Order, Outside, Policy, RouteUse, SlotUse, contract};
use crate::upstream::Upstream;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Ways in which one policy can be configured: each of its instances knows all of them.
const MOST_USES: usize = 4096;

/// All policies of a configuration, and what was made of them.
#[derive(Default)]
pub(super) struct Policies {
    /// By name.
    pub(super) ready: BTreeMap<String, Arc<Policy>>,
    /// Their uses.
    pub(super) steps: Steps,
    /// Those that an operator took out.
    pub(super) disabled: Vec<String>,
    /// What was offered for each of them, and what became of it.
    pub(super) outcomes: Vec<Outcome>,
}

/// Uses of policies, by policy, pillar, and the rule that has a configuration of its own.
#[derive(Default)]
pub(super) struct Steps(HashMap<(String, String, Option<String>), Step>);

impl Steps {
    /// The use of a policy in a rule, or else in its pillar.
    pub(super) fn find(&self, policy: &str, pillar: &str, rule: Option<&str>) -> Option<Step> {
        let find = |rule: Option<&str>| self.0.get(&(policy.to_owned(), pillar.to_owned(), rule.map(str::to_owned)));
        rule.and_then(|rule| find(Some(rule))).or_else(|| find(None)).cloned()
    }
}

/// What became of the component of one policy.
pub struct Outcome {
    /// The policy.
    pub policy: String,
    /// Its plugin.
    pub plugin: String,
    /// What serves.
    pub serving: Offer,
    /// The digest of what is in the plugin directory, where that was looked at.
    pub in_directory: Option<String>,
    /// What the one that serves calls itself.
    pub version: String,
    /// What should have served and was refused, with all reasons.
    pub refused: Option<(Option<String>, Vec<Problem>)>,
}

/// Prepares each policy for all of its uses; a policy that stands in no chain is prepared too, so that its mistakes show.
pub(super) fn prepare(
    config: &Config,
    own: &config::Pillar,
    from: &Ingredients<'_>,
    upstreams: &[Arc<Upstream>],
) -> Result<Policies, Vec<Problem>> {
    look_into_directory(config, from).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut policies = Policies::default();
    for written in config.policies.values() {
        let card = from.shelf.map(|shelf| shelf.card(&written.name)).unwrap_or_default();
        if card.disabled.as_ref() == Some(&written.plugin) {
            policies.disabled.push(written.name.clone());
            continue;
        }
        let mut refused: Option<(Option<String>, Vec<Problem>)> = None;
        let mut found = None;
        let mut all = Vec::new();
        let starting = from.earlier.is_none();
        let (in_directory, offers) = from.catalog.offers(&config.plugins.directory, written, from.shelf, starting);
        for offer in offers {
            match attempt(&offer, written, (config, own), from, upstreams) {
                Ok(fitting) => {
                    found = Some((offer, fitting));
                    break;
                }
                Err(wrong) => {
                    all.extend(wrong.iter().map(|problem| of_offer(problem, &offer)));
                    // The first is what was meant to serve.
                    refused.get_or_insert((offer.digest, wrong));
                }
            }
        }
        let Some((serving, (policy, steps))) = found else {
            problems.extend(all);
            continue;
        };
        policies
            .steps
            .0
            .extend(steps.into_iter().map(|((pillar, rule), step)| ((written.name.clone(), pillar, rule), step)));
        policies.outcomes.push(Outcome {
            policy: written.name.clone(),
            plugin: written.plugin.clone(),
            serving,
            in_directory,
            version: policy.component.declared.version.clone(),
            refused,
        });
        policies.ready.insert(written.name.clone(), policy);
    }
    if problems.is_empty() { Ok(policies) } else { Err(problems) }
}

/// A directory that cannot be read is what is wrong, and is told once; unless it was well before, and there are versions
/// that can serve on.
fn look_into_directory(config: &Config, from: &Ingredients<'_>) -> Result<(), Problem> {
    let directory = &config.plugins.directory;
    let looked = if config.policies.is_empty() { Ok(()) } else { Catalog::look_into(directory) };
    let moved = from.earlier.is_some_and(|earlier| earlier.config.plugins.directory != *directory);
    match looked {
        Err(problem) if from.shelf.is_some() && !moved => {
            tracing::error!("{problem}; policies go on with what served last");
            Ok(())
        }
        looked => looked,
    }
}

/// A problem, with the kept version that has it: its key alone would point to the file.
fn of_offer(problem: &Problem, offer: &Offer) -> Problem {
    let mut problem = problem.clone();
    if let Some(version) = offer.kept_version().filter(|version| !problem.message.contains(version.as_str())) {
        problem.message = format!("{} (said by {version})", problem.message);
    }
    problem
}

type Fitting = (Arc<Policy>, Vec<((String, Option<String>), Step)>);

/// Puts one component to all uses of a policy.
fn attempt(
    offer: &Offer,
    written: &config::Policy,
    (config, own): (&Config, &config::Pillar),
    from: &Ingredients<'_>,
    upstreams: &[Arc<Upstream>],
) -> Result<Fitting, Vec<Problem>> {
    let given_up = || from.ending.load(Ordering::Relaxed).then_some("the gateway ends");
    let order = Order { bounds: config.plugins.compile, given_up: &given_up };
    let component = from.catalog.load(offer, written, from.cache, &order)?;
    let users = users(written, config, own)?;
    let uses: Vec<SlotUse> = users.iter().map(|user| slot_use(written, user)).collect();
    let earlier = from.earlier.and_then(|earlier| earlier.policies.iter().find(|policy| *policy.name == *written.name));
    let policy = policy(component, written, uses, earlier, from.outside)?;
    let mut problems = Vec::new();
    let mut steps = Vec::new();
    for (number, user) in users.into_iter().enumerate() {
        let slot = u32::try_from(number).unwrap_or(u32::MAX);
        match step(policy.clone(), slot, &user, upstreams, from) {
            Ok(step) => steps.push(((user.pillar.name.clone(), user.rule_name().map(str::to_owned)), step)),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok((policy, steps)) } else { Err(problems) }
}

/// The policy that runs already where nothing about it changes: its warm instances stay.
fn policy(
    component: Arc<Component>,
    written: &config::Policy,
    uses: Vec<SlotUse>,
    earlier: Option<&Arc<Policy>>,
    outside: &Arc<Outside>,
) -> Result<Arc<Policy>, Vec<Problem>> {
    match earlier {
        Some(earlier) if earlier.is(&component, written, &uses) => Ok(earlier.clone()),
        earlier => Policy::prepare(component, written, uses, earlier.map(|earlier| &**earlier), outside).map(Arc::new),
    }
}

/// Where a policy stands: in a pillar, or in a rule with a configuration of its own for it.
struct User<'a> {
    pillar: &'a config::Pillar,
    /// The pillar's rules, once for all uses in it.
    routes: Arc<[RouteUse]>,
    rule: Option<(usize, &'a config::Rule)>,
}

impl User<'_> {
    fn rule_name(&self) -> Option<&str> {
        self.rule.map(|(_, rule)| &*rule.name)
    }

    /// Whose buckets a limit has that is not for all pillars. No name of a pillar has a slash.
    fn bucket(&self) -> String {
        let pillar = &self.pillar.name;
        self.rule_name().map_or_else(|| pillar.clone(), |rule| format!("{pillar}/{rule}"))
    }
}

/// All uses of a policy. Rules without a configuration of their own for it share one in each pillar.
fn users<'a>(
    written: &config::Policy,
    config: &'a Config,
    own: &'a config::Pillar,
) -> Result<Vec<User<'a>>, Vec<Problem>> {
    let mut users = Vec::new();
    for pillar in config.pillars.values().chain([own]) {
        let passes = |rule: &&config::Rule| pillar.chain_of(rule).contains(&written.name);
        if !pillar.rules.iter().any(|rule| passes(&rule)) {
            continue;
        }
        let routes: Arc<[RouteUse]> = pillar.rules.iter().map(|rule| route_use(pillar, rule)).collect();
        let own = |rule: &config::Rule| rule.config.contains_key(&written.name);
        if pillar.rules.iter().filter(passes).any(|rule| !own(rule)) {
            users.push(User { pillar, routes: routes.clone(), rule: None });
        }
        let rules = pillar.rules.iter().enumerate().filter(|(_, rule)| passes(rule) && own(rule));
        users.extend(rules.map(|rule| User { pillar, routes: routes.clone(), rule: Some(rule) }));
    }
    if users.len() > MOST_USES {
        let message = format!(
            "it is configured in {} ways; {MOST_USES} are possible, so give routes with the same configuration a pillar of their own",
            users.len()
        );
        return Err(vec![Problem::at(format!("policies.{}", written.name), message)]);
    }
    Ok(users)
}

fn route_use(pillar: &config::Pillar, rule: &config::Rule) -> RouteUse {
    RouteUse {
        name: rule.name.clone(),
        path: format!("{}{}", pillar.prefix, rule.path.as_deref().unwrap_or("/*")),
        methods: rule.methods.clone(),
        auth: rule.auth,
    }
}

fn slot_use(written: &config::Policy, user: &User<'_>) -> SlotUse {
    let User { pillar, rule, ref routes } = *user;
    let overlaid = pillar.config.contains_key(&written.name);
    SlotUse {
        pillar: pillar.name.clone(),
        scope: pillar.scope.clone(),
        routes: routes.clone(),
        config: serde_json::Value::Object(pillar.configuration(written, rule.map(|(_, rule)| rule))).to_string(),
        key: match rule {
            Some((position, _)) => format!("pillars.{}.routes[{position}].config.{}", pillar.name, written.name),
            None if overlaid && pillar.name == config::OWN => format!("api.config.{}", written.name),
            None if overlaid => format!("pillars.{}.config.{}", pillar.name, written.name),
            None => format!("policies.{}.config", written.name),
        },
    }
}

fn step(
    policy: Arc<Policy>,
    slot: u32,
    user: &User<'_>,
    upstreams: &[Arc<Upstream>],
    from: &Ingredients<'_>,
) -> Result<Step, Vec<Problem>> {
    let at = &policy.slots[slot as usize];
    let mut problems = Vec::new();
    let mut problem = |message: String| {
        problems.push(Problem::at(at.at.key.as_str(), message));
    };
    let mut found: Vec<Arc<Limit>> = Vec::new();
    for planned in &at.plan.limits {
        match from.limits.limit(definition(planned, &policy.name, user.bucket())) {
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
    let number = from.names.policy(&policy.name);
    if problems.is_empty() { Ok(Step { policy, number, slot, limits: found, targets }) } else { Err(problems) }
}

fn definition(planned: &contract::Limit, policy: &str, bucket: String) -> limit::Definition {
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
        pillar: (!planned.across_pillars).then_some(bucket),
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
