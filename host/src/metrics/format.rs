//! The two forms of the exposition, and which of them a scraper wants.
//!
//! Written is OpenMetrics. The older form differs in the names by which counters are described, and in its end.

use std::fmt::Write;

/// A form of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text, 0.0.4; for whoever asks for nothing else.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that is wanted most, by the values of `Accept`.
    pub fn wanted<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut text, mut open) = (0, 0);
        for range in accept.flat_map(|value| value.split(|byte| *byte == b',')) {
            let Ok(range) = std::str::from_utf8(range) else { continue };
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1000, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = thousandths(value.trim()),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let is = |known: &str| version.is_none_or(|version| version == known);
            match kind.as_str() {
                "application/openmetrics-text" if is("1.0.0") => open = open.max(weight),
                "text/plain" if is("0.0.4") => text = text.max(weight),
                _ => {}
            }
        }
        if open > text { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What was written as OpenMetrics, in this form.
    pub(super) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => older(&open_metrics),
        }
    }
}

/// A weight such as `0.25`. What is none weighs nothing.
fn thousandths(value: &str) -> u16 {
    value.parse::<f32>().map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// In the older form a counter is described under the name of its samples, and the end of the text is its end.
fn older(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Before the type, by which the name is known.
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let end = if kind == "counter" { "_total" } else { "" };
            if let Some((_, sentence)) = help.take() {
                // Writing into a String does not fail.
                let _ = writeln!(text, "# HELP {name}{end} {sentence}");
            }
            let _ = writeln!(text, "# TYPE {name}{end} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_wants_most() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html, */*", Format::Text),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Format::Text),
            ("application/openmetrics-text; q=0", Format::Text),
            ("application/openmetrics-text; q=nonsense", Format::Text),
            ("text/plain, application/openmetrics-text; q=0.9", Format::Text),
            ("text/plain; version=1.0.0, application/openmetrics-text; q=0.1", Format::OpenMetrics),
        ] {
            assert_eq!(Format::wanted([accept.as_bytes()].into_iter()), wanted, "{accept}");
        }
        assert_eq!(Format::wanted([&b"\xff"[..], b"application/openmetrics-text"].into_iter()), Format::OpenMetrics);
    }

    #[test]
    fn counters_are_described_by_the_names_of_their_samples() {
        let open = "# HELP a What it is.\n# TYPE a counter\na_total{of=\"# TYPE x counter\"} 1\n\
                    # HELP b Another.\n# TYPE b gauge\nb 2.0\n# EOF\n";
        let text = "# HELP a_total What it is.\n# TYPE a_total counter\na_total{of=\"# TYPE x counter\"} 1\n\
                    # HELP b Another.\n# TYPE b gauge\nb 2.0\n";
        assert_eq!(Format::Text.of(open.into()), text);
        assert_eq!(Format::OpenMetrics.of(open.into()), open);
    }
}
