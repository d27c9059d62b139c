//! Headings with times, so that a long run always says what it is doing.

use std::time::{Duration, Instant};

/// One step of a long command, from its heading to its closing line.
pub struct Section {
    title: String,
    started: Instant,
}

impl Section {
    /// Prints the heading.
    pub fn open(title: impl Into<String>) -> Self {
        let title = title.into();
        eprintln!("\n== {title}");
        Self { title, started: Instant::now() }
    }

    /// Prints how long it took.
    pub fn close(self) -> Duration {
        let took = self.started.elapsed();
        eprintln!("== {}: done in {}", self.title, in_words(took));
        took
    }

    /// What it is called.
    pub fn title(&self) -> &str {
        &self.title
    }
}

/// `0.4 s`, `17 s`, `3 min 5 s`: as exact as anyone wants to know.
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!(in_words(Duration::from_millis(420)), "0.4 s");
        assert_eq!(in_words(Duration::from_secs(17)), "17 s");
        assert_eq!(in_words(Duration::from_secs(185)), "3 min 5 s");
    }
}
