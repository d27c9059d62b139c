//! Reads an exposition by the letter of its two forms, and stops at whatever a scraper could trip over.
//!
//! Knows nothing of what wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Everything in an exposition, as Prometheus' own text or as OpenMetrics.
pub fn read(text: &str, open_metrics: bool) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let text = if open_metrics { text.strip_suffix("# EOF\n").expect("an end") } else { text };
    let (mut samples, mut series, mut families) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut family: Option<(&str, &str)> = None;
    let mut described = None;
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, sentence) = help.split_once(' ').expect("a sentence");
            assert!(is_name(name) && sentence.ends_with('.') && !sentence.contains('\\'), "{line}");
            assert!(families.insert(name), "{name} comes twice");
            described = Some(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            assert!(described.take() == Some(name) && matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(!open_metrics || !name.ends_with("_total"), "{line}");
            family = Some((name, kind));
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let sample = sample(line);
            let (name, kind) = family.expect("a family before its samples");
            let ends: &[&str] = match kind {
                "counter" if open_metrics => &["_total"],
                "histogram" => &["_sum", "_count", "_bucket"],
                _ => &[""],
            };
            assert!(ends.iter().any(|end| sample.name == format!("{name}{end}")), "not of this family: {line}");
            assert_eq!(sample.labels.contains_key("le"), sample.name.ends_with("_bucket"), "{line}");
            assert!(kind != "counter" || sample.name.ends_with("_total") && sample.value >= 0.0, "{line}");
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            assert!(series.insert((sample.name.clone(), labels)), "twice: {line}");
            samples.push(sample);
        }
    }
    samples
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut letters = rest.chars().peekable();
    let labels = if letters.next_if_eq(&'{').is_some() { labels(&mut letters, line) } else { BTreeMap::new() };
    assert_eq!(letters.next(), Some(' '), "{line}");
    let value: String = letters.collect();
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|error| panic!("{error}: {line}")) }
}

/// After the brace, up to and with the one that ends them.
fn labels(letters: &mut Peekable<Chars<'_>>, line: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    loop {
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=') {
            name.push(letter);
        }
        assert!(is_name(&name) && letters.next() == Some('=') && letters.next() == Some('"'), "{line}");
        let mut value = String::new();
        loop {
            match letters.next() {
                Some('"') => break,
                Some('\\') => match letters.next() {
                    Some('n') => value.push('\n'),
                    Some(letter @ ('\\' | '"')) => value.push(letter),
                    other => panic!("no such escape: {other:?} in {line}"),
                },
                Some(letter) => value.push(letter),
                None => panic!("a value without an end: {line}"),
            }
        }
        assert!(labels.insert(name, value).is_none(), "a label twice: {line}");
        match letters.next() {
            Some(',') => {}
            Some('}') => return labels,
            other => panic!("{other:?} after a label: {line}"),
        }
    }
}

#[test]
fn what_a_scraper_would_trip_over_is_noticed() {
    let good = "# HELP a_total What.\n# TYPE a_total counter\na_total{of=\"x \\\"\\\\\\n}\"} 1\na_total{of=\"y\"} 2\n";
    let samples = read(good, false);
    assert_eq!((samples.len(), samples[0].labels["of"].as_str()), (2, "x \"\\\n}"));
    for bad in [
        good.replace("\"y\"", "\"x \\\"\\\\\\n}\""),
        good.replace("\"y\"", "\"y\"\""),
        good.replace("\"y\"} 2", "\"y\"} two"),
        good.replace("# TYPE a_total counter\n", ""),
        good.replace("a_total{of=\"y\"}", "b_total"),
        good.replace("{of=\"y\"}", "{of=\"y\""),
        good.trim_end().to_owned(),
        format!("{good}# EOF\n"),
    ] {
        assert!(std::panic::catch_unwind(|| read(&bad, false)).is_err(), "{bad}");
    }
}
