//! `portico usage`: what an org used in a month by pillar, or sums by day, key, pillar and rule.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, write_table};

/// Show what an org used, as a running gateway counted it
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// The org, by its id [default: the token's; of a super-admin, callers without a key]
    #[arg(long, value_name = "ID")]
    org: Option<String>,
    /// The month, for example 2030-01 [default: this one]
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["by", "from", "to", "key", "pillar", "route", "limit"])]
    month: Option<String>,
    /// A line for each day, key, pillar or route, or for each combination of some of them
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_enum)]
    by: Vec<By>,
    /// The first day, for example 2030-01-31 [default: the first of this month]
    #[arg(long, value_name = "DAY", requires = "by")]
    from: Option<String>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY", requires = "by")]
    to: Option<String>,
    /// With this key only, by its id
    #[arg(long, value_name = "ID", requires = "by")]
    key: Option<String>,
    /// To this pillar only
    #[arg(long, requires = "by")]
    pillar: Option<String>,
    /// By rules of this name only
    #[arg(long, requires = "by")]
    route: Option<String>,
    /// At most so many lines [default: all]
    #[arg(long, value_name = "NUMBER", requires = "by")]
    limit: Option<usize>,
}

/// What lines are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Day,
    Key,
    Pillar,
    Route,
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &UsageArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(args: &UsageArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match args.by.is_empty() {
        true => month(&client, args, out),
        false => detail(&client, args, out),
    });
    target.tell(outcome, errors)
}

fn query(given: &[(&str, Option<&String>)]) -> String {
    let given = given.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    given.collect::<Vec<_>>().join("&")
}

fn month(client: &Client, args: &UsageArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let query = query(&[("org", args.org.as_ref()), ("month", args.month.as_ref())]);
    let usage = client.call(Method::GET, &format!("/v1/usage?{query}"), None)?;
    if args.target.json {
        writeln!(out, "{usage}")?;
        return Ok(());
    }
    let total = (&"all".to_owned(), &usage["total"]);
    let pillars = usage["by_pillar"].as_object().into_iter().flatten().chain([total]);
    let head = concat_cells(["PILLAR".to_owned()], HEAD.map(str::to_owned));
    let rows = pillars.map(|(pillar, used)| concat_cells([super::on_one_line(pillar)], sums(used)));
    write_table::<10>(&[head].into_iter().chain(rows).collect::<Vec<_>>(), out)?;
    let policies = usage["total"]["fuel_by_policy"].as_object().into_iter().flatten();
    let rows: Vec<_> = policies.map(|(policy, fuel)| [super::on_one_line(policy), fuel.to_string()]).collect();
    if !rows.is_empty() {
        writeln!(out)?;
        write_table(&[["POLICY".to_owned(), "FUEL".to_owned()]].into_iter().chain(rows).collect::<Vec<_>>(), out)?;
    }
    Ok(())
}

fn detail(client: &Client, args: &UsageArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let by = args.by.iter().filter_map(|by| by.to_possible_value());
    let by = by.map(|by| by.get_name().to_owned()).collect::<Vec<_>>().join(",");
    let query = query(&[
        ("group_by", Some(&by)),
        ("org", args.org.as_ref()),
        ("from", args.from.as_ref()),
        ("to", args.to.as_ref()),
        ("key", args.key.as_ref()),
        ("pillar", args.pillar.as_ref()),
        ("route", args.route.as_ref()),
    ]);
    let rows = client.all(&format!("/v1/usage/detail?{query}"), "rows", args.limit)?;
    if args.target.json {
        writeln!(out, "{}", json!({ "rows": rows }))?;
        return Ok(());
    }
    let head = concat_cells(["DAY", "KEY", "PILLAR", "ROUTE"].map(str::to_owned), HEAD.map(str::to_owned));
    write_table::<13>(&[head].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>(), out)?;
    Ok(())
}

const HEAD: [&str; 9] = ["CALLS", "2XX", "3XX", "4XX", "5XX", "BYTES-IN", "BYTES-OUT", "GAS", "FUEL"];

fn row(row: &Value) -> [String; 13] {
    // What is not told apart stands for all.
    let cell = |member: &str| row.get(member).map_or_else(|| "*".to_owned(), text);
    concat_cells(["day", "key_id", "pillar", "route"].map(cell), sums(row))
}

fn sums(used: &Value) -> [String; 9] {
    let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let of_status = |class: &str| number(&used["statuses"][class]);
    let [two, three, four, five] = ["2xx", "3xx", "4xx", "5xx"].map(of_status);
    let [calls, bytes_in, bytes_out, fuel] = ["calls", "bytes_in", "bytes_out", "fuel"].map(|name| number(&used[name]));
    [calls, two, three, four, five, bytes_in, bytes_out, text(&used["gas"]), fuel]
}

fn concat_cells<const A: usize, const B: usize, const N: usize>(one: [String; A], other: [String; B]) -> [String; N] {
    let mut cells = one.into_iter().chain(other);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_apart_is_a_star_and_nothing_steers_the_terminal() {
        let statuses = json!({"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 1, "5xx": 0});
        let told = json!({
            "key_id": null, "pillar": "a\u{1b}[2J", "calls": 4, "statuses": statuses, "bytes_in": 1, "bytes_out": 2,
            "gas": "0.5", "fuel": 7,
        });
        let expected = ["*", "-", "a?[2J", "*", "4", "3", "0", "1", "0", "1", "2", "0.5", "7"];
        assert_eq!(row(&told), expected.map(str::to_owned));
    }
}
