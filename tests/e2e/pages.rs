//! The pages on plugins, for authors and for operators: followed word for word.
//!
//! Apart from the other tests, and not because they would disturb them: the authors' page has the gateway compile 60 MiB of
//! interpreters, which steps back behind whatever else runs. Beside all other tests that takes longer than a reader would wait.

use crate::walk::follow;

#[test]
#[ignore = "it compiles for minutes: `cargo xtask test` runs it alone, after the others"]
fn the_page_for_plugin_authors_can_be_followed() {
    follow("docs/plugin-authors.md", 1);
}

#[test]
#[ignore = "it shows what happens within seconds: `cargo xtask test` runs it alone, after the others"]
fn the_page_on_plugins_for_operators_can_be_followed() {
    follow("docs/plugins.md", 2);
}
