//! The pages on plugins, for authors and for operators: followed word for word.

use crate::walk::follow;

#[test]
#[ignore = "it compiles for minutes: `cargo xtask test` runs it alone, after the others"]
fn the_page_for_plugin_authors_can_be_followed() {
    follow("docs/plugin-authors.md", 1);
}

#[test]
#[ignore = "it shows bounds of time: `cargo xtask test` runs it alone, after the others"]
fn the_page_on_plugins_for_operators_can_be_followed() {
    follow("docs/plugins.md", 2);
}
