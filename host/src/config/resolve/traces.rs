//! `[telemetry.traces]`: which requests are told span by span, and to whom.
//!
//! Fields for the collector hold credentials: they are references, and no message repeats what stands in their place.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::origin::origin;
use super::{one_source, path_from, variable};
use crate::config::form::{Fault, duration, words};
use crate::config::read::{Entry, Table};
use crate::config::{Collector, SecretSource, Traces};

/// Time for one answer of the collector.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Fields for the collector.
const MOST_FIELDS: usize = 16;
/// How an endpoint is written.
const FORM: &str = "write it like \"http://127.0.0.1:4318\"";
/// What the fields are called that the gateway itself sends.
const OWN: [&str; 5] = ["content-type", "content-length", "content-encoding", "host", "user-agent"];

/// Reads `[telemetry.traces]`.
pub(super) fn traces(mut table: Table<'_>, base: &Path) -> Option<Traces> {
    let endpoint = table.optional_text("endpoint", collector);
    let service = table.text("service", "portico", words(128));
    let sample = table.ratio("sample", "0.01");
    let honours = table.choice("parent", "honour", &[("honour", true), ("ignore", false)]);
    let most = table.integer("most_per_second", 10, 0..=100_000);
    let failures = table.boolean("failures", true);
    let timeout = table.text("timeout", "10s", duration(TIMEOUT));
    let batch = table.integer("batch", 512, 1..=4096);
    let queue = table.integer("queue", 8192, 512..=1_000_000);
    let headers: Vec<_> = table.named("headers", MOST_FIELDS).into_iter().map(|entry| header(entry, base)).collect();
    table.finish();
    Some(Traces {
        endpoint: endpoint?,
        service: service?,
        sample: sample?,
        honours: honours?,
        most_per_second: u32::try_from(most?).ok()?,
        failures: failures?,
        timeout: timeout?,
        batch: usize::try_from(batch?).ok()?,
        queue: usize::try_from(queue?).ok()?,
        headers: headers.into_iter().collect::<Option<_>>()?,
    })
}

/// Scheme, host, port, and a path that others may have put before `/v1/traces`.
fn collector(text: &str) -> Result<Collector, Fault> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(Fault::from(format!("begins with neither http:// nor https://; {FORM}"))),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let origin = origin(tls, authority, FORM)?;
    let path = path.trim_end_matches('/');
    let plain = path.len() <= 1024 && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\%".contains(&byte));
    if !plain || path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains("//") {
        return Err(Fault::from(format!("has a path that is none, or a query, which does not belong here; {FORM}")));
    }
    if path.ends_with("/v1/traces") {
        let meant = text.trim_end_matches('/').trim_end_matches("/v1/traces").to_owned();
        return Err(Fault { message: "ends with /v1/traces, which is added to it".into(), meant: Some(meant) });
    }
    Ok(Collector { tls, host: origin.host, port: origin.port, path: format!("{path}/v1/traces") })
}

fn header(entry: Entry<'_>, base: &Path) -> Option<(String, SecretSource)> {
    let Entry { name, table: mut source } = entry;
    let file = source.optional_text("file", path_from(base));
    let env = source.optional_text("env", variable);
    if OWN.contains(&name) || name.starts_with("proxy-") || name.starts_with("x-portico-") {
        source.problem("is a field that the gateway itself sends, or nobody may");
    } else if !source.has("file") && !source.has("env") {
        source.problem("says nowhere where its value is; write { env = \"…\" } or { file = \"…\" }");
    }
    one_source(source, file, env).map(|source| (name.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> Traces {
        let config = parse(&format!("[telemetry.traces]\n{text}"), Path::new("etc/x.toml"));
        config.unwrap_or_else(|problems| panic!("{problems}")).telemetry.traces
    }

    #[test]
    fn endpoints_are_urls_without_what_is_added() {
        let url = |text: &str| collector(text).map(|collector| collector.url());
        assert_eq!(url("http://127.0.0.1:4318"), Ok("http://127.0.0.1:4318/v1/traces".into()));
        assert_eq!(url("https://Otel.Example/otlp/"), Ok("https://otel.example:443/otlp/v1/traces".into()));
        assert_eq!(url("http://[::1]:4318"), Ok("http://[::1]:4318/v1/traces".into()));
        let meant = collector("http://a:4318/v1/traces").unwrap_err().meant;
        assert_eq!(meant.as_deref(), Some("http://a:4318"));
        for odd in [
            "a:4318",
            "grpc://a:4317",
            "http://",
            "http://u:p@a",
            "http://a/?x",
            "http://a/../b",
            "http://a//b",
            "http://a/%2e",
        ] {
            assert!(collector(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_ratio_is_a_part_of_all_ids() {
        assert!(read("").sample.has(0) && !read("").sample.has(u64::MAX));
        let halves = read("sample = 0.5").sample;
        assert_eq!([halves.has((1 << 63) - 1), halves.has(1 << 63)], [true, false]);
        for (text, none, all) in
            [("sample = 0", false, false), ("sample = 1", true, true), ("sample = 1.0", true, true)]
        {
            let sample = read(text).sample;
            assert_eq!((sample.has(0), sample.has(u64::MAX)), (none, all), "{text}");
        }
    }

    #[test]
    fn fields_for_the_collector_are_references() {
        let traces = read("headers.authorization = { env = \"TOKEN\" }\nheaders.x-tenant.file = \"tenant\"");
        let [authorization, tenant] = traces.headers.as_slice() else { panic!("{traces:?}") };
        assert_eq!(authorization, &("authorization".to_owned(), SecretSource::Env("TOKEN".into())));
        assert_eq!(tenant, &("x-tenant".to_owned(), SecretSource::File("etc/tenant".into())));
    }
}
