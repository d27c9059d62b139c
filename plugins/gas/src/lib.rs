//! Says what a request costs. Prices are read in [`price`], and exact; booking is the gateway's.

pub mod price;

use std::collections::BTreeMap;

use portico_sdk::{About, Auth, Charge, Credential, Diagnostic, Facts, Mode, Policy, Powers, Request, Setup, Verdict};
use serde::Deserialize;

use price::PriceConfig;

/// Charges the price of the route.
#[derive(Debug)]
pub struct Gas {
    /// By position of the route.
    prices: Vec<Priced>,
}

/// What one route costs, and whether it asks for a key.
#[derive(Debug)]
struct Priced {
    charge: Option<Charge>,
    open: bool,
}

/// One slot's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The price of every route that is not in `routes`; free where it is left out.
    default: Option<PriceConfig>,
    /// Prices by the name of the route.
    #[serde(default)]
    routes: BTreeMap<String, PriceConfig>,
}

impl Policy for Gas {
    type Config = Config;
    const ABOUT: About = About::new("gas", env!("CARGO_PKG_VERSION"), "Charges for requests, by route and by unit.")
        .sees(Facts::CREDENTIAL)
        .may(Powers::CHARGE)
        .schema(include_str!("../schema.json"));

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        let routes = setup.routes();
        let mut by_name = BTreeMap::new();
        for (name, price) in &config.routes {
            let place = format!("/routes/{}", name.replace('~', "~0").replace('/', "~1"));
            if !routes.iter().any(|route| route.name == *name) {
                let names = routes.iter().map(|route| route.name.as_str());
                setup.problem(&place, unknown_route(name, setup.pillar(), names));
            }
            by_name.insert(name.as_str(), price::resolve(price, &place, setup));
        }
        let default = config.default.as_ref();
        let default = default.and_then(|price| price::resolve(price, "/default", setup));
        let priced = routes.iter().map(|route| {
            let charge = by_name.get(route.name.as_str()).copied();
            Priced { charge: charge.unwrap_or(default), open: route.auth == Auth::None }
        });
        Ok(Self { prices: priced.collect() })
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Some(priced) = self.prices.get(request.route as usize) else {
            return Verdict::next();
        };
        let pays = match request.credential {
            Some(Credential::Valid(standing)) => standing.mode == Mode::Live,
            // On an open route there is nobody to charge. On any other an earlier policy may have said who calls.
            _ => !priced.open,
        };
        match priced.charge {
            Some(charge) if pays => Verdict::next().charge(charge),
            _ => Verdict::next(),
        }
    }
}

fn unknown_route<'a>(name: &str, pillar: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = |candidate: &&str| strsim::jaro_winkler(name, candidate) > 0.8;
    let score = |candidate: &&str| (strsim::jaro_winkler(name, candidate) * 1e6) as u32;
    match names.clone().filter(near).max_by_key(score) {
        Some(best) => {
            format!("The pillar `{pillar}` has no route `{name}`; did you mean `{best}`?")
        }
        None => {
            let all: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let all = all.join(", ");
            format!("The pillar `{pillar}` has no route `{name}`; its routes are {all}.")
        }
    }
}

portico_sdk::export!(Gas);

#[cfg(test)]
mod tests;
