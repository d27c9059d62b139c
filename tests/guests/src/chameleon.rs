//! Both chameleons: what they keep, and how they answer.

use std::cell::RefCell;

use portico_sdk::{Action, After, AfterAction, Diagnostic, Edit, Plan, Reply, Request, Response, Slot, Verdict, log};
use serde_json::Value;

use crate::echo;
use crate::script::{Answer, EchoTo, Script};

thread_local! {
    static SLOTS: RefCell<Vec<Option<Place>>> = const { RefCell::new(Vec::new()) };
}

struct Place {
    script: Script,
    routes: Vec<String>,
}

/// Keeps the script of a slot.
///
/// # Errors
/// What the script asks to be said, or why it cannot be read.
pub fn configure(number: u32, slot: Slot, config: &str) -> Result<Plan, Vec<Diagnostic>> {
    let script = Script::read(config)?;
    let plan = script.plan()?;
    let routes = slot.routes.into_iter().map(|route| route.name).collect();
    let number = number as usize;
    SLOTS.with_borrow_mut(|slots| {
        if slots.len() <= number {
            slots.resize_with(number + 1, || None);
        }
        slots[number] = Some(Place { script, routes });
    });
    Ok(plan)
}

/// Answers as the slot's script says.
pub fn on_request(request: &Request) -> Verdict {
    at(request.slot, |place| {
        let route = place.routes.get(request.route as usize);
        let route = route.map(String::as_str).unwrap_or_default();
        let answer = place.script.answer(request.field(0).next(), route);
        say(answer);
        let mut verdict = answer.verdict();
        if let Some(to) = answer.echo {
            let seen = echo::request(request).to_string();
            match to {
                EchoTo::Respond => verdict.action = Action::Respond(Reply::json(200, seen)),
                EchoTo::Log => log::info(&seen),
                EchoTo::Edit(field) => verdict.request_edits.push(Edit::set(field, seen)),
                EchoTo::ResponseEdit(field) => verdict.response_edits.push(Edit::set(field, seen)),
            }
        }
        verdict
    })
}

/// Answers as the slot's script says.
pub fn on_response(response: &Response) -> After {
    at(response.slot, |place| {
        let answer = &place.script.response;
        say(answer);
        let mut after = answer.after();
        if let Some(to) = answer.echo {
            let seen: Value = echo::response(response);
            let seen = seen.to_string();
            match to {
                EchoTo::Respond => after.action = AfterAction::Respond(Reply::json(200, seen)),
                EchoTo::Log => log::info(&seen),
                EchoTo::Edit(field) | EchoTo::ResponseEdit(field) => {
                    after.edits.push(Edit::set(field, seen));
                }
            }
        }
        after
    })
}

fn say(answer: &Answer) {
    for line in &answer.log {
        log::info(line);
    }
    #[cfg(target_family = "wasm")]
    for &(counter, by) in &answer.count {
        portico_sdk::bindings::policy::portico::policy::metrics::count(counter, by);
    }
}

fn at<T>(number: u32, answer: impl FnOnce(&Place) -> T) -> T {
    SLOTS.with_borrow(|slots| {
        let place = slots.get(number as usize).and_then(Option::as_ref);
        answer(place.expect("the gateway configures a slot before it asks about it"))
    })
}
