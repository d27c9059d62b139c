//! Which figures were beyond what they must be.

use anyhow::{Result, bail};

/// Figures that were held against their bounds.
#[derive(Default)]
pub struct Musts {
    missed: Vec<String>,
}

impl Musts {
    /// The figure with its bound, as it is shown in a table.
    pub fn at_most(&mut self, what: &str, figure: f64, most: f64, decimals: usize) -> String {
        let bound = format!("must ≤ {most:.decimals$}");
        // What is no number was not measured.
        let holds = figure <= most;
        self.note(holds, what, format!("{figure:.decimals$}"), &bound)
    }

    /// As [`Self::at_most`], for counts that have one right value.
    pub fn exactly(&mut self, what: &str, count: usize, expected: usize) -> String {
        self.note(count == expected, what, count.to_string(), &format!("must = {expected}"))
    }

    /// An error that names each figure that was missed.
    pub fn held(self) -> Result<()> {
        if self.missed.is_empty() {
            return Ok(());
        }
        bail!("{} figure(s) missed:\n  {}", self.missed.len(), self.missed.join("\n  "))
    }

    fn note(&mut self, holds: bool, what: &str, figure: String, bound: &str) -> String {
        if holds {
            return format!("{figure} ({bound})");
        }
        self.missed.push(format!("{what}: {figure}, {bound}"));
        format!("{figure} MISSED ({bound})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_missed() {
        let mut musts = Musts::default();
        assert_eq!(musts.at_most("ratio", f64::NAN, 1.4, 2), "NaN MISSED (must ≤ 1.40)");
        assert!(musts.held().is_err());
    }
}
