use super::*;
use proptest::prelude::*;

const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-01";
const TRACE: u128 = 0x1234_5678_9012_3456_7890_1234_5678_9012;

/// What goes on to the upstream, where the gateway takes part and samples; and whether the client's trace goes on.
fn carried(fields: &[(&str, &str)]) -> (bool, Option<String>) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value.trim_matches([' ', '\t'])).unwrap());
    }
    let mut next = 6;
    let mut context = Context::of(&headers, || {
        next += 1;
        next
    });
    context.join(true);
    context.write(&mut headers);
    let parents: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
    let [parent] = parents.as_slice() else { panic!("{parents:?}") };
    let (trace, parent, flags) = traceparent(parent.as_bytes()).expect("what is written can be read");
    assert_eq!((parent, flags & SAMPLED, trace), (context.below(0), SAMPLED, context.trace));
    assert!(parent != 0x1234_5678_9012_3456 && parent != context.span);
    let states: Vec<_> = headers.get_all(TRACESTATE).iter().map(|state| state.to_str().unwrap().to_owned()).collect();
    assert!(states.len() <= 1, "{states:?}");
    (trace == TRACE, states.into_iter().next())
}

/// The cases of the W3C's own test suite (w3c/trace-context, test/test.py), and some beyond.
#[test]
fn a_traceparent_is_continued_or_another_begun() {
    for good in [
        PARENT,
        "00-12345678901234567890123456789012-1234567890123456-00",
        "00-12345678901234567890123456789012-1234567890123456-ff",
        "cc-12345678901234567890123456789012-1234567890123456-01",
        "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        "01-12345678901234567890123456789012-1234567890123456-01-",
        " 00-12345678901234567890123456789012-1234567890123456-01 \t",
    ] {
        assert_eq!(carried(&[("traceparent", good), ("tracestate", "foo=1")]), (true, Some("foo=1".into())), "{good}");
    }
    for bad in [
        "",
        "00",
        // Versions.
        "00-12345678901234567890123456789012-1234567890123456-01.",
        "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
        "ff-12345678901234567890123456789012-1234567890123456-01",
        ".0-12345678901234567890123456789012-1234567890123456-01",
        "0.-12345678901234567890123456789012-1234567890123456-01",
        "000-12345678901234567890123456789012-1234567890123456-01",
        "0000-12345678901234567890123456789012-1234567890123456-01",
        "0-12345678901234567890123456789012-1234567890123456-01",
        "CC-12345678901234567890123456789012-1234567890123456-01",
        // Ids of traces.
        "00-00000000000000000000000000000000-1234567890123456-01",
        "00-.2345678901234567890123456789012-1234567890123456-01",
        "00-1234567890123456789012345678901.-1234567890123456-01",
        "00-123456789012345678901234567890123-1234567890123456-01",
        "00-1234567890123456789012345678901-1234567890123456-01",
        "00-1234567890123456789012345678901A-1234567890123456-01",
        // Ids of parents.
        "00-12345678901234567890123456789012-0000000000000000-01",
        "00-12345678901234567890123456789012-.234567890123456-01",
        "00-12345678901234567890123456789012-123456789012345.-01",
        "00-12345678901234567890123456789012-12345678901234567-01",
        "00-12345678901234567890123456789012-123456789012345-01",
        "00-12345678901234567890123456789012-123456789012345F-01",
        // Flags.
        "00-12345678901234567890123456789012-1234567890123456-.0",
        "00-12345678901234567890123456789012-1234567890123456-0.",
        "00-12345678901234567890123456789012-1234567890123456-001",
        "00-12345678901234567890123456789012-1234567890123456-1",
        "00-12345678901234567890123456789012-1234567890123456-",
        "00-12345678901234567890123456789012-1234567890123456-0F",
        "00_12345678901234567890123456789012_1234567890123456_01",
    ] {
        assert_eq!(carried(&[("traceparent", bad), ("tracestate", "foo=1")]), (false, None), "{bad}");
    }
    let twice = [("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "foo=1")];
    assert_eq!(carried(&twice), (false, None), "of two, none is believed");
    for odd in ["trace-parent", "trace.parent"] {
        assert!(!carried(&[(odd, PARENT)]).0, "{odd}");
    }
    assert_eq!(carried(&[("tracestate", "foo=1")]), (false, None), "without a trace there is no state of it");
}

#[test]
fn a_tracestate_goes_on_whole_or_not_at_all() {
    let state = |fields: &[&str]| {
        let fields = fields.iter().map(|field| ("tracestate", *field));
        let all: Vec<_> = std::iter::once(("traceparent", PARENT)).chain(fields).collect();
        let (continued, state) = carried(&all);
        assert!(continued, "a malformed state ends no trace");
        state
    };
    let members = |count: usize| (1..=count).map(|number| format!("bar{number:02}=1")).collect::<Vec<_>>().join(",");
    let chars: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
    let key = format!("{}0123456789_-*/@a-z0-9_-*/", ('a'..='z').collect::<String>());
    let (long, value) = ("z".repeat(256), "v".repeat(256));
    let large = (0..32).map(|number| format!("k{number}={value}")).collect::<Vec<_>>().join(",");
    for good in [
        "foo=1,bar=2",
        "foo=1 \t , \t bar=2, \t baz=3",
        "foo=1,,bar=2",
        "foo=1,",
        "foo=1,foo=2",
        "foo@=1,bar=2",
        "foo@@bar=1,bar=2",
        "0foo=1",
        "foo= 1",
        &format!("{key}={chars}"),
        &format!("{long}={value}"),
        &members(32),
        &large,
    ] {
        assert_eq!(state(&[good]).as_deref(), Some(good));
    }
    for bad in [
        "",
        ",",
        "foo",
        "foo=",
        "foo=,bar=3",
        "foo=bar=baz",
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "@foo=1,bar=2",
        "=1",
        "foo=a\tb",
        &format!("{long}z=1"),
        &format!("{long}={value}v"),
        &members(33),
    ] {
        assert_eq!(state(&[bad]), None, "{bad}");
        // What is empty is passed over, what is malformed spoils the others.
        let beside = state(&["foo=1", bad]);
        let expected = ["foo=1", "foo=1,,"].get(bad.len()).filter(|_| bad.is_empty() || bad == ",");
        assert_eq!(beside.as_deref(), expected.copied(), "{bad}");
    }
    assert_eq!(state(&["foo=1,bar=2", "rojo=1", "baz=3"]).as_deref(), Some("foo=1,bar=2,rojo=1,baz=3"));
    assert_eq!(state(&["", "foo=1"]).as_deref(), Some("foo=1"));
    let (ten, rest) = (members(10), members(22));
    assert!(state(&[&ten, &rest]).is_some() && state(&[&ten, &rest, "one=more"]).is_none(), "32 in all");
}

#[test]
fn who_takes_no_part_passes_a_trace_on_as_it_came() {
    let later = "01-12345678901234567890123456789012-1234567890123456-03-more";
    for parent in [PARENT, later] {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        let before = headers.clone();
        Context::of(&headers, || 7).write(&mut headers);
        assert_eq!(headers, before);
        headers.insert(TRACESTATE, HeaderValue::from_static("A=b"));
        Context::of(&headers, || 7).write(&mut headers);
        assert_eq!((headers.get(TRACESTATE), &headers[TRACEPARENT]), (None, &before[TRACEPARENT]));
    }
    let mut headers = HeaderMap::new();
    Context::of(&headers, || 0).write(&mut headers);
    let (trace, parent, flags) = traceparent(headers[TRACEPARENT].as_bytes()).expect("one is begun");
    assert_eq!((trace != 0 && parent != 0, flags), (true, RANDOM), "no chance makes an id that is none");
}

#[test]
fn flags_are_the_gateways_own_where_it_takes_part() {
    let flags = |said: &str, sampled| {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(&PARENT.replace("-01", said)).unwrap());
        let mut context = Context::of(&headers, || 9);
        context.join(sampled);
        context.write(&mut headers);
        headers[TRACEPARENT].to_str().unwrap()[53..].to_owned()
    };
    assert_eq!([flags("-01", false), flags("-00", true)], ["00", "01"]);
    assert_eq!([flags("-03", false), flags("-ff", true)], ["02", "03"], "what is not known is not passed on");
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_goes_on_is_well_formed(
        parents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 0..3),
        near in "[0-9a-fA-F.-]{50,60}",
        states in proptest::collection::vec("[a-c@=, \\t]{0,20}", 0..4),
        random in any::<u64>(),
    ) {
        let _ = (traceparent(near.as_bytes()), is_state([near.as_bytes()]));
        let mut headers = HeaderMap::new();
        for parent in parents.iter().filter_map(|parent| HeaderValue::from_bytes(parent).ok()) {
            headers.append(TRACEPARENT, parent);
        }
        for state in states.iter().filter_map(|state| HeaderValue::from_str(state).ok()) {
            headers.append(TRACESTATE, state);
        }
        let mut context = Context::of(&headers, || random);
        context.join(random % 2 == 0);
        context.write(&mut headers);
        prop_assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        prop_assert!(traceparent(headers[TRACEPARENT].as_bytes()).is_some());
        let state: Vec<_> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
        prop_assert!(state.is_empty() || is_state(state));
    }

    #[test]
    fn spans_below_one_have_ids_of_their_own(span in 1_u64.., numbers in proptest::collection::btree_set(any::<u64>(), 2..20)) {
        let context = Context { trace: 1, parent: 0, span, flags: 0, joins: true };
        let ids: std::collections::BTreeSet<_> = numbers.iter().map(|number| context.below(*number)).collect();
        prop_assert_eq!(ids.len(), numbers.len());
        prop_assert!(!ids.contains(&0));
    }
}
