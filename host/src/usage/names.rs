//! Small numbers for the names of pillars, rules and policies, so that counting needs no text.
//!
//! Invariant: a number means the same name for as long as the process lives, whatever configuration comes and goes; so
//! rows may outlive the snapshot that they were counted under.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is called so has no number, or is beyond what is told apart.
pub(super) const OTHER: &str = "other";

/// The number of a pillar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pillar(u16);

/// The number of a rule, in its pillar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route(u16);

/// The number of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy(u16);

/// All names that were ever numbered. Locks: at snapshot time, and when rows are drained.
#[derive(Debug, Default)]
pub struct Names(Mutex<Register>);

#[derive(Debug, Default)]
struct Register {
    pillars: List,
    policies: List,
    /// The rules of each pillar, by its number.
    routes: HashMap<u16, List>,
    /// The paths of rules, by the numbers of pillar and rule.
    templates: HashMap<(u16, u16), Arc<str>>,
}

/// Names by number, from 1 on.
#[derive(Debug, Default)]
struct List {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

impl Pillar {
    /// For what belongs to no pillar.
    pub const NONE: Self = Self(0);

    /// As a number.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// The one with this number.
    pub(crate) fn numbered(number: u16) -> Self {
        Self(number)
    }
}

impl Route {
    /// For what matched no rule.
    pub const NONE: Self = Self(0);

    /// As a number.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// The one with this number.
    pub(crate) fn numbered(number: u16) -> Self {
        Self(number)
    }
}

impl Policy {
    /// For those beyond what is told apart.
    pub const NONE: Self = Self(0);

    /// As a number.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// The one with this number.
    pub(crate) fn numbered(number: u16) -> Self {
        Self(number)
    }
}

impl Names {
    /// The number of a pillar. After 65,535 of them, further ones are counted together as `other`.
    pub fn pillar(&self, name: &str) -> Pillar {
        Pillar(self.register().pillars.number(name))
    }

    /// The number of a rule of a pillar. After 65,535 rules of one pillar, further ones are counted together as `other`.
    pub fn route(&self, pillar: Pillar, name: &str) -> Route {
        Route(self.register().routes.entry(pillar.0).or_default().number(name))
    }

    /// The number of a policy. After 65,535 of them, further ones are counted together as `other`.
    pub fn policy(&self, name: &str) -> Policy {
        Policy(self.register().policies.number(name))
    }

    /// The name of a policy.
    pub(crate) fn policy_name(&self, policy: Policy) -> Arc<str> {
        self.register().policies.name(policy.0)
    }

    /// The names of a pillar and of a rule in it.
    pub(crate) fn find(&self, pillar: Pillar, route: Route) -> (Arc<str>, Arc<str>) {
        let register = self.register();
        let route = register.routes.get(&pillar.0).map(|routes| routes.name(route.0));
        (register.pillars.name(pillar.0), route.unwrap_or_else(|| OTHER.into()))
    }

    /// Notes the path of a rule, as it is configured: the last word counts.
    pub(crate) fn note_template(&self, pillar: Pillar, route: Route, template: &str) {
        if route != Route::NONE {
            self.register().templates.insert((pillar.0, route.0), template.into());
        }
    }

    /// The path of a rule, where it has one.
    pub(crate) fn template(&self, pillar: Pillar, route: Route) -> Option<Arc<str>> {
        self.register().templates.get(&(pillar.0, route.0)).cloned()
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        // Whole after each push, whatever its holder was interrupted in.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.names.len() + 1) else { return 0 };
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    fn name(&self, number: u16) -> Arc<str> {
        let name = usize::from(number).checked_sub(1).and_then(|position| self.names.get(position));
        name.map_or_else(|| OTHER.into(), Arc::clone)
    }
}
