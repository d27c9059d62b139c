//! Which requests are told span by span: by the id of their trace, for a client's wish, or because they failed.
//!
//! A client can have no more told than the bound: neither its flag nor an id of its own making decides beyond it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::calls::{Call, Verdict};
use crate::body::End;
use crate::clock::{Clock, Millis};
use crate::config::Traces;
use crate::head::Context;
use crate::usage::Usage;

/// What all workers decide by.
#[derive(Debug)]
pub(super) struct Sampling {
    settings: Traces,
    pub(super) clock: Clock,
    wishes: Bound,
    failures: Bound,
}

/// So many in a second, over all workers.
#[derive(Debug)]
struct Bound {
    most: u32,
    /// The second, and how many there were in it.
    taken: AtomicU64,
}

impl Bound {
    fn new(most: u32) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }

    fn take(&self, at: Millis) -> bool {
        let second = at.seconds() & u64::from(u32::MAX);
        let next = |taken: u64| match (taken >> 32, taken as u32) {
            // A worker may be a moment behind the others; a clock that was put back is believed.
            (of, count) if of >= second && of - second < 10 => (count < self.most).then_some(taken + 1),
            _ => (self.most > 0).then_some(second << 32 | 1),
        };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

impl Sampling {
    pub(super) fn new(settings: Traces, clock: Clock) -> Self {
        let most = settings.most_per_second;
        Self { settings, clock, wishes: Bound::new(most), failures: Bound::new(most) }
    }

    /// The gateway takes part in the trace, and tells of it or not.
    pub(super) fn join(&self, context: &mut Context, at: Millis) {
        context.join(self.wants(context, at));
    }

    fn wants(&self, context: &Context, at: Millis) -> bool {
        if !context.is_continued() {
            return self.settings.sample.has(context.trace as u64);
        }
        if self.settings.honours && !context.is_sampled() {
            return false;
        }
        // By an id that the client did not choose.
        (self.settings.honours && self.wishes.take(at)) || self.settings.sample.has(context.span)
    }

    /// Whether a request is told that nobody wanted told, now that it has ended like this.
    pub(super) fn is_told_after_all(&self, usage: &Usage<'_>, calls: &[Call], end: End) -> bool {
        let did_fail = usage.status >= 500
            || matches!(end, End::Broken | End::Cut)
            || calls.iter().any(|call| call.verdict == Verdict::Failed);
        // Now, and not when it began: what ends late must not reach back.
        did_fail && self.settings.failures && self.failures.take(self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use http::{HeaderMap, HeaderValue};
    use std::path::Path;

    const AT: Millis = Millis(1_800_000_000_000);

    fn sampling(text: &str) -> Sampling {
        let config = config::parse(&format!("[telemetry.traces]\n{text}"), Path::new("x.toml")).unwrap();
        Sampling::new(config.telemetry.traces, Clock::manual(AT))
    }

    /// Whether a request is told whose client says that, where the gateway's own chance is that.
    fn told(sampling: &Sampling, flags: Option<&str>, chance: u64, at: Millis) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(flags) = flags {
            // An id as a client would choose it that wants to be told.
            let parent = format!("00-00000000000000000000000000000001-0000000000000001-{flags}");
            headers.insert("traceparent", HeaderValue::try_from(parent).unwrap());
        }
        let mut context = Context::of(&headers, || chance);
        sampling.join(&mut context, at);
        assert!(context.joins());
        context.is_sampled()
    }

    #[test]
    fn what_begins_here_is_told_by_the_id_of_its_trace() {
        let tenth = sampling("sample = 0.1");
        let told = |chance| told(&tenth, None, chance, AT);
        assert_eq!(
            [told(0), told(u64::MAX / 10 - 2048), told(u64::MAX / 10 + 2048), told(u64::MAX)],
            [true, true, false, false]
        );
    }

    #[test]
    fn a_wish_is_honoured_up_to_the_bound_in_each_second() {
        let bounded = sampling("sample = 0\nmost_per_second = 3");
        let wishes = |at: u64| (0..10).filter(|_| told(&bounded, Some("01"), 7, Millis(AT.0 + at))).count();
        assert_eq!([wishes(0), wishes(999), wishes(1000), wishes(0), wishes(5000)], [3, 0, 3, 0, 3]);
        assert_eq!([wishes(60_000), wishes(0)], [3, 3], "a clock that was put back");
        assert!(!told(&bounded, Some("00"), 0, Millis(AT.0 + 60_000)), "nor against a client's will");
        let none = sampling("sample = 0\nmost_per_second = 0");
        assert!(!told(&none, Some("01"), 0, AT));
        assert!(
            told(&sampling("sample = 1\nmost_per_second = 0"), Some("01"), 7, AT),
            "what is beyond it is left to chance"
        );
    }

    #[test]
    fn ignored_wishes_and_chosen_ids_decide_nothing() {
        let ignoring = sampling("sample = 0.5\nparent = \"ignore\"");
        for flags in ["00", "01"] {
            assert_eq!(
                [told(&ignoring, Some(flags), 1, AT), told(&ignoring, Some(flags), u64::MAX, AT)],
                [true, false]
            );
        }
    }

    #[test]
    fn failures_are_told_up_to_their_own_bound() {
        let usage = |status| Usage { status, ..crate::requests::trace::nothing(AT) };
        let bounded = sampling("sample = 0\nmost_per_second = 2");
        let told = |status, end| bounded.is_told_after_all(&usage(status), &[], end);
        assert!(!told(200, End::Complete) && !told(429, End::Complete) && !told(0, End::Left));
        assert_eq!([told(503, End::Complete), told(200, End::Broken), told(200, End::Cut)], [true, true, false]);
        assert!(!sampling("failures = false").is_told_after_all(&usage(500), &[], End::Complete));
    }

    #[test]
    fn threads_take_no_more_than_the_bound_together() {
        let bound = Bound::new(1000);
        let taken = || (0..1000).filter(|_| bound.take(AT)).count();
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(taken)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(all, 1000);
    }
}
