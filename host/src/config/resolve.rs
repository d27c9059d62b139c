//! From text to a [`Config`], or to everything that is wrong with it.
//!
//! All or nothing: every section is read to its end even after mistakes, and a configuration comes out only if there were none.

mod api;
mod chain;
mod grant;
mod journal;
mod keys;
mod listener;
mod origin;
mod pillar;
mod policy;
mod route;
mod telemetry;
mod traces;
mod upstream;
mod webhooks;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::file;
use super::form::{self, Fault, shown};
use super::problem::{Place, Problems, Report};
use super::read::{Entry, Table};
use super::suggest::{listed, nearest};
use super::value::Value;
use super::{Compile, Config, Data, Plugins, SecretSource, Secrets, Source};

/// Processor time that compiling one component may be given; it is counted in seconds.
const COMPILE_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Memory that compiling one component may be given.
const COMPILE_MEMORY: RangeInclusive<u64> = 128 << 20..=64 << 30;

/// Reads and checks the configuration in a file. Relative paths in it are relative to the file's directory.
///
/// # Errors
/// All problems of the file at once; one, without a place, where the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    parse(&text_in(path)?, path)
}

/// What a file says, whatever it means.
///
/// # Errors
/// One problem, where it cannot be read.
pub fn read(path: &Path) -> Result<Source, Problems> {
    text_in(path).map(|text| Source::of(&text))
}

fn text_in(path: &Path) -> Result<String, Problems> {
    file::read(path).map_err(|error| Problems::of_file(path, error.to_string()))
}

/// Checks the text of a configuration as if it were in the file `path`, which need not exist.
///
/// # Errors
/// All problems at once; only the first where the text is not TOML.
pub fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    let report = Report::new(text);
    let config = checked(&report, text, path);
    match (config, report.finish(path)) {
        (Some(config), None) => Ok(config),
        (_, Some(problems)) => Err(problems),
        (None, None) => Err(Problems::of_file(path, "the configuration does not make sense as a whole".to_owned())),
    }
}

/// Reads the whole file; `None` only after a problem was added.
pub(super) fn checked(report: &Report<'_>, text: &str, path: &Path) -> Option<Config> {
    if text.len() as u64 > file::MAXIMUM {
        report.add(&Place::of_file(0), file::FileError::TooLarge.to_string(), None);
        return None;
    }
    match DeTable::parse(text) {
        Ok(root) => whole(report, root.get_ref(), text, path),
        Err(error) => {
            let offset = error.span().map_or(text.len(), |span| span.start);
            report.add(&Place::of_file(offset), not_toml(text, &error), None);
            None
        }
    }
}

/// The parser's words, but for two that would puzzle.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let span = error.span().unwrap_or(text.len()..text.len());
    let there = text.get(span).unwrap_or_default();
    match error.message() {
        "duplicate key" if !there.is_empty() => format!("this is not TOML: `{}` is there already", shown(there)),
        message if there.is_empty() && message.starts_with("string values must be quoted") => {
            "this is not TOML: a value is missing after `=`".to_owned()
        }
        message => format!("this is not TOML: {message}"),
    }
}

fn whole(report: &Report<'_>, root: &DeTable<'_>, text: &str, path: &Path) -> Option<Config> {
    let mut root = Table::at(report, Place::of_file(0), Some(root));
    let base = path.parent().unwrap_or(Path::new(""));

    let gateway = listener::gateway(root.table("gateway"));
    let admin = listener::admin(root.table("admin"), gateway.as_ref());
    let data = data(root.table("data"), base);
    let journal = journal::journal(root.table("journal"));
    let telemetry = telemetry::telemetry(root.table("telemetry"), base);
    let keys = keys::keys(root.table("keys"));
    let secrets = secrets(root.table("secrets"), base);
    let plugins = plugins(root.table("plugins"), base);

    let policies = root.named("policies", 256);
    let upstreams = root.named("upstreams", 4096);
    // Names first: a reference to a policy that is wrong in itself is not a second mistake.
    let names = Names { policies: sorted(&policies), upstreams: sorted(&upstreams) };
    let policies: Vec<_> = policies.into_iter().map(policy::policy).collect();
    let upstreams: Vec<_> = upstreams.into_iter().map(upstream::upstream).collect();
    let chain = default_chain(root.table("defaults"), &names);
    let pillars = pillar::pillars(root.named("pillars", 4096), &names, &chain, base);
    let api = api::api(root.table("api"), &names, &chain);
    let webhooks = webhooks::webhooks(root.table("webhooks"));
    root.finish();

    Some(Config {
        path: path.to_owned(),
        source: Source::of(text),
        gateway: gateway?,
        admin: admin?,
        data: data?,
        journal: journal?,
        telemetry: telemetry?,
        keys: keys?,
        secrets: secrets?,
        plugins: plugins?,
        policies: policies.into_iter().map(|policy| policy.map(|it| (it.name.clone(), it))).collect::<Option<_>>()?,
        upstreams: upstreams.into_iter().map(|group| group.map(|it| (it.name.clone(), it))).collect::<Option<_>>()?,
        pillars: pillars?,
        api: api?,
        webhooks: webhooks?,
    })
}

fn default_chain(mut table: Table<'_>, names: &Names<'_>) -> Vec<String> {
    let chain = table.list("chain", chain::LONGEST).and_then(|items| chain::chain(&items, names));
    table.finish();
    chain.unwrap_or_default()
}

fn data(mut table: Table<'_>, base: &Path) -> Option<Data> {
    let directory = table.text("directory", ".portico/data", path_from(base));
    table.finish();
    Some(Data { directory: directory? })
}

fn plugins(mut table: Table<'_>, base: &Path) -> Option<Plugins> {
    let directory = table.text("directory", "plugins", path_from(base));
    let time = table.text("compile_time", "2m", form::duration(COMPILE_TIME));
    let memory = table.text("compile_memory", "1GiB", form::size(COMPILE_MEMORY));
    let roots = table.list("outbound_roots", 16).and_then(|items| {
        let paths: Vec<_> = items.iter().map(|item| item.text(path_from(base))).collect();
        paths.into_iter().collect::<Option<Vec<_>>>()
    });
    table.finish();
    let compile = Compile { time: time?, memory: memory? };
    Some(Plugins { directory: directory?, compile, outbound_roots: roots? })
}

fn secrets(mut table: Table<'_>, base: &Path) -> Option<Secrets> {
    let master_key = master_key(&mut table, base);
    table.finish();
    Some(Secrets { master_key: master_key? })
}

fn master_key(table: &mut Table<'_>, base: &Path) -> Option<SecretSource> {
    // The mistake to expect is the key itself in this place, which no message may repeat.
    let place = table.place_of("master_key");
    if table.has("master_key") && !table.is_table("master_key") {
        let message = "must be a reference, { file = \"…\" } or { env = \"…\" }, never the secret itself";
        table.report().add(&place, message, None);
        table.known("master_key");
        return None;
    }
    let mut source = table.table("master_key");
    let file = source.text("file", ".portico/master.key", path_from(base));
    let env = source.optional_text("env", variable);
    one_source(source, file.map(Some), env)
}

/// Where a secret is: in the variable, or else in the file.
fn one_source(source: Table<'_>, file: Option<Option<PathBuf>>, env: Option<Option<String>>) -> Option<SecretSource> {
    if source.has("file") && source.has("env") {
        source.problem("names both a file and an environment variable; keep one of them");
    }
    source.finish();
    env?.map(SecretSource::Env).or(file?.map(SecretSource::File))
}

fn variable(text: &str) -> Result<String, Fault> {
    // Never shown: somebody may have put the secret here.
    let fits = text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::from("looks like the key itself; write the name of an environment variable that holds it"));
    }
    fits.then(|| text.to_owned())
        .ok_or_else(|| Fault::from("is not the name of an environment variable, such as \"PORTICO_MASTER_KEY\""))
}

fn path_from(base: &Path) -> impl Fn(&str) -> Result<PathBuf, Fault> {
    move |text| {
        if text.is_empty() || text.len() > 4096 || text.contains('\0') {
            return Err(Fault::from("is not a path; write 1 to 4096 bytes"));
        }
        Ok(base.join(text))
    }
}

fn sorted<'d>(entries: &[Entry<'d>]) -> Vec<&'d str> {
    let mut names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    names
}

/// What references may point to; sorted.
struct Names<'d> {
    policies: Vec<&'d str>,
    upstreams: Vec<&'d str>,
}

/// The text of a reference, if it points to one of the names.
fn reference<'d>(value: &Value<'d>, what: &str, names: &[&'d str]) -> Option<String> {
    value.text(|text| {
        if names.binary_search(&text).is_ok() {
            return Ok(text.to_owned());
        }
        // Distances to thousands of names are worth it only for problems that will be told.
        let near = || nearest(text, names.iter().copied()).map(str::to_owned);
        let meant = if value.report.is_full() { None } else { near() };
        let known = || format!("; there are: {}", listed(names.iter().copied()));
        let hint = if meant.is_some() { String::new() } else { known() };
        Err(Fault { message: format!("there is no {what} `{}`{hint}", shown(text)), meant })
    })
}
