//! Sends one letter: signs it, and hands it to the client for webhooks, which policies have no part in.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::store::Letter;
use super::{Failed, Outcome, Webhook, Webhooks, address};
use crate::clock::Millis;
use crate::outbound::{Answer, Call, Error, Outbound, Roots, Spent, Unreached};

/// The way to receivers.
pub(super) struct Sender {
    control: Handle,
    /// Begun with the first message: it reads the system's root certificates.
    outbound: Mutex<Option<(Roots, Outbound)>>,
}

impl Sender {
    pub(super) fn on(control: Handle) -> Self {
        Self { control, outbound: Mutex::default() }
    }

    /// The client, with the root certificates of now.
    async fn client(&self, desk: &Webhooks) -> Option<Outbound> {
        let mut begun = self.outbound.lock().await;
        let roots = desk.now().roots.clone();
        if let Some((_, outbound)) = begun.as_ref().filter(|(had, _)| *had == roots) {
            return Some(outbound.clone());
        }
        let (earlier, control) = (begun.as_ref().map(|(_, outbound)| outbound.clone()), self.control.clone());
        let with = roots.clone();
        let start = move || match earlier {
            Some(earlier) => earlier.trusting(with.pem()),
            None => Outbound::start(control, with.pem()),
        };
        match tokio::task::spawn_blocking(start).await.ok()? {
            Ok(outbound) => {
                *begun = Some((roots, outbound.clone()));
                Some(outbound)
            }
            Err(error) => {
                tracing::error!("webhooks are told nothing: {error}");
                None
            }
        }
    }

    /// Sends a letter; what came of it, and for how long the receiver wants to be left alone. None where there was no turn for it: that
    /// is no attempt.
    pub(super) async fn send(
        &self,
        desk: &Webhooks,
        to: &Webhook,
        letter: &Letter,
        at: Millis,
    ) -> Option<(Outcome, Option<Duration>)> {
        let unsent = |why| Some((Outcome::Failed(why), None));
        let Ok(grant) = address::grant(&to.url, &desk.now().settings) else {
            return unsent(Failed::AddressNotAllowed);
        };
        let (id, body) = (letter.event.id.to_string(), &letter.event.body);
        let signatures = match desk.signatures(to, &id, at, body) {
            Ok(signatures) => signatures,
            Err(error) => {
                tracing::error!(webhook = %to.id, "a message cannot be signed: {error}");
                return unsent(Failed::NotSent);
            }
        };
        let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let fields = vec![
            field("content-type", "application/json"),
            field("user-agent", concat!("Portico/", env!("CARGO_PKG_VERSION"))),
            field("webhook-id", &id),
            field("webhook-timestamp", &at.seconds().to_string()),
            field("webhook-signature", &signatures),
        ];
        let call = Call {
            method: "POST".to_owned(),
            url: to.url.clone(),
            fields,
            body: body.clone().into_bytes(),
            timeout: Duration::ZERO,
        };
        let Some(outbound) = self.client(desk).await else { return unsent(Failed::NotSent) };
        match outbound.tell(to.org, &[grant], &mut Spent::default(), call).await {
            Ok(answer) => Some((Outcome::Status(answer.status), asked(&answer))),
            Err(Error::Unreachable(Unreached::Busy)) => None,
            Err(error) => unsent(error.into()),
        }
    }
}

/// `Retry-After` in seconds, where the receiver is busy (RFC 9110, section 10.2.3).
fn asked(answer: &Answer) -> Option<Duration> {
    let field = answer.fields.iter().find(|(name, _)| name == "retry-after" && matches!(answer.status, 429 | 503));
    let seconds = std::str::from_utf8(&field?.1).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
