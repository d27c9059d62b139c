//! Usage of an org in detail: sums over the rows that have the same day, key, pillar and rule, page by page.
//!
//! Whatever the question, no more than one page of sums is in memory: those that come later in the order go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Caller, Counts, Day};

/// What sums are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// The day.
    pub day: bool,
    /// The key.
    pub key: bool,
    /// The pillar.
    pub pillar: bool,
    /// The rule.
    pub route: bool,
}

/// A question about an org's usage.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The org; none for the anonymous callers.
    pub org: Option<u128>,
    /// The first day.
    pub from: Day,
    /// The last day.
    pub to: Day,
    /// Of this key only.
    pub key: Option<u128>,
    /// Of this pillar only.
    pub pillar: Option<String>,
    /// Of rules of this name only.
    pub route: Option<String>,
    /// What sums are told apart by.
    pub by: By,
    /// Sums after this one only.
    pub after: Option<Group>,
    /// The most sums of the page.
    pub limit: usize,
}

/// What the rows of one sum have in common, in the order of sums. `None` where that is no part of the question.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The day.
    pub day: Option<Day>,
    /// The key; `Some(None)` for callers of the org without one.
    pub key: Option<Option<u128>>,
    /// The pillar.
    pub pillar: Option<Arc<str>>,
    /// The rule.
    pub route: Option<Arc<str>>,
}

/// Some sums, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The sums.
    pub rows: Vec<(Group, Counts)>,
    /// Whether there are more after them.
    pub more: bool,
    /// The question reaches over more rows than are read for one page, and has no answer.
    pub is_beyond: bool,
}

/// Rows that are read for one page.
pub const MOST_READ: usize = 1_000_000;

/// The sums of a page, while rows are read.
pub(super) struct Gathering<'q> {
    question: &'q Detail,
    sums: BTreeMap<Group, Counts>,
    read: usize,
    most: usize,
}

impl Group {
    /// What it tells sums apart by.
    pub fn by(&self) -> By {
        let Self { day, key, pillar, route } = self;
        By { day: day.is_some(), key: key.is_some(), pillar: pillar.is_some(), route: route.is_some() }
    }
}

impl Detail {
    /// Begins to read rows.
    pub(super) fn gather(&self) -> Gathering<'_> {
        self.gather_of(MOST_READ)
    }

    fn gather_of(&self, most: usize) -> Gathering<'_> {
        Gathering { question: self, sums: BTreeMap::new(), read: 0, most }
    }
}

impl Gathering<'_> {
    /// The first and the last day whose rows can be of the page.
    pub(super) fn days(&self) -> Option<(Day, Day)> {
        let reached = self.question.after.as_ref().and_then(|after| after.day);
        let first = reached.map_or(self.question.from, |day| day.max(self.question.from));
        (first <= self.question.to).then_some((first, self.question.to))
    }

    /// Takes a row of the org. `false` where none that comes later can be of the page, if rows come by day.
    pub(super) fn see(
        &mut self,
        day: Day,
        caller: Caller,
        pillar: &Arc<str>,
        route: &Arc<str>,
        counts: &Counts,
    ) -> bool {
        let Detail { by, after, limit, .. } = self.question;
        self.read += 1;
        if self.read > self.most {
            return false;
        }
        let is_wanted = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
        if self.question.key.is_some_and(|key| caller.key != Some(key))
            || !is_wanted(&self.question.pillar, pillar)
            || !is_wanted(&self.question.route, route)
        {
            return true;
        }
        let group = Group {
            day: by.day.then_some(day),
            key: by.key.then_some(caller.key),
            pillar: by.pillar.then(|| pillar.clone()),
            route: by.route.then(|| route.clone()),
        };
        if after.as_ref().is_some_and(|after| group <= *after) {
            return true;
        }
        if let Some(sum) = self.sums.get_mut(&group) {
            sum.merge(counts);
            return true;
        }
        // One more than the page has tells that there are more. What goes does not come again: all that stay are before it.
        if self.sums.len() > *limit {
            match self.sums.last_key_value() {
                Some((last, _)) if group > *last => return group.day <= last.day,
                _ => drop(self.sums.pop_last()),
            }
        }
        self.sums.insert(group, counts.clone());
        true
    }

    /// The page.
    pub(super) fn finish(self) -> Page {
        let limit = self.question.limit;
        if self.read > self.most {
            // Part of a sum is no sum.
            return Page { is_beyond: true, ..Page::default() };
        }
        Page { is_beyond: false, more: self.sums.len() > limit, rows: self.sums.into_iter().take(limit).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_over_too_many_rows_has_no_answer_and_one_over_just_so_many_has() {
        let by = By { day: false, key: false, pillar: true, route: false };
        let (key, pillar, route, after) = Default::default();
        let question = Detail { org: None, from: Day(1), to: Day(9), key, pillar, route, by, after, limit: 5 };
        let (pillar, route): (Arc<str>, Arc<str>) = ("pay".into(), "x".into());
        let page = |rows: u32| {
            let mut gathering = question.gather_of(4);
            let counts = Counts { calls: 1, ..Counts::default() };
            let see = |day| gathering.see(Day(day), Caller::default(), &pillar, &route, &counts);
            let read = (1..=rows).map(see).take_while(|more| *more).count();
            (read, gathering.finish())
        };
        let (read, whole) = page(4);
        assert_eq!((read, whole.rows[0].1.calls, whole.is_beyond), (4, 4, false));
        let (read, beyond) = page(9);
        assert_eq!((read, beyond), (4, Page { is_beyond: true, ..Page::default() }));
    }
}
